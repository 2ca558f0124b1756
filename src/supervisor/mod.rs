//! The pure state machine that takes every decision about workers: starting, pacing, readiness,
//! watchdogs, rollouts, rollback, scaling, draining, stopping.
//!
//! It is told what happens ([`Event`]) and says what to do ([`Action`]). It reads no clock, draws no random
//! number, logs nothing, and knows neither pids nor fds; so every run can be replayed, and the shell
//! around it has no opinion of its own. See [`Supervisor`] for the order of calls.
//!
//! The life of a worker:
//!
//! ```text
//!            READY=1, newline, seen to accept, or stayed for bake_time
//!  Starting ------------------------------> Ready
//!     |  \                                 /  |
//!     |   \ start_timeout       watchdog, /   |
//!     |    \  retired     retired, own wish   |
//!     |     v                 v               |
//!     |    Draining -------> Killed           |
//!     |     |      deadline    |              |
//!     v     v                  v              v
//!   Ending: the main process is gone, the rest of its process group is asked to end, then killed
//!     |
//!   gone
//! ```
//!
//! A worker that cannot be killed is let go: it is known until it ends, and nothing waits for it (`let_go`).
//!
//! A worker that is retired before its program was executed is killed at once. One that speaks on its channel is told to
//! drain there, gets its signal at the deadline of that, and is killed later still. The event × state table is
//! in `docs/architecture.md`, written by `tests/exhaustive.rs`.
//!
//! One planner (`planner`) compares what each slot runs with what it is to run and takes the next steps,
//! start-first, within the limits of the policy. Reload, crash, scale, rollback and removal are only
//! changes of what slots are to run.

mod action;
mod backoff;
mod channel;
mod context;
mod event;
mod extend;
mod fate;
mod invariants;
mod let_go;
mod lost;
mod machine;
mod pause;
mod planner;
mod pool;
mod requests;
mod rollout;
mod slot;
mod start;
mod status;
mod stop;
#[cfg(test)]
mod tests;
mod wanted;
mod worker;

pub use action::{
    Action, ManagerState, Note, Outcome, Place, Retirement, RolloutFailure, StopEffect, WorkerFailure,
};
pub use event::{Event, ExitStatus, ReadyBy, Request, Scope, StartFailure};
pub use machine::Supervisor;
pub use pause::{CountedTime, TimeLost};
pub use requests::PREPARE_TIMEOUT;
pub use status::{Phase, PoolStatus, RolloutStatus, SlotStatus, Status, WorkerState, WorkerStatus};

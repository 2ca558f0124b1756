//! The supervisor inside your own program: for a program that *is* the supervisor of its workers.
//!
//! It runs on a thread of its own, and is used from any thread, with or without a runtime. Nothing that is the whole process's is
//! touched: signals stay yours, and so do other children, the log, standard output and the environment. The page
//! `docs/embedding.md` has more.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use handover::embed::{self, Builder, Listener, Pool, Settings};
//!
//! fn main() -> ExitCode {
//!     // First of all: this program is started again to become each worker.
//!     if let Some(code) = embed::helper_main() {
//!         return code;
//!     }
//!     let settings = Settings::new("myapp")
//!         .listener(Listener::new("http", "tcp://127.0.0.1:8080"))
//!         .pool(Pool::new("web", ["/usr/bin/myapp-worker"]).workers(4).listener("http"));
//!     let supervisor = match Builder::from_settings(&settings).start_blocking() {
//!         Ok(supervisor) => supervisor,
//!         Err(error) => {
//!             eprintln!("{error}");
//!             return ExitCode::FAILURE;
//!         }
//!     };
//!     // … the rest of your program …
//!     embed::block_on(supervisor.stop()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
//! }
//! ```
//!
//! [`Builder`] is what it begins with, [`Supervisor`] the handle. All that it can do goes through the same queue as the requests of
//! clients on the control socket: the program is one more client, and not a second way in.

#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Page;

mod builder;
mod error;
mod handle;
mod output;
mod settings;
mod talk;
mod thread;
mod wait;

pub use builder::{Builder, Configuration};
pub use error::{Error, Failed, StartError};
pub use handle::{Done, Events, Supervisor};
pub use output::OutputLine;
pub use settings::{Listener, Pool, Settings, Value};
pub use talk::{Messages, Target};
pub use wait::block_on;

#[doc(inline)]
pub use crate::control::{NotSent, Sent};
#[doc(inline)]
pub use crate::daemon::{Extra, FromWorker as Message, NotAnswered, Spawning, TooLate};
#[doc(inline)]
pub use crate::id::{PoolName, SlotIndex, WorkerId};
#[doc(inline)]
pub use crate::observe::Stream;
#[doc(inline)]
pub use crate::os::spawn::helper_main;
#[doc(inline)]
pub use crate::wire::Payload;

/// What happens, as values: what `handover events --json` shows (`docs/control.md`).
///
/// ```no_run
/// use handover::embed::event::What;
///
/// # async fn f(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
/// let mut events = supervisor.events().await?;
/// while let Some(event) = events.next().await {
///     match event.what {
///         What::WorkerStarted(who) => println!("worker {} has pid {:?}", who.worker, who.pid),
///         What::WorkerEnded { who, end } => println!("worker {} ended: {:?}", who.worker, end.exit_code),
///         What::Lost { .. } => println!("this program was too slow for some"),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
pub mod event {
    #[doc(inline)]
    pub use crate::control::answer::Verdict;
    #[doc(inline)]
    pub use crate::control::event::{
        Asked, At, Command, Drifted, End, Event, Identity, Of, Retirement, StopEffect, What, Who,
    };
}

/// What there is, as values: what `handover status --json` shows (`docs/control.md`).
///
/// ```no_run
/// use handover::embed::status::WorkerState;
///
/// # async fn f(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
/// let status = supervisor.status().await?;
/// let workers = status.pools.iter().flat_map(|pool| &pool.slots).flat_map(|slot| &slot.workers);
/// println!("{} are ready", workers.filter(|worker| worker.state == WorkerState::Ready).count());
/// # Ok(()) }
/// ```
pub mod status {
    #[doc(inline)]
    pub use crate::control::document::{
        Channel, Counters, Daemon, FailedRollout, Failure, Generation, Listener, Moment, Place, Pool,
        Program, Reading, Rollout, Slot, SlotFailure, StatusDocument, Worker, WorkerState,
    };
}

/// What a reload would do, as values: what `handover reload --dry-run --json` shows (`docs/control.md`).
///
/// ```no_run
/// use handover::embed::plan::PoolAction;
///
/// # async fn f(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
/// let plan = supervisor.plan().await?;
/// let rolled = plan.pools.iter().filter(|pool| pool.action == PoolAction::Roll);
/// println!("{} pools would be rolled", rolled.count());
/// # Ok(()) }
/// ```
pub mod plan {
    #[doc(inline)]
    pub use crate::control::plan::{
        KeyPlan, ListenerAction, ListenerPlan, Plan, PoolAction, PoolPlan, PoolReason, ProgramPlan,
    };
}

//! All that the machine can ask of the shell.
//!
//! Actions are orders. The shell carries them out in the order given and has no opinion on them; each
//! one that says so is answered by an event.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{ExitStatus, Scope, StartFailure};
use super::pause::TimeLost;
use crate::config::model::Signal;
use crate::id::{Generation, ListenerName, PoolName, RequestId, SlotIndex, WorkerId};
use crate::time::Timeout;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub enum Action {
    /// Start a worker. Answered by `Spawned` or `SpawnFailed`; `Exited` may come first.
    Spawn {
        /// Its number from now on.
        worker: WorkerId,
        /// Its place.
        at: Place,
        /// Only the very program that the generation recorded; fail with `program_changed` if that is gone.
        exact: bool,
    },
    /// Tell the worker on its channel to drain. Its signal comes later, if it does not end by then.
    Drain {
        /// Which.
        worker: WorkerId,
        /// Why, for the worker's own log.
        why: Retirement,
        /// How long it has until its signal.
        patience: Timeout,
    },
    /// Ask the worker on its channel whether it is there. Answered by `Answered`, if it is.
    Ping {
        /// Which.
        worker: WorkerId,
    },
    /// Send a signal to the worker's main process.
    Signal {
        /// Which.
        worker: WorkerId,
        /// What.
        signal: Signal,
    },
    /// Send `SIGKILL` to the worker's whole process group. Answered by `KillFailed` where that is not possible.
    Kill {
        /// Which.
        worker: WorkerId,
    },
    /// The main process has ended: send a signal to the rest of its group and wait until that is empty.
    /// Answered by `GroupEnded`.
    EndGroup {
        /// Which.
        worker: WorkerId,
        /// What.
        signal: Signal,
    },
    /// Make the next generation. Answered by `Prepared` or `PrepareRefused`, unless another `Prepare` comes
    /// first: then the answer to the earlier one is no longer wanted.
    Prepare {
        /// Its number.
        generation: Generation,
        /// What it is to cover.
        scope: Scope,
    },
    /// What was begun for `Prepare` takes too long: it is given up, and `PrepareRefused` says what took so long.
    GiveUpPreparing,
    /// A generation is now the one to build on.
    Commit {
        /// Which.
        generation: Generation,
    },
    /// No worker and no plan needs this generation any more: its listeners and its record may go.
    Forget {
        /// Which.
        generation: Generation,
    },
    /// Answer a request; each is answered exactly once.
    Answer {
        /// Which.
        request: RequestId,
        /// With what.
        outcome: Outcome,
    },
    /// Tell the service manager how we are.
    Tell(ManagerState),
    /// Tell the service manager that we make progress and need so much time from now.
    ExtendTimeout {
        /// At most this long until the next sign of progress.
        by: Duration,
    },
    /// Nothing to do: a decision that people and tests may want to know of.
    Note(Note),
    /// All workers are gone: end the daemon.
    Exit {
        /// Because of a failure (exit code 1), or as asked (0); the reason for a person.
        failure: Option<String>,
    },
}

/// Which slot of which pool, in which generation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The pool.
    pub pool: PoolName,
    /// The slot.
    pub slot: SlotIndex,
    /// The generation.
    pub generation: Generation,
}

/// What a service manager wants to know (`sd_notify(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManagerState {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`, with a fresh `MONOTONIC_USEC=`
    Reloading,
    /// `STOPPING=1`
    Stopping,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Outcome {
    /// It was done.
    Done {
        /// The generation that it made, for a rollout.
        generation: Option<Generation>,
    },
    /// A pool has as many slots as was wanted, and all of them serve.
    Scaled {
        /// Which.
        pool: PoolName,
        /// Slots before.
        from: u32,
        /// Slots since.
        to: u32,
    },
    /// The rollout failed or was cancelled; the old generation serves.
    RolledBack {
        /// The generation that was thrown away.
        generation: Generation,
        /// Why.
        reason: RolloutFailure,
        /// Slots that still run the thrown-away generation, because the old program is gone.
        kept: Vec<Place>,
    },
    /// The request cannot be granted; nothing was changed.
    Refused {
        /// For a person.
        reason: String,
    },
    /// It was begun and not finished.
    Failed {
        /// For a person.
        reason: String,
    },
}

/// Why a rollout is rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum RolloutFailure {
    /// A new worker failed.
    Worker {
        /// Which.
        worker: WorkerId,
        /// Where.
        place: Place,
        /// How.
        failure: WorkerFailure,
    },
    /// It was not done in time.
    Deadline {
        /// The pool that was not done.
        pool: PoolName,
        /// What it waited for, for a person.
        waiting_for: String,
    },
    /// Somebody cancelled it.
    Cancelled,
}

/// How a worker failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "failure")]
pub enum WorkerFailure {
    /// It could not be started.
    Start(StartFailure),
    /// It ended before it was ready.
    EndedBeforeReady {
        /// How.
        status: ExitStatus,
    },
    /// It was not ready in time.
    StartTimeout {
        /// `start_timeout`
        after: Duration,
    },
    /// It ended, unasked, after it was ready.
    Died {
        /// How.
        status: ExitStatus,
        /// How long it had been ready.
        ready_for: Duration,
    },
    /// It did not feed its watchdog, or said that it is to be treated so.
    Watchdog {
        /// `watchdog`; `None`: it said so (`WATCHDOG=trigger`).
        after: Option<Duration>,
    },
    /// It did not answer a ping in time.
    Unresponsive {
        /// `ping_timeout`
        after: Duration,
    },
    /// Its channel was lost. It may still serve, and is replaced.
    ChannelLost,
    /// It asked to be replaced (`STOPPING=1`, or on its channel) before it had been ready for `stable_after`. On its
    /// channel, it may still serve.
    AskedTooEarly {
        /// How long it had been ready; `None`: it was not.
        ready_for: Option<Duration>,
        /// `stable_after`
        stable_after: Duration,
    },
}

/// A decision worth knowing of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "note")]
pub enum Note {
    /// Nobody ran for a while, and all deadlines have moved by that.
    TimeLost(TimeLost),
    /// A signal asked the daemon to stop.
    StopSignal {
        /// What comes of it.
        effect: StopEffect,
    },
    /// A worker cannot be ended; nothing waits for it any more. Its process lives on.
    WorkerLetGo {
        /// Which.
        worker: WorkerId,
        /// Its place.
        place: Place,
        /// Why; for a person.
        reason: String,
    },
    /// A worker is able to serve.
    WorkerReady {
        /// Which.
        worker: WorkerId,
        /// Its place.
        place: Place,
        /// The time since its start.
        after: Duration,
    },
    /// A worker has been starting for a while, and something is still missing.
    WorkerNotReady {
        /// Which.
        worker: WorkerId,
        /// Its place.
        place: Place,
        /// The time since its start.
        after: Duration,
    },
    /// A worker is asked to end.
    Retiring {
        /// Which.
        worker: WorkerId,
        /// Its place.
        place: Place,
        /// Why.
        why: Retirement,
    },
    /// A worker wishes to be replaced, and serves until it is.
    ReplacementWished {
        /// Which.
        worker: WorkerId,
        /// Its place.
        place: Place,
        /// In its own words; may be empty.
        reason: String,
    },
    /// The next worker of this one's slot starts when nothing is left of it (`max_surge = 0`).
    SuccessorWaits {
        /// Which ends.
        worker: WorkerId,
        /// Its place.
        place: Place,
    },
    /// A worker failed; its slot is filled again after `restart_in`.
    WorkerFailed {
        /// Which.
        worker: WorkerId,
        /// Its place.
        place: Place,
        /// How.
        failure: WorkerFailure,
        /// The wait before the next start in that slot.
        restart_in: Duration,
        /// It has failed so often that the slot waits as long as it may.
        crash_loop: bool,
    },
    /// A generation is made because workers may have a socket that one of them ended for all.
    PoolsRolled {
        /// The pools that have such workers.
        pools: BTreeSet<PoolName>,
        /// The listeners that it was.
        listeners: BTreeSet<ListenerName>,
    },
    /// A rollout begins.
    RolloutStarted {
        /// To which generation.
        generation: Generation,
    },
    /// All canaries have stayed ready; old workers are now replaced.
    CanaryProven {
        /// Of which generation.
        generation: Generation,
    },
    /// A rollout failed; what it moved goes back.
    RollingBack {
        /// From which generation.
        generation: Generation,
        /// Why.
        reason: RolloutFailure,
    },
    /// A rollout ended well.
    RolloutDone {
        /// With which generation.
        generation: Generation,
    },
    /// A rollback ended.
    RolledBack {
        /// From which generation.
        generation: Generation,
        /// Slots that still run it.
        kept: Vec<Place>,
    },
}

/// What comes of a `SIGTERM` or `SIGINT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopEffect {
    /// It is the first: workers have their time to end.
    Graceful,
    /// It came too soon after the first to be meant as a second one: nothing.
    Ignored,
    /// Workers are killed now.
    Now,
}

/// Why a worker is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retirement {
    /// Its successor took over.
    Replaced,
    /// Its successor is to start when it is gone (`max_surge = 0`).
    MakeRoom,
    /// Its generation is thrown away.
    RolledBack,
    /// Its slot or its pool is no longer wanted.
    Removed,
    /// It was not ready in time.
    StartTimeout,
    /// It did not feed its watchdog, or answer a ping.
    Watchdog,
    /// It said so itself.
    OwnWish,
    /// The daemon stops.
    DaemonStops,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}, slot {}, generation {}", self.pool, self.slot, self.generation)
    }
}

impl fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(failure) => failure.fmt(f),
            Self::EndedBeforeReady { status } => write!(f, "{status} before it was ready"),
            Self::StartTimeout { after } => write!(f, "not ready after {after:?} (start_timeout)"),
            Self::Died { status, ready_for } if ready_for.is_zero() => {
                write!(f, "{status} right after its start")
            }
            Self::Died { status, ready_for } => write!(f, "{status} after it was ready for {ready_for:.1?}"),
            Self::Watchdog { after: Some(after) } => write!(f, "no WATCHDOG=1 for {after:?} (watchdog)"),
            Self::Watchdog { after: None } => f.write_str("it triggered its own watchdog (WATCHDOG=trigger)"),
            Self::Unresponsive { after } => write!(f, "no answer to a ping for {after:?} (ping_timeout)"),
            Self::ChannelLost => f.write_str("channel lost"),
            Self::AskedTooEarly { ready_for: Some(ready_for), stable_after } if ready_for.is_zero() => {
                write!(f, "asked to be replaced as soon as it was ready (stable_after is {stable_after:?})")
            }
            Self::AskedTooEarly { ready_for: Some(ready_for), stable_after } => write!(
                f,
                "asked to be replaced after it was ready for {ready_for:.1?} (stable_after is {stable_after:?})"
            ),
            Self::AskedTooEarly { ready_for: None, .. } => {
                f.write_str("asked to be replaced before it was ready")
            }
        }
    }
}

impl fmt::Display for RolloutFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker { worker, place, failure } => write!(f, "worker {worker} ({place}) {failure}"),
            Self::Deadline { waiting_for, .. } => {
                write!(f, "the rollout's deadline passed while it waited for {waiting_for}")
            }
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl fmt::Display for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "its successor took over",
            Self::MakeRoom => "to make room for its successor",
            Self::RolledBack => "its generation is thrown away",
            Self::Removed => "its slot is no longer wanted",
            Self::StartTimeout => "not ready in time",
            Self::Watchdog => "watchdog",
            Self::OwnWish => "its own wish",
            Self::DaemonStops => "the daemon stops",
        })
    }
}

//! What happens, as it is told: to readers of `GET /v1/events`, in the `progress` lines of long work, and in the log.
//!
//! Pure types and their JSON. Everything that changes what `status` shows is one [`What`]. Types and members are an
//! interface like the status document: they are added, and none is removed, renamed or given another meaning while
//! [`VERSION`] stays. `docs/control.md` has the table; a test compares it with this file. Messages are for people and
//! may change; they stand in `event/message.rs`.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::answer::Verdict;
use super::document::{Failure, Place};
use crate::stamp;
pub use crate::supervisor::{Retirement, StopEffect};
use crate::wire::Payload;

mod message;
mod parts;
#[cfg(test)]
mod tests;

use parts::seconds;
pub use parts::{Asked, At, Command, Drifted, End, Identity, Of, Who};

/// The version of the stream.
pub const VERSION: u32 = 1;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// `type`, and the members of that type.
    #[serde(flatten)]
    pub what: What,
    /// Counted up from 1 by each daemon. What is no event itself (`hello`, `lost`) has the number of the last one.
    pub number: u64,
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// What, for a person; may change.
    pub message: String,
}

/// What happened. The names are the `type` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// The stream begins. The first line, always.
    Hello {
        /// [`VERSION`]
        version: u32,
        /// Whose events these are.
        daemon: Identity,
    },
    /// This reader was too slow, and missed events; the last of them has the number of this line.
    Lost {
        /// How many.
        count: u64,
    },
    /// A process was made for a worker.
    WorkerStarted(Who),
    /// It executes the worker's program.
    WorkerExecuted(Who),
    /// It is able to serve.
    WorkerReady {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// The time since its start.
        #[serde(rename = "after_seconds", with = "seconds")]
        after: Duration,
    },
    /// It has been starting for three seconds, and something is still missing. For each start at most once.
    WorkerNotReady {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// The time since its start.
        #[serde(rename = "after_seconds", with = "seconds")]
        after: Duration,
        /// What is missing, and what is known of that; for a person.
        waiting_for: String,
        /// What may help.
        hint: String,
    },
    /// It sent another `STATUS=`.
    WorkerStatus {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// One printable line; empty: none any more.
        status: String,
    },
    /// It sent a message to handover.
    WorkerMessage {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// What it said, as it said it; left out for clients that may only look.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "super::data::optional")]
        data: Option<Payload>,
    },
    /// It wishes to be replaced, and serves until it is.
    WorkerWorn {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// In its own words, one printable line; may be empty.
        reason: String,
    },
    /// It is asked to end.
    WorkerDraining {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// Why.
        why: Retirement,
    },
    /// Its process group was sent `SIGKILL`.
    WorkerKilled(Who),
    /// The next worker of its slot starts when nothing is left of it (`max_surge = 0`).
    SuccessorWaits(Who),
    /// It cannot be ended, and nothing waits for it any more; its process lives on.
    WorkerLetGo {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// Why; for a person.
        reason: String,
    },
    /// It failed, and its slot is paced for that.
    WorkerFailed {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// How.
        failure: Failure,
        /// The slot starts no worker of this generation before.
        #[serde(rename = "restart_in_seconds", with = "seconds")]
        restart_in: Duration,
        /// The slot has failed so often that it waits as long as it may.
        crash_loop: bool,
    },
    /// Its main process ended.
    WorkerEnded {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// How.
        #[serde(flatten)]
        end: End,
    },
    /// Its main process ended, and another part of this process took its exit status, so that nobody can say how. Only where
    /// handover is a part of another program.
    WorkerStatusLost {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// What may be the cause; for a person.
        reason: String,
    },
    /// Nothing is left of it, its process group included. For each `worker_started` once.
    WorkerGone(Who),
    /// A generation is made because workers may have a socket that one of them ended for all.
    PoolsRolled {
        /// The pools that have such workers.
        pools: Vec<String>,
        /// The listeners that it was.
        listeners: Vec<String>,
    },
    /// A rollout begins.
    RolloutStarted(Of),
    /// All canaries have stayed ready; old workers are now replaced.
    CanaryProven(Of),
    /// The rollout failed; what it moved goes back.
    RollingBack {
        /// From which generation.
        generation: u64,
        /// Why.
        failure: Failure,
    },
    /// The rollout ended well.
    RolloutDone(Of),
    /// The rollback ended.
    RolledBack {
        /// From which generation.
        generation: u64,
        /// Slots that still run it.
        kept: Vec<Place>,
    },
    /// Somebody asked for something: a client or a signal.
    RequestReceived {
        /// The number of the request.
        request: u64,
        /// For what, and how.
        #[serde(flatten)]
        asked: Asked,
    },
    /// A request has its answer.
    RequestAnswered {
        /// The number of the request.
        request: u64,
        /// In one word.
        result: Verdict,
        /// The generation that was made, or thrown away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
        /// Why not; for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The next generation could not be made, and nothing was changed.
    ReloadRefused {
        /// For a person; one or more lines.
        reason: String,
    },
    /// The generation is the one to build on.
    GenerationCommitted(Of),
    /// No worker and no plan needs the generation any more.
    GenerationForgotten(Of),
    /// A socket was made for a listener.
    ListenerBound {
        /// Which.
        #[serde(flatten)]
        at: At,
        /// In place of one that a worker had ended for all.
        afresh: bool,
    },
    /// An inherited socket was taken over for a listener.
    ListenerAdopted(At),
    /// Its socket was closed.
    ListenerClosed {
        /// Which.
        #[serde(flatten)]
        at: At,
        /// Connections that still waited, and were reset.
        reset: u32,
    },
    /// A worker has changed the socket that all share.
    ListenerDrifted(Drifted),
    /// Some of that was set right, or is no longer so.
    ListenerMended(Drifted),
    /// A signal asked the daemon to stop.
    StopSignal {
        /// What comes of it.
        effect: StopEffect,
    },
    /// Nobody ran for a while (a frozen cgroup, a stopped machine); all deadlines have moved by that.
    TimeLost {
        /// By how much.
        #[serde(rename = "by_seconds", with = "seconds")]
        by: Duration,
        /// The losses in a row, this one included. Told for the first, second, fourth, eighth and so on.
        in_a_row: u32,
    },
    /// The service manager was told `READY=1`: at the end of the start, and of each reload.
    DaemonReady,
    /// It was told `RELOADING=1`.
    DaemonReloading,
    /// It was told `STOPPING=1`.
    DaemonStopping,
    /// A promise can no longer be kept: the daemon ends with 1, to be started afresh.
    DaemonBroken {
        /// For a person.
        reason: String,
    },
    /// The daemon ends now. The last line.
    DaemonEnded {
        /// The failure that ended it; for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
}

impl Event {
    /// Something that happens now.
    pub fn new(number: u64, time: SystemTime, what: What) -> Self {
        let message = what.to_string();
        Self { what, number, time: stamp::rfc3339(time), message }
    }

    /// The same without output of workers: what a client sees that may only look.
    #[must_use]
    pub fn without_output(mut self) -> Self {
        match &mut self.what {
            What::WorkerFailed { failure, .. } | What::RollingBack { failure, .. } => failure.output = None,
            What::WorkerMessage { data, .. } => {
                *data = None;
                // It quotes the message.
                self.message = self.what.to_string();
            }
            _ => {}
        }
        self
    }
}

impl What {
    /// There is output of workers in it, or what one said to handover.
    pub fn has_output(&self) -> bool {
        matches!(self, Self::WorkerFailed { .. } | Self::RollingBack { .. } | Self::WorkerMessage { .. })
    }

    /// It shows how long work goes on: all of workers (but not what they say) and of rollouts.
    pub fn is_progress(&self) -> bool {
        match self {
            Self::Lost { .. }
            | Self::WorkerStarted(_)
            | Self::WorkerExecuted(_)
            | Self::WorkerReady { .. }
            | Self::WorkerNotReady { .. }
            | Self::WorkerWorn { .. }
            | Self::WorkerDraining { .. }
            | Self::WorkerKilled(_)
            | Self::SuccessorWaits(_)
            | Self::WorkerLetGo { .. }
            | Self::WorkerFailed { .. }
            | Self::WorkerEnded { .. }
            | Self::WorkerGone(_)
            | Self::RolloutStarted(_)
            | Self::CanaryProven(_)
            | Self::RollingBack { .. }
            | Self::RolloutDone(_)
            | Self::RolledBack { .. }
            | Self::StopSignal { .. }
            | Self::TimeLost { .. } => true,
            Self::Hello { .. }
            | Self::WorkerStatus { .. }
            | Self::WorkerStatusLost { .. }
            | Self::WorkerMessage { .. }
            | Self::RequestReceived { .. }
            | Self::RequestAnswered { .. }
            | Self::PoolsRolled { .. }
            | Self::ReloadRefused { .. }
            | Self::GenerationCommitted(_)
            | Self::GenerationForgotten(_)
            | Self::ListenerBound { .. }
            | Self::ListenerAdopted(_)
            | Self::ListenerClosed { .. }
            | Self::ListenerDrifted(_)
            | Self::ListenerMended(_)
            | Self::DaemonReady
            | Self::DaemonReloading
            | Self::DaemonStopping
            | Self::DaemonBroken { .. }
            | Self::DaemonEnded { .. } => false,
        }
    }

    /// The worker that it is about.
    pub fn who(&self) -> Option<&Who> {
        match self {
            Self::WorkerStarted(who)
            | Self::WorkerExecuted(who)
            | Self::WorkerReady { who, .. }
            | Self::WorkerNotReady { who, .. }
            | Self::WorkerStatus { who, .. }
            | Self::WorkerMessage { who, .. }
            | Self::WorkerWorn { who, .. }
            | Self::WorkerDraining { who, .. }
            | Self::WorkerKilled(who)
            | Self::SuccessorWaits(who)
            | Self::WorkerLetGo { who, .. }
            | Self::WorkerFailed { who, .. }
            | Self::WorkerEnded { who, .. }
            | Self::WorkerStatusLost { who, .. }
            | Self::WorkerGone(who) => Some(who),
            _ => None,
        }
    }
}

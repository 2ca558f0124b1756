//! All that can happen to the machine.
//!
//! Events are facts of the past. An event for a worker that is unknown or gone changes nothing, so the
//! shell may report late and twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pause::TimeLost;
use crate::config::model::{Policy, Ready};
use crate::id::{ListenerName, PoolName, RequestId, WorkerId};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Time passed. Harmless at any moment; wanted when [`next_deadline`](super::Supervisor::next_deadline) is reached.
    DeadlinePassed,
    /// Nobody ran for a while; the time with which the machine is called does not include it.
    TimeLost(TimeLost),
    /// The worker's program was executed.
    Spawned {
        /// Which.
        worker: WorkerId,
    },
    /// The worker could not be started; nothing is left of it.
    SpawnFailed {
        /// Which.
        worker: WorkerId,
        /// Why.
        failure: StartFailure,
    },
    /// The worker said that it is ready, or was seen to be. In another way than the one it is to use, that changes nothing.
    Ready {
        /// Which.
        worker: WorkerId,
        /// In which way.
        by: ReadyBy,
    },
    /// Whether the worker waits on its listeners cannot be seen (`ready = "accept"`): its `bake_time` decides.
    ReadinessUnknown {
        /// Which.
        worker: WorkerId,
    },
    /// The worker fed its watchdog.
    Heartbeat {
        /// Which.
        worker: WorkerId,
    },
    /// The worker asked to be treated as one whose watchdog ran out (`WATCHDOG=trigger`).
    WatchdogTriggered {
        /// Which.
        worker: WorkerId,
    },
    /// The worker said that it is ending (`STOPPING=1`).
    Stopping {
        /// Which.
        worker: WorkerId,
    },
    /// The worker said hello on its channel. Once; what it can do there does not change.
    ChannelOpened {
        /// Which.
        worker: WorkerId,
        /// It ends when it is told to drain, without a signal.
        drains: bool,
        /// It answers pings.
        answers: bool,
    },
    /// The worker answered a ping.
    Answered {
        /// Which.
        worker: WorkerId,
    },
    /// The worker closed its end of a channel on which it had said hello. Its own end may follow.
    ChannelClosed {
        /// Which.
        worker: WorkerId,
    },
    /// The channel of a worker that had said hello is gone, by what came through it.
    ChannelLost {
        /// Which.
        worker: WorkerId,
    },
    /// The worker wishes to be replaced, and serves until it is.
    ReplacementWished {
        /// Which.
        worker: WorkerId,
        /// In its own words; may be empty.
        reason: String,
    },
    /// The worker asked for more time for what it is doing (`EXTEND_TIMEOUT_USEC=`).
    MoreTime {
        /// Which.
        worker: WorkerId,
        /// Counted from now.
        by: Duration,
    },
    /// What the worker says was not listened to for a while, because somebody else floods the socket to which it reports: what
    /// it has to say in time counts that much later.
    NotHeard {
        /// Which.
        worker: WorkerId,
        /// For how long, in addition to what was said before.
        by: Duration,
    },
    /// The worker's main process ended. What it said before has been reported before.
    Exited {
        /// Which.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
    },
    /// Nothing is left of the worker's process group; its pid is free again.
    GroupEnded {
        /// Which.
        worker: WorkerId,
    },
    /// The worker's process group could not be sent `SIGKILL`: an answer to [`Action::Kill`](super::Action::Kill).
    KillFailed {
        /// Which.
        worker: WorkerId,
        /// Which process, and why not; for a person.
        reason: String,
    },
    /// The next generation is made: the answer to [`Action::Prepare`](super::Action::Prepare).
    Prepared {
        /// The pools that move to it, and how each is to be treated there; `None` where the pool is
        /// removed. A pool that is not named stays as it is.
        pools: BTreeMap<PoolName, Option<Policy>>,
    },
    /// The next generation could not be made, and nothing was changed: the other answer.
    PrepareRefused {
        /// For a person.
        reason: String,
    },
    /// A worker ended a listener's socket for all, and another socket is in its place. Workers that were started
    /// before may have the dead one; whoever is started from now on gets the new one, whatever its generation.
    ListenerReplaced {
        /// Which.
        listener: ListenerName,
        /// The pools that use it.
        pools: BTreeSet<PoolName>,
    },
    /// Somebody asked for something.
    Requested {
        /// The number under which it is answered.
        request: RequestId,
        /// What.
        what: Request,
    },
    /// The daemon was sent `SIGTERM` or `SIGINT`. A second one ends the waiting, if it comes late enough to be meant so.
    StopSignal {
        /// The number under which it is answered.
        request: RequestId,
    },
    /// A promise can no longer be kept while this process lives; the daemon must end with 1 so that its
    /// owner starts it afresh.
    Broken {
        /// For a person.
        reason: String,
    },
}

/// How a worker shows that it is ready; which of them counts is in its pool's policy (`ready`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyBy {
    /// It said so: `READY=1` to its notify socket, or `ready` on its channel.
    Notify,
    /// It wrote a newline to its ready fd.
    Fd,
    /// It was seen to wait on its listeners.
    Accept,
}

impl ReadyBy {
    /// Does it make a worker ready that is to be ready in that way?
    pub(super) fn counts(self, ready: Ready) -> bool {
        match ready {
            Ready::Notify => self == Self::Notify,
            Ready::Fd(_) => self == Self::Fd,
            Ready::Accept => self == Self::Accept,
            // Time makes it ready.
            Ready::Exec => false,
        }
    }
}

/// What can be asked of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make the next generation and move the pools to it.
    Roll(Scope),
    /// Roll the running rollout back, or give up making its generation. With a pool named: only if that pool
    /// takes part in a rollout.
    Cancel {
        /// `None`: whichever runs.
        pool: Option<PoolName>,
    },
    /// Set the number of slots of a pool, or go back to the configured one.
    Scale {
        /// Which pool.
        pool: PoolName,
        /// `None`: as configured.
        workers: Option<u32>,
    },
    /// Change the number of slots of a pool, from what is wanted at that moment.
    ScaleBy {
        /// Which pool.
        pool: PoolName,
        /// How many more, or fewer.
        by: i32,
    },
    /// End all workers, then the daemon.
    Stop {
        /// At once, without waiting for what they have in hand.
        now: bool,
    },
}

/// What a rollout is to cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Read the configuration again (`reload`), or keep it (`restart`).
    pub reread: bool,
    /// Only these pools; `None`: all.
    pub pools: Option<BTreeSet<PoolName>>,
    /// Only pools whose configuration changed.
    pub changed_only: bool,
}

impl Scope {
    /// Everything that either of two scopes covers: what requests that are joined get.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            reread: self.reread || other.reread,
            pools: match (self.pools, other.pools) {
                (Some(a), Some(b)) => Some(a.into_iter().chain(b).collect()),
                _ => None,
            },
            changed_only: self.changed_only && other.changed_only,
        }
    }
}

/// Between what went wrong and what may help.
const HINT: &str = "\nhint: ";

/// Why a worker could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// The step that failed: `fork`, `user`, `limits`, `directory`, `exec`, …
    pub stage: String,
    /// What went wrong there, errno included, for a person. A second line `hint: …` says what may help.
    pub reason: String,
    /// The program that the generation recorded is no longer there, and an exact start was asked for.
    pub program_changed: bool,
}

impl StartFailure {
    /// What may help, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.reason.split_once(HINT).map(|(_, hint)| hint)
    }
}

/// Without the hint.
impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.split_once(HINT).map_or(self.reason.as_str(), |(reason, _)| reason);
        write!(f, "start failed at stage {}: {reason}", self.stage)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// It left a core file.
        core: bool,
    },
    /// Nobody can say (it is not our child).
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal { signal, core } => {
                write!(f, "killed by signal {signal}{}", if *core { " (core dumped)" } else { "" })
            }
            Self::Unknown => write!(f, "ended, status unknown"),
        }
    }
}

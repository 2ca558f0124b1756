//! The status document: what `GET /v1/status` answers and `handover status --json` prints.
//!
//! Pure types. The document is an interface: members are added, but none is removed, renamed or given another meaning
//! while [`VERSION`] stays. `null` means "there is none"; a member that is left out means the same. Times are given
//! twice, as a date for people and as seconds ago for arithmetic.

use serde::{Deserialize, Serialize};

use crate::supervisor::{self, ExitStatus, RolloutFailure, WorkerFailure};

pub use crate::supervisor::WorkerState;

/// The version of the document.
pub const VERSION: u32 = 1;

/// The whole daemon at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusDocument {
    /// [`VERSION`]
    pub version: u32,
    /// The daemon itself.
    pub daemon: Daemon,
    /// Every pool, by name.
    pub pools: Vec<Pool>,
    /// Every listener, by name.
    pub listeners: Vec<Listener>,
    /// The rollout that runs.
    pub rollout: Option<Rollout>,
    /// The last rollout that failed; kept until one succeeds.
    pub last_failed_rollout: Option<FailedRollout>,
    /// Generations that a worker or a plan still needs, oldest first.
    pub generations: Vec<Generation>,
    /// What is being read for a reload that was asked for, or still reads though nobody waits any more.
    #[serde(default)]
    pub readings: Vec<Reading>,
    /// Numbers that should stay small.
    pub counters: Counters,
}

/// Something that is being read for a reload, on a thread of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reading {
    /// What it does at the moment, for a person: `reading /etc/handover/myapp.toml`.
    pub what: String,
    /// For how long the whole reading has been running.
    pub seconds: f64,
    /// It took too long or was cancelled, and has not ended.
    pub given_up: bool,
}

/// The daemon itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Daemon {
    /// `name` of the configuration.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Of the program.
    pub version: String,
    /// When it started.
    pub started: Moment,
    /// `starting`, `running` or `stopping`.
    pub phase: String,
    /// It told the service manager that it is ready.
    pub ready: bool,
    /// Nothing needs attention.
    pub fine: bool,
    /// It runs, and what is configured serves: what `handover status --check` tells by its exit code.
    #[serde(default)]
    pub healthy: bool,
    /// One line: is it fine, and if not, why.
    pub summary: String,
    /// The configuration file; `null` where it was started with flags.
    pub config: Option<String>,
    /// The number of the last event that this document includes.
    #[serde(default)]
    pub last_event: u64,
}

/// A moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Moment {
    /// RFC 3339 in UTC.
    pub time: String,
    /// How long ago that was.
    pub seconds_ago: f64,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pool {
    /// `[pool.NAME]`
    pub name: String,
    /// The generation that it builds on; `null` while its first rollout makes it.
    pub generation: Option<u64>,
    /// Slots wanted.
    pub wanted: u32,
    /// Their number was set by `scale`, not by the configuration.
    pub scaled: bool,
    /// Ready workers.
    pub ready: u32,
    /// Workers that were asked to end.
    pub draining: u32,
    /// Listeners of which its workers may have a socket that was ended for all; it is rolled for that.
    #[serde(default)]
    pub lost_listeners: Vec<String>,
    /// Every slot that is wanted or still has a worker.
    pub slots: Vec<Slot>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slot {
    /// Its number in the pool, from 0.
    pub slot: u32,
    /// Its workers, oldest first.
    pub workers: Vec<Worker>,
    /// Workers that failed here since the daemon started.
    pub restarts: u64,
    /// When the next start may be, where it waits for that.
    pub restart_in_seconds: Option<f64>,
    /// It fails again and again.
    pub crash_loop: bool,
    /// It was left on a thrown-away generation, because the old program is gone.
    pub kept: bool,
    /// The last worker that failed here.
    pub last_failure: Option<SlotFailure>,
    /// The names of the fds that are stored for its next worker, oldest first.
    #[serde(default)]
    pub stored_fds: Vec<String>,
    /// Fds that its workers wanted to store, and that were not.
    #[serde(default)]
    pub stored_fds_refused: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its number, never used again.
    pub worker: u64,
    /// Its main process; `null` while it is being started.
    pub pid: Option<u32>,
    /// Its generation.
    pub generation: u64,
    /// What it is doing.
    pub state: WorkerState,
    /// It wishes to be replaced or has lost its channel, and serves until its successor does.
    #[serde(default)]
    pub worn: bool,
    /// When it was started.
    pub started: Moment,
    /// When it became ready.
    pub ready: Option<Moment>,
    /// When it was asked to end.
    pub asked: Option<Moment>,
    /// When it will be dealt with if nothing happens: killed, counted as failed, or as ready by its `bake_time`.
    pub deadline_in_seconds: Option<f64>,
    /// The `STATUS=` that it sent last.
    pub status: Option<String>,
    /// What it has not done yet, where it has been starting for three seconds; for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What may help then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How its readiness is decided, where that cannot be seen (`ready = "accept"`); for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<String>,
    /// What is known of its channel; left out where it said no hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// Processes of its group that are left, where its main process has ended.
    pub leftovers: u32,
    /// Its last lines of output, oldest first. Left out for clients that may only look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<String>>,
}

/// The channel of a worker that speaks on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Channel {
    /// What the worker says that it is; `null` where it does not say.
    pub client: Option<String>,
    /// Messages that it has not taken yet.
    pub waiting: u64,
    /// Messages that it did not get, because too many waited already.
    pub refused: u64,
}

impl Channel {
    /// It does not take its messages.
    pub fn is_stuck(&self) -> bool {
        // A burst is none yet, and what was refused long ago is over.
        const MANY: u64 = 64;
        self.waiting >= MANY || (self.waiting > 0 && self.refused > 0)
    }
}

/// How the last worker that failed in a slot did so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotFailure {
    /// When.
    pub at: Moment,
    /// How.
    pub failure: Failure,
}

/// A failure of a worker or of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `start`, `ended_before_ready`, `start_timeout`, `died`, `watchdog`, `unresponsive`, `channel_lost`, `asked_too_early`; of a rollout also `deadline`, `cancelled`.
    pub kind: String,
    /// For a person.
    pub text: String,
    /// The worker that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u64>,
    /// Its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The stage of its start that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The status that it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What may help, where that can be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Its last lines of output, oldest first. Left out for clients that may only look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<String>>,
}

/// A slot of a pool in a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The pool.
    pub pool: Option<String>,
    /// The slot.
    pub slot: Option<u32>,
    /// The generation.
    pub generation: Option<u64>,
}

/// One listener: one socket that handover holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listener {
    /// `[listener.NAME]`; several sockets may bear one name.
    pub name: String,
    /// Where it listens, as in the configuration.
    pub address: String,
    /// `stream`, `datagram` or `seqpacket`.
    pub kind: String,
    /// `inherited` or `bound`.
    pub origin: String,
    /// Connections that wait to be accepted; `null` where the kernel does not say.
    pub queue: Option<u32>,
    /// How many may wait.
    pub queue_max: Option<u32>,
    /// What workers have changed on the shared socket; for a person. Empty: nothing.
    pub drift: Vec<String>,
    /// Some of that does harm and could not be mended.
    pub harmed: bool,
    /// The socket's inode, as `ss -e` shows it.
    pub inode: Option<u64>,
    /// The pools that name it.
    pub pools: Vec<String>,
}

/// A rollout under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rollout {
    /// To which generation.
    pub generation: u64,
    /// Since when.
    pub started: Moment,
    /// Slots that run the wanted generation.
    pub moved: u32,
    /// Slots that take part.
    pub slots: u32,
    /// It failed and goes back.
    pub rolling_back: Option<Failure>,
    /// What it waits for; for a person. Empty: nothing.
    pub waiting_for: String,
    /// For how long.
    pub waiting_seconds: f64,
}

/// The last rollout that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedRollout {
    /// The generation that was thrown away.
    pub generation: u64,
    /// Why.
    pub failure: Failure,
    /// Slots that still run it.
    pub kept: Vec<Place>,
}

/// One generation that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// The configuration file that it was made from.
    pub config: Option<String>,
    /// What its pools execute.
    pub programs: Vec<Program>,
}

/// What a pool executes in a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Program {
    /// The pool.
    pub pool: String,
    /// The file, resolved when the generation was made.
    pub path: String,
    /// The file is gone or another one by now, so a start takes what is there.
    pub changed: bool,
}

/// Numbers that should stay small; since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Counters {
    /// Notifications that were dropped, because their sender was not to be believed.
    pub notifications_dropped: u64,
    /// Log lines that were dropped, because neither standard error nor the journal took them in time.
    pub log_lines_dropped: u64,
    /// Lines that were not written at all, because standard error is closed, or because a worker ended while nobody
    /// read standard error and too much waited already.
    pub lines_lost: u64,
    /// Texts that the service manager did not take.
    pub manager_texts_lost: u64,
    /// Processes that left their worker's process group and outlived it. They are the service manager's to end.
    pub orphans: u32,
    /// Output pipes of workers that are gone, held open by processes that left their process groups. Of more than 64
    /// the oldest is closed.
    pub stray_outputs: u32,
    /// Seconds in which nobody ran while a deadline was armed: all deadlines were moved by that.
    pub seconds_lost: u64,
    /// Connections to the control socket that were refused, because there were too many.
    pub control_refused: u64,
    /// Messages that workers did not get, because they do not take theirs, or take none of that kind.
    pub messages_refused: u64,
    /// Processes that hang now because what a worker or a stranger sent cannot be closed. From 8 on no fds are taken any more.
    pub closers_stuck: u64,
    /// Fds that nobody has closed yet, for that reason.
    pub fds_to_close: u64,
}

impl StatusDocument {
    /// The same without output of workers: what a client sees that may only look.
    #[must_use]
    pub fn without_output(mut self) -> Self {
        for slot in self.pools.iter_mut().flat_map(|pool| &mut pool.slots) {
            slot.workers.iter_mut().for_each(|worker| worker.output = None);
            slot.last_failure.iter_mut().for_each(|last| last.failure.output = None);
        }
        self.last_failed_rollout.iter_mut().for_each(|last| last.failure.output = None);
        self.rollout.iter_mut().filter_map(|now| now.rolling_back.as_mut()).for_each(|f| f.output = None);
        self
    }
}

impl Failure {
    /// Of a worker. `output`: its last lines.
    pub(crate) fn of_worker(worker: u64, failure: &WorkerFailure, output: Vec<String>) -> Self {
        let mut said = Self {
            text: format!("{failure}"),
            worker: Some(worker),
            output: Some(output),
            ..Self::default()
        };
        let kind = match failure {
            WorkerFailure::Start(failure) => {
                said.stage = Some(failure.stage.clone());
                "start"
            }
            WorkerFailure::EndedBeforeReady { status } => {
                said.ended(*status);
                "ended_before_ready"
            }
            WorkerFailure::StartTimeout { .. } => "start_timeout",
            WorkerFailure::Died { status, .. } => {
                said.ended(*status);
                "died"
            }
            WorkerFailure::Watchdog { .. } => "watchdog",
            WorkerFailure::Unresponsive { .. } => "unresponsive",
            WorkerFailure::ChannelLost => "channel_lost",
            WorkerFailure::AskedTooEarly { .. } => "asked_too_early",
        };
        said.kind = kind.to_owned();
        said
    }

    /// Of a rollout. `output`: the last lines of the worker that failed, where one did.
    pub(crate) fn of_rollout(reason: &RolloutFailure, output: Vec<String>) -> Self {
        let plain = |kind: &str| Self { kind: kind.to_owned(), text: reason.to_string(), ..Self::default() };
        match reason {
            RolloutFailure::Worker { worker, place, failure } => Self {
                text: reason.to_string(),
                place: Some(Place::of(place)),
                ..Self::of_worker(worker.0, failure, output)
            },
            RolloutFailure::Deadline { pool, .. } => Self {
                place: Some(Place { pool: Some(pool.to_string()), ..Place::default() }),
                ..plain("deadline")
            },
            RolloutFailure::Cancelled => plain("cancelled"),
        }
    }

    fn ended(&mut self, status: ExitStatus) {
        match status {
            ExitStatus::Code(code) => self.exit_code = Some(code),
            ExitStatus::Signal { signal, .. } => self.signal = Some(signal),
            ExitStatus::Unknown => {}
        }
    }
}

impl Place {
    pub(crate) fn of(place: &supervisor::Place) -> Self {
        Self {
            pool: Some(place.pool.to_string()),
            slot: Some(place.slot.0),
            generation: Some(place.generation.0),
        }
    }
}

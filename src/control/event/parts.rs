//! What events are made of, and how that comes from what the machine says.

use serde::{Deserialize, Serialize};

use super::What;
use crate::control::answer::Verdict;
use crate::control::document::Place;
use crate::supervisor::{self, ExitStatus, Outcome, Scope};

/// A daemon, told from every other one, an earlier one of its name included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// `name` of the configuration.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Of the program.
    pub version: String,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its number, never used again.
    pub worker: u64,
    /// Its place.
    pub place: Place,
    /// Its main process; left out where none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// How a main process ended; both left out: nobody can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The status that it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It left a core file.
    pub core: bool,
}

/// A generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// Its number.
    pub generation: u64,
}

/// What is asked for; members as in the body of that request, left out where they do not belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// For what.
    pub what: Command,
    /// Only these pools; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
    /// Only pools whose configuration changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// The pool to scale, or whose rollout to cancel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The number of slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// So many slots more, or fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<i32>,
    /// Back to the number in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
    /// Without waiting for what workers have in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<bool>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Command {
    /// Read the configuration again and roll.
    Reload,
    /// Roll with the same configuration.
    Restart,
    /// Roll the running rollout back.
    Cancel,
    /// Set the number of slots of a pool.
    Scale,
    /// End the daemon.
    Stop,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// `[listener.NAME]`
    pub listener: String,
    /// Where it listens.
    pub address: String,
}

/// What workers have done to a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drifted {
    /// Which.
    #[serde(flatten)]
    pub at: At,
    /// All that the status document shows from now on; for a person.
    pub drift: Vec<String>,
    /// Some of that does harm and could not be mended.
    pub harmed: bool,
}

impl What {
    /// A request, as the machine gets it.
    pub(crate) fn requested(request: u64, what: &supervisor::Request) -> Self {
        let plain = |what| Asked {
            what,
            pools: None,
            changed: None,
            pool: None,
            workers: None,
            by: None,
            reset: None,
            now: None,
        };
        let asked = match what {
            supervisor::Request::Roll(Scope { reread, pools, changed_only }) => Asked {
                pools: pools.as_ref().map(|pools| pools.iter().map(ToString::to_string).collect()),
                changed: reread.then_some(*changed_only),
                ..plain(if *reread { Command::Reload } else { Command::Restart })
            },
            supervisor::Request::Cancel { pool } => {
                Asked { pool: pool.as_ref().map(ToString::to_string), ..plain(Command::Cancel) }
            }
            supervisor::Request::Scale { pool, workers } => Asked {
                pool: Some(pool.to_string()),
                workers: *workers,
                reset: Some(workers.is_none()),
                ..plain(Command::Scale)
            },
            supervisor::Request::ScaleBy { pool, by } => {
                Asked { pool: Some(pool.to_string()), by: Some(*by), ..plain(Command::Scale) }
            }
            supervisor::Request::Stop { now } => Asked { now: Some(*now), ..plain(Command::Stop) },
        };
        Self::RequestReceived { request, asked }
    }

    /// The machine's answer to a request.
    pub(crate) fn answered(request: u64, outcome: &Outcome) -> Self {
        let (result, generation, reason) = match outcome {
            Outcome::Done { generation } => (Verdict::Done, *generation, None),
            Outcome::Scaled { .. } => (Verdict::Done, None, None),
            Outcome::RolledBack { generation, reason, .. } => {
                (Verdict::RolledBack, Some(*generation), Some(reason.to_string()))
            }
            Outcome::Refused { reason } => (Verdict::Refused, None, Some(reason.clone())),
            Outcome::Failed { reason } => (Verdict::Failed, None, Some(reason.clone())),
        };
        Self::RequestAnswered { request, result, generation: generation.map(|number| number.0), reason }
    }
}

impl End {
    pub(crate) fn of(status: ExitStatus) -> Self {
        let end = Self { exit_code: None, signal: None, core: false };
        match status {
            ExitStatus::Code(code) => Self { exit_code: Some(code), ..end },
            ExitStatus::Signal { signal, core } => Self { signal: Some(signal), core, ..end },
            ExitStatus::Unknown => end,
        }
    }
}

impl From<End> for ExitStatus {
    fn from(end: End) -> Self {
        match (end.exit_code, end.signal) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal { signal, core: end.core },
            (None, None) => Self::Unknown,
        }
    }
}

/// A span of time as a number of seconds.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        span: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(span.as_secs_f64())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

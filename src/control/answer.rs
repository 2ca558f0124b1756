//! The answer to long work: lines, the last of which says how it ended.
//!
//! Pure: types and their JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::{Failure, Place};
use super::event::Event;
use super::plan::Plan;
use super::sent::Sent;
use crate::id::{Generation, PoolName};
use crate::supervisor::{self, Outcome};

/// One line of an answer to long work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// Something happened on the way. Any number of them.
    Progress(Progress),
    /// How it ended. Exactly one, and the last line.
    Result(Finish),
}

/// Something that happened on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The same that readers of events get.
    pub event: Event,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// In one word.
    pub result: Verdict,
    /// For a person; one or more lines.
    pub message: String,
    /// The time from the request to this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The generation that was made, or thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Slots that still run the thrown-away generation, because the old program is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Place>,
    /// What a reload would do: the answer to a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
    /// What became of a message to workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// How the number of slots changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// After a stop: the daemon's process ends, too. Left out where the program that it is a part of goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub process_ends: bool,
}

/// How the number of slots of a pool changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// Slots before.
    pub from: u32,
    /// Slots since.
    pub to: u32,
}

/// How it ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was done.
    Done,
    /// It was begun, and the client did not want to wait.
    Accepted,
    /// It failed or was cancelled, and the old generation serves.
    RolledBack,
    /// It was not begun: the configuration or the request is wrong, or does not fit the moment.
    Refused,
    /// It was begun and not finished.
    Failed,
}

/// How things stand when a request has its answer.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The daemon's name.
    pub name: String,
    /// The generation that the daemon builds on.
    pub serving: Generation,
    /// Ready workers of all pools.
    pub ready: u32,
    /// Wanted ones.
    pub wanted: u32,
    /// It is ending.
    pub stopping: bool,
    /// Its process is its own, and ends with it.
    pub own_process: bool,
    /// Since the request came.
    pub took: Duration,
}

impl Finish {
    /// An end with nothing more to say.
    pub fn new(result: Verdict, message: impl Into<String>) -> Self {
        Self {
            result,
            message: message.into(),
            seconds: None,
            generation: None,
            failure: None,
            kept: Vec::new(),
            plan: None,
            sent: None,
            scaled: None,
            process_ends: false,
        }
    }

    /// What is answered at once to a client that does not wait.
    pub fn accepted() -> Self {
        Self::new(Verdict::Accepted, "accepted")
    }

    /// The machine's answer, for the client. `output`: the last lines of the worker that failed, where one did.
    pub fn from_outcome(outcome: &Outcome, output: Vec<String>, now: &Standing) -> Self {
        Self { seconds: Some(now.took.as_secs_f64()), ..Self::of(outcome, output, now) }
    }

    fn of(outcome: &Outcome, output: Vec<String>, now: &Standing) -> Self {
        match outcome {
            Outcome::Done { generation } => Self {
                generation: generation.map(|number| number.0),
                process_ends: now.stopping && now.own_process,
                ..Self::new(Verdict::Done, done(*generation, now))
            },
            Outcome::Scaled { pool, from, to } => Self {
                scaled: Some(Scaled { from: *from, to: *to }),
                ..Self::new(Verdict::Done, scaled(pool, *from, *to, now))
            },
            Outcome::RolledBack { generation, reason, kept } => Self {
                generation: Some(generation.0),
                failure: Some(Failure::of_rollout(reason, output)),
                kept: kept.iter().map(Place::of).collect(),
                ..Self::new(Verdict::RolledBack, rolled_back(reason, kept, now))
            },
            Outcome::Refused { reason } => Self::new(Verdict::Refused, reason),
            Outcome::Failed { reason } => Self::new(Verdict::Failed, reason),
        }
    }
}

fn done(generation: Option<Generation>, now: &Standing) -> String {
    let Standing { name, ready, wanted, took, .. } = now;
    let took = rough(*took);
    let done = match generation {
        _ if now.stopping => return format!("{name}: stopped after {took}"),
        Some(number) => format!("generation {number} serves"),
        None => "done".to_owned(),
    };
    format!("{name}: {done}, {ready} of {wanted} workers ready, after {took}")
}

fn scaled(pool: &PoolName, from: u32, to: u32, now: &Standing) -> String {
    let Standing { name, ready, wanted, took, .. } = now;
    let took = rough(*took);
    format!("{name}: pool {pool} scaled from {from} to {to}, {ready} of {wanted} workers ready, after {took}")
}

fn rolled_back(reason: &supervisor::RolloutFailure, kept: &[supervisor::Place], now: &Standing) -> String {
    let Standing { name, serving, ready, wanted, took, .. } = now;
    let took = rough(*took);
    if kept.is_empty() {
        return format!(
            "{name}: rolled back after {took}: {reason}; generation {serving} serves, {ready} of {wanted} workers ready"
        );
    }
    let slots: Vec<_> = kept
        .iter()
        .map(|place| {
            format!("slot {} of pool {} runs generation {}", place.slot, place.pool, place.generation)
        })
        .collect();
    format!("{name}: rolled back in part after {took}: {reason}; {}", slots.join(", "))
}

/// A time as a person reads it: three digits are enough.
fn rough(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{:.1}s", time.as_secs_f64()),
        seconds => format!("{}min {}s", seconds / 60, seconds % 60),
    }
}

/// What comes back instead of an answer, with a status of 400 or above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For a person.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::super::protocol::ROUTES;
    use super::*;
    use crate::id::{PoolName, SlotIndex, WorkerId};
    use crate::supervisor::{RolloutFailure, WorkerFailure};

    #[test]
    fn the_documented_answer_is_one() {
        let page = include_str!("../../docs/control.md");
        let example = page.split("```jsonl\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let lines: Vec<Line> = example.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(matches!(
            lines[..],
            [Line::Progress(_), Line::Result(Finish { result: Verdict::RolledBack, .. })]
        ));
        for route in ROUTES {
            assert!(page.contains(&format!("`{} {}`", route.method, route.path)), "{}", route.path);
        }
    }

    #[test]
    fn an_outcome_says_what_serves_and_why() {
        let now = Standing {
            name: "myapp".into(),
            serving: Generation(4),
            ready: 2,
            wanted: 2,
            stopping: false,
            own_process: true,
            took: Duration::from_millis(5120),
        };
        let done = Outcome::Done { generation: Some(Generation(4)) };
        let done = Finish::from_outcome(&done, Vec::new(), &now);
        assert_eq!((done.result, done.generation, done.seconds), (Verdict::Done, Some(4), Some(5.12)));
        assert_eq!(done.message, "myapp: generation 4 serves, 2 of 2 workers ready, after 5.1s");
        let stopping = Standing { stopping: true, took: Duration::from_secs(61), ..now.clone() };
        let stopped = Finish::from_outcome(&Outcome::Done { generation: None }, Vec::new(), &stopping);
        assert_eq!(stopped.message, "myapp: stopped after 1min 1s");
        let place =
            supervisor::Place { pool: PoolName::new("web"), slot: SlotIndex(0), generation: Generation(5) };
        let reason = RolloutFailure::Worker {
            worker: WorkerId(9),
            place: place.clone(),
            failure: WorkerFailure::StartTimeout { after: Duration::from_secs(30) },
        };
        let outcome = Outcome::RolledBack { generation: Generation(5), reason, kept: vec![place] };
        let finish = Finish::from_outcome(&outcome, vec!["boom".into()], &now);
        assert!(finish.message.starts_with("myapp: rolled back in part after 5.1s: worker 9"));
        assert!(finish.message.ends_with("; slot 0 of pool web runs generation 5"), "{}", finish.message);
        assert_eq!(finish.failure.as_ref().unwrap().output.as_deref(), Some(["boom".to_owned()].as_slice()));
        let line = serde_json::to_string(&Line::Result(finish.clone())).unwrap();
        assert!(line.starts_with(r#"{"type":"result","result":"rolled_back","#), "{line}");
        assert_eq!(serde_json::from_str::<Line>(&line).unwrap(), Line::Result(finish));
    }
}

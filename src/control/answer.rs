//! The answer to long work: lines, the last of which says how it ended.
//!
//! Pure: types and their JSON.

use serde::{Deserialize, Serialize};

use super::document::{Failure, Place};
use super::event::Event;
use super::plan::Plan;
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

impl Finish {
    /// An end with nothing more to say.
    pub fn new(result: Verdict, message: impl Into<String>) -> Self {
        Self {
            result,
            message: message.into(),
            generation: None,
            failure: None,
            kept: Vec::new(),
            plan: None,
        }
    }

    /// What is answered at once to a client that does not wait.
    pub fn accepted() -> Self {
        Self::new(Verdict::Accepted, "accepted")
    }

    /// The machine's answer, for the client. `output`: the last lines of the worker that failed, where one did.
    pub fn from_outcome(outcome: &Outcome, output: Vec<String>) -> Self {
        match outcome {
            Outcome::Done { generation } => {
                let message = generation
                    .map_or_else(|| "done".to_owned(), |number| format!("done: generation {number} serves"));
                Self { generation: generation.map(|number| number.0), ..Self::new(Verdict::Done, message) }
            }
            Outcome::RolledBack { generation, reason, kept } => Self {
                generation: Some(generation.0),
                failure: Some(Failure::of_rollout(reason, output)),
                kept: kept.iter().map(Place::from).collect(),
                ..Self::new(Verdict::RolledBack, rolled_back(*generation, reason, kept))
            },
            Outcome::Refused { reason } => Self::new(Verdict::Refused, reason),
            Outcome::Failed { reason } => Self::new(Verdict::Failed, reason),
        }
    }
}

fn rolled_back(
    generation: crate::id::Generation,
    reason: &supervisor::RolloutFailure,
    kept: &[supervisor::Place],
) -> String {
    if kept.is_empty() {
        return format!("rolled back: generation {generation} is thrown away: {reason}");
    }
    let slots: Vec<_> = kept
        .iter()
        .map(|place| {
            format!("slot {} of pool {} runs generation {}", place.slot, place.pool, place.generation)
        })
        .collect();
    format!("rolled back in part: {}: {reason}", slots.join(", "))
}

/// What comes back instead of an answer, with a status of 400 or above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For a person.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::protocol::ROUTES;
    use super::*;
    use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
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
        let done = Finish::from_outcome(&Outcome::Done { generation: Some(Generation(4)) }, Vec::new());
        assert_eq!((done.result, done.generation), (Verdict::Done, Some(4)));
        let place =
            supervisor::Place { pool: PoolName::new("web"), slot: SlotIndex(0), generation: Generation(5) };
        let reason = RolloutFailure::Worker {
            worker: WorkerId(9),
            place: place.clone(),
            failure: WorkerFailure::StartTimeout { after: Duration::from_secs(30) },
        };
        let outcome = Outcome::RolledBack { generation: Generation(5), reason, kept: vec![place] };
        let finish = Finish::from_outcome(&outcome, vec!["boom".into()]);
        assert!(
            finish.message.starts_with("rolled back in part: slot 0 of pool web runs generation 5: worker 9")
        );
        assert_eq!(finish.failure.as_ref().unwrap().output.as_deref(), Some(["boom".to_owned()].as_slice()));
        let line = serde_json::to_string(&Line::Result(finish.clone())).unwrap();
        assert!(line.starts_with(r#"{"type":"result","result":"rolled_back","#), "{line}");
        assert_eq!(serde_json::from_str::<Line>(&line).unwrap(), Line::Result(finish));
    }
}

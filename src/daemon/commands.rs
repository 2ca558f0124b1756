//! Requests of clients: into events, and the machine's answers back to whoever waits.

use super::Daemon;
use super::narrate;
use crate::control::{Call, Finish, Level, Progress, Request};
use crate::id::{Generation, RequestId};
use crate::os::clock;
use crate::stamp;
use crate::supervisor::{Action, Event, Note, Outcome, Place, RolloutFailure};

/// The rollout that failed last, as far as the machine cannot remember it.
#[derive(Clone, Debug)]
pub(super) struct FailedRollout {
    generation: Generation,
    /// The last words of the worker that it failed for.
    lines: Vec<String>,
    hint: Option<&'static str>,
}

impl Daemon {
    pub(super) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    pub(super) fn take_call(&mut self, call: Call) {
        if let Some(scope) = call.request.dry_run() {
            return self.begin_plan(scope, call.reply);
        }
        let Some(what) = call.request.for_machine() else {
            // Who asks sees what is so now, whenever a worker did it.
            self.drift_is_possible = true;
            self.look_for_drift();
            let document = self.document();
            return call.reply.status(&match call.level {
                Level::Admin => document,
                Level::Read => document.without_output(),
            });
        };
        let request = self.next_request();
        if call.request.waits() {
            if matches!(call.request, Request::Stop(_)) {
                self.deliveries.push(call.reply.delivery());
            }
            self.waiting.insert(request, call.reply);
        } else {
            call.reply.finish(Finish::accepted());
        }
        self.inbox.push_back(Event::Requested { request, what });
    }

    pub(super) fn answer(&mut self, request: RequestId, outcome: Outcome) {
        let Some(reply) = self.waiting.remove(&request) else { return };
        let failed = match &outcome {
            Outcome::RolledBack { generation, .. } => {
                self.failed_rollout.as_ref().filter(|failed| failed.generation == *generation)
            }
            _ => None,
        };
        let lines = failed.map(|failed| failed.lines.clone()).unwrap_or_default();
        let mut finish = Finish::from_outcome(&outcome, lines);
        if let Some(hint) = failed.and_then(|failed| failed.hint) {
            finish.message.push_str(&format!("\nhint: {hint}"));
        }
        reply.finish(finish);
    }

    /// Remembers the last words of the worker that a rollout failed for.
    pub(super) fn remember_failure(&mut self, generation: Generation, reason: &RolloutFailure) {
        let mut failed = FailedRollout { generation, lines: Vec::new(), hint: None };
        if let Some((worker, place, failure)) = narrate::culprit(reason) {
            let words = self.table.words(worker, place);
            failed.hint = narrate::hint(failure, &words);
            failed.lines = words.lines;
        }
        self.failed_rollout = Some(failed);
    }

    /// The last words of the worker that the last failed rollout failed for, and what may help.
    pub(super) fn last_words_of_failed(&self, generation: Generation) -> (Vec<String>, Option<&'static str>) {
        let failed = self.failed_rollout.as_ref().filter(|failed| failed.generation == generation);
        failed.map(|failed| (failed.lines.clone(), failed.hint)).unwrap_or_default()
    }

    /// Tells everybody who waits how the work goes on.
    pub(super) fn show_progress(&mut self, action: &Action) {
        let Action::Note(note) = action else { return };
        if self.waiting.is_empty() {
            return;
        }
        let progress = progress(note);
        self.waiting.retain(|_, reply| reply.progress(progress.clone()));
    }
}

fn progress(note: &Note) -> Progress {
    let (message, worker, place) = match note {
        Note::WorkerReady { worker, place, after } => {
            (format!("worker {worker} is ready after {after:.1?}"), Some(worker), Some(place))
        }
        Note::Retiring { worker, place, why } => {
            (format!("worker {worker} is asked to end: {why}"), Some(worker), Some(place))
        }
        Note::WorkerFailed { worker, place, failure, .. } => {
            (format!("worker {worker} failed: {failure}"), Some(worker), Some(place))
        }
        Note::RolloutStarted { generation } => (format!("rolling out generation {generation}"), None, None),
        Note::CanaryProven { generation } => {
            (format!("the first workers of generation {generation} have stayed ready"), None, None)
        }
        Note::RollingBack { generation, reason } => {
            (format!("rolling generation {generation} back: {reason}"), None, None)
        }
        Note::RolloutDone { generation } => (format!("generation {generation} serves"), None, None),
        Note::RolledBack { generation, .. } => {
            (format!("generation {generation} is thrown away"), None, None)
        }
    };
    Progress {
        time: stamp::rfc3339(clock::wall_time()),
        message,
        worker: worker.map(|worker| worker.0),
        place: place.map(|place: &Place| place.into()),
    }
}

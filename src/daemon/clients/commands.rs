//! Requests of clients: into events, and the machine's answers back to whoever waits.

use crate::control::{Call, Finish, Reply, Request, Standing};
use crate::daemon::Daemon;
use crate::daemon::core::projection;
use crate::daemon::reload::config_source::Source;
use crate::id::{Generation, RequestId};
use crate::supervisor::{Event, Outcome, RolloutFailure};
use crate::time::Monotonic;

/// The rollout that failed last, as far as the machine cannot remember it.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct FailedRollout {
    generation: Generation,
    /// The last words of the worker that it failed for.
    lines: Vec<String>,
    hint: Option<String>,
}

/// A client that waits for the answer to its request.
pub(in crate::daemon) struct Waiting {
    pub(in crate::daemon) reply: Reply,
    since: Monotonic,
    /// Where the configuration came from before this request brought another source, and which number that has: it is back if
    /// nothing comes of the request.
    before: Option<(u64, Source)>,
}

impl Daemon {
    pub(in crate::daemon) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    pub(in crate::daemon) fn take_call(&mut self, call: Call, before: Option<(u64, Source)>) {
        if call.reply.has_left() {
            return self.drop_call(&call.request);
        }
        if let Some(scope) = call.request.dry_run() {
            return self.begin_plan(scope, call.reply);
        }
        if call.request == Request::Events {
            return self.begin_stream(call.reply);
        }
        if let Request::Send(send) = &call.request {
            let finish = self.send(send);
            return call.reply.finish(finish);
        }
        let Some(what) = call.request.for_machine() else {
            // Who asks sees what is so now, whenever a worker did it.
            self.drift_is_possible = true;
            self.look_for_drift();
            return call.reply.status(&self.document());
        };
        let request = self.next_request();
        if call.request.waits() {
            if matches!(call.request, Request::Stop(_)) {
                self.deliveries.push(call.reply.delivery());
            }
            self.waiting.insert(request, Waiting { reply: call.reply, since: self.now(), before });
        } else {
            call.reply.finish(Finish::accepted());
        }
        self.inbox.push_back(Event::Requested { request, what });
    }

    /// Nobody waits for what has not been begun: who gave up on a daemon that was stopped has been told that it does not answer.
    fn drop_call(&mut self, request: &Request) {
        let now = self.now();
        if let Some(held_back) = self.limits.pass("request dropped", now) {
            tracing::warn!(
                request = request.route().path,
                held_back,
                "request dropped: its client left before it was begun"
            );
        }
    }

    pub(in crate::daemon) fn answer(&mut self, request: RequestId, outcome: Outcome) {
        let Some(Waiting { reply, since, before }) = self.waiting.remove(&request) else { return };
        if let Some((number, source)) = before
            && !matches!(outcome, Outcome::Done { .. })
            && number == self.source_number
        {
            self.source = source;
        }
        let failed = match &outcome {
            Outcome::RolledBack { generation, .. } => {
                self.failed_rollout.as_ref().filter(|failed| failed.generation == *generation)
            }
            _ => None,
        };
        let lines = failed.map(|failed| failed.lines.clone()).unwrap_or_default();
        let mut finish = Finish::from_outcome(&outcome, lines, &self.standing(since));
        if let Some(hint) = failed.and_then(|failed| failed.hint.as_ref()) {
            finish.message.push_str(&format!("\nhint: {hint}"));
        }
        reply.finish(finish);
    }

    fn standing(&self, since: Monotonic) -> Standing {
        let status = self.machine.status();
        Standing {
            name: self.surroundings.name.clone(),
            serving: self.committed,
            ready: status.ready(),
            wanted: status.wanted(),
            stopping: self.machine.is_stopping(),
            own_process: self.log.is_some(),
            took: self.now().since(since),
        }
    }

    /// Remembers the last words of the worker that a rollout failed for.
    pub(in crate::daemon) fn remember_failure(&mut self, generation: Generation, reason: &RolloutFailure) {
        let mut failed = FailedRollout { generation, lines: Vec::new(), hint: None };
        if let Some((worker, place, failure)) = projection::culprit(reason) {
            let words = self.table.words(worker, place);
            failed.hint = projection::hint(failure, &words);
            failed.lines = words.lines;
        }
        self.failed_rollout = Some(failed);
    }

    /// The last words of the worker that the last failed rollout failed for, and what may help.
    pub(in crate::daemon) fn last_words_of_failed(
        &self,
        generation: Generation,
    ) -> (Vec<String>, Option<String>) {
        let failed = self.failed_rollout.as_ref().filter(|failed| failed.generation == generation);
        failed.map(|failed| (failed.lines.clone(), failed.hint.clone())).unwrap_or_default()
    }
}

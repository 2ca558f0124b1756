//! Ending the daemon: all workers first, with `stop_timeout` for each; a request to stop at once ends the
//! waiting, and so does a second signal.
//!
//! A signal can come twice by accident: `timeout` and some wrappers send it to the process and to its group, a terminal to
//! both the wrapper and us. So a second one counts only if it comes late enough to be somebody's second thought. What
//! a client asks for is no signal: after `handover stop` the first signal is a first signal.

use std::time::Duration;

use super::Supervisor;
use super::action::{Action, ManagerState, Note, Outcome, Retirement, StopEffect};
use super::context::Context;
use super::let_go::kill_patience;
use super::machine::Life;
use super::pool::Pool;
use super::worker::State;
use crate::id::{RequestId, SlotIndex, WorkerId};
use crate::time::Monotonic;

/// The least time between a signal to stop and the one that ends the waiting.
const SECOND_THOUGHT: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn stop_requested(&mut self, request: RequestId, now: bool) {
        match &mut self.phase {
            Life::Ended => return self.answer(request, Outcome::Done { generation: None }),
            Life::Stopping { requests, .. } => requests.push(request),
            Life::Starting | Life::Running => self.begin_stop(vec![request], None),
        }
        if now {
            self.kill_all();
        }
    }

    /// `SIGTERM` or `SIGINT` came.
    pub(super) fn stop_signalled(&mut self, request: RequestId) {
        self.stop_requested(request, false);
        let now = self.cx.now;
        let Life::Stopping { signalled, .. } = &mut self.phase else { return };
        let effect = match *signalled {
            None => StopEffect::Graceful,
            Some(first) if now.since(first) < SECOND_THOUGHT => StopEffect::Ignored,
            Some(_) => StopEffect::Now,
        };
        signalled.get_or_insert(now);
        self.cx.note(Note::StopSignal { effect });
        if effect == StopEffect::Now {
            self.kill_all();
        }
    }

    /// Since when the daemon is stopping, if it is.
    pub(super) fn stopping_since(&self) -> Option<Monotonic> {
        match self.phase {
            Life::Stopping { since, .. } => Some(since),
            Life::Starting | Life::Running | Life::Ended => None,
        }
    }

    /// Something that only a fresh start can mend.
    pub(super) fn broken(&mut self, reason: String) {
        if !self.phase.is_stopping() {
            self.begin_stop(Vec::new(), Some(reason));
        }
    }

    pub(super) fn begin_stop(&mut self, requests: Vec<RequestId>, failure: Option<String>) {
        self.phase = Life::Stopping { requests, failure, since: self.cx.now, signalled: None };
        self.cx.ask(Action::Tell(ManagerState::Stopping));
        // The service manager's clock for a stop starts afresh: what it granted before is over.
        self.extended_until = None;
        self.fail_pending_requests();
        self.lost.clear();
        for pool in self.pools.values_mut() {
            end_workers(pool, &mut self.cx);
        }
    }

    fn fail_pending_requests(&mut self) {
        let mut pending: Vec<RequestId> =
            self.preparing.take().map(|preparing| preparing.requests).unwrap_or_default();
        if let Some(rollout) = self.rollout.take() {
            pending.extend(rollout.requests.into_iter().chain(rollout.cancels));
        }
        if let Some(queued) = self.queued.take() {
            pending.extend(queued.requests);
        }
        pending.extend(std::mem::take(&mut self.scales).into_iter().map(|scale| scale.request));
        for request in pending {
            self.answer(request, Outcome::Failed { reason: "the daemon is stopping".to_owned() });
        }
    }

    fn kill_all(&mut self) {
        for pool in self.pools.values_mut() {
            for worker in pool.slots.values_mut().flat_map(|slot| &mut slot.workers) {
                let Some(policy) = pool.policies.get(&worker.generation) else { continue };
                let give_up = self.cx.now + kill_patience(policy);
                worker.state = match worker.state {
                    State::Killed { .. } | State::Ending { killed: true, .. } | State::LetGo { .. } => {
                        continue;
                    }
                    State::Ending { .. } => State::Ending { until: Some(give_up), killed: true },
                    _ => State::Killed { why: Retirement::DaemonStops, give_up },
                };
                self.cx.ask(Action::Kill { worker: worker.id });
            }
        }
    }

    /// Ends the daemon when nothing is left.
    pub(super) fn judge_stop(&mut self) {
        if !self.only_let_go_live() {
            return;
        }
        let Life::Stopping { requests, failure, .. } = std::mem::replace(&mut self.phase, Life::Ended) else {
            return;
        };
        let (outcome, left_behind) = self.outcome_of_stop();
        for request in requests {
            self.answer(request, outcome.clone());
        }
        self.cx.ask(Action::Exit { failure: failure.or(left_behind) });
    }
}

/// Asks all workers of a pool to end, and shortens the patience with those that were asked before.
fn end_workers(pool: &mut Pool, cx: &mut Context) {
    let active: Vec<(SlotIndex, WorkerId)> =
        pool.slots.iter().flat_map(|(index, slot)| slot.active().map(|worker| (*index, worker.id))).collect();
    for (index, id) in active {
        pool.retire(index, id, Retirement::DaemonStops, cx);
    }
    for worker in pool.slots.values_mut().flat_map(|slot| &mut slot.workers) {
        let Some(policy) = pool.policies.get(&worker.generation) else { continue };
        if let State::Draining { until: at, .. } | State::Ending { until: at, killed: false } =
            &mut worker.state
            && let Some(latest) = cx.now.after(policy.stop_timeout)
        {
            *at = Some(at.map_or(latest, |at| at.min(latest)));
        }
    }
}

//! Ending the daemon: all workers first, with `stop_timeout` for each; a request to stop at once ends the
//! waiting.

use super::Supervisor;
use super::action::{Action, ManagerState, Outcome, Retirement};
use super::context::Context;
use super::machine::Phase;
use super::pool::Pool;
use super::worker::State;
use crate::id::{RequestId, SlotIndex, WorkerId};

impl Supervisor {
    pub(super) fn stop_requested(&mut self, request: RequestId, now: bool) {
        match &mut self.phase {
            Phase::Ended => return self.answer(request, Outcome::Done { generation: None }),
            Phase::Stopping { requests, .. } => requests.push(request),
            Phase::Starting | Phase::Running => self.begin_stop(vec![request], None),
        }
        if now {
            self.kill_all();
        }
    }

    /// Something that only a fresh start can mend.
    pub(super) fn broken(&mut self, reason: String) {
        if !self.phase.is_stopping() {
            self.begin_stop(Vec::new(), Some(reason));
        }
    }

    pub(super) fn begin_stop(&mut self, requests: Vec<RequestId>, failure: Option<String>) {
        self.phase = Phase::Stopping { requests, failure };
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
        let mut pending: Vec<RequestId> = self.preparing.take().unwrap_or_default();
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
                worker.state = match worker.state {
                    State::Killed { .. } | State::Ending { killed: true, .. } => continue,
                    State::Ending { .. } => State::Ending { kill_at: None, killed: true },
                    _ => State::Killed { why: Retirement::DaemonStops },
                };
                self.cx.ask(Action::Kill { worker: worker.id });
            }
        }
    }

    /// Ends the daemon when nothing is left.
    pub(super) fn judge_stop(&mut self) {
        if self.cx.living() > 0 {
            return;
        }
        let Phase::Stopping { requests, failure } = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        for request in requests {
            self.answer(request, Outcome::Done { generation: None });
        }
        self.cx.ask(Action::Exit { failure });
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
        if let State::Draining { until: at, .. } | State::Ending { kill_at: at, killed: false } =
            &mut worker.state
            && let Some(latest) = cx.now.after(policy.stop_timeout)
        {
            *at = Some(at.map_or(latest, |at| at.min(latest)));
        }
    }
}

//! What befalls a worker, and what that means for its slot and for a rollout.
//!
//! One function for each event of a worker, and one for its deadline. None of them starts anything: a slot
//! that is left without a worker is the planner's business, after all that happened is taken in.

use std::time::Duration;

use super::action::{Action, Note, Place, Retirement, RolloutFailure, WorkerFailure};
use super::backoff::FailureKind;
use super::context::Context;
use super::event::{ExitStatus, ReadyBy, StartFailure};
use super::let_go::kill_patience;
use super::pool::{Pool, settled_at};
use super::wanted::Stage;
use super::worker::{Escalation, State, Worker};
use crate::config::model::Ready;
use crate::id::{SlotIndex, WorkerId};
use crate::time::Monotonic;

impl Pool {
    pub(super) fn was_executed(&mut self, slot: SlotIndex, id: WorkerId) {
        if let Some((worker, _)) = self.worker_and_policy(slot, id) {
            worker.executed = true;
        }
    }

    pub(super) fn spawned(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        worker.executed = true;
        if policy.ready == Ready::Exec {
            self.bakes(slot, id, cx);
        }
    }

    /// Whether the worker waits on its listeners cannot be seen.
    pub(super) fn readiness_unknown(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((_, policy)) = self.worker_and_policy(slot, id) else { return };
        if policy.ready == Ready::Accept {
            self.bakes(slot, id, cx);
        }
    }

    /// The worker is ready when it has stayed for `bake_time`: at once, where that is nothing.
    fn bakes(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if worker.bake(cx.now, policy) && policy.rollout.bake_time.is_zero() {
            self.became_ready(slot, id, cx);
        }
    }

    /// The worker shows that it is ready; another way than its own counts for nothing.
    pub(super) fn shows_ready(&mut self, slot: SlotIndex, id: WorkerId, by: ReadyBy, cx: &mut Context) {
        let Some((_, policy)) = self.worker_and_policy(slot, id) else { return };
        if by.counts(policy.ready) {
            self.became_ready(slot, id, cx);
        }
    }

    pub(super) fn became_ready(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if worker.become_ready(cx.now, policy) {
            let (generation, after) = (worker.generation, cx.now.since(worker.started));
            cx.note(Note::WorkerReady { worker: id, place: self.place(slot, generation), after });
        }
    }

    pub(super) fn heartbeat(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        if let Some((worker, policy)) = self.worker_and_policy(slot, id) {
            worker.feed_watchdog(cx.now, policy);
        }
    }

    pub(super) fn more_time(
        &mut self,
        slot: SlotIndex,
        id: WorkerId,
        by: Duration,
        stopping_since: Option<Monotonic>,
        cx: &mut Context,
    ) {
        if let Some((worker, policy)) = self.worker_and_policy(slot, id) {
            worker.allow_more_time(cx.now, by, stopping_since, policy);
        }
    }

    pub(super) fn not_heard(&mut self, slot: SlotIndex, id: WorkerId, by: Duration) {
        if let Some((worker, _)) = self.worker_and_policy(slot, id) {
            worker.put_off(by);
        }
    }

    /// The worker says that it is ending. That is a request to be replaced if it has been ready for `stable_after`;
    /// earlier it is a failed start.
    pub(super) fn says_stopping(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, _)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() {
            return;
        }
        let before = worker.clone();
        self.retire(slot, id, Retirement::OwnWish, cx);
        match before.ready {
            _ if before.is_paced() => {}
            Some(_) => self.asks_to_be_replaced(slot, &before, stage, cx),
            // Its exit says more about why than its wish does, so that is told. The wait runs from now.
            None => {
                self.pace(slot, &before, FailureKind::FailedStart, cx);
            }
        }
    }

    /// A worker asked to be replaced, one way or another. Before it was stable that is a failed start.
    pub(super) fn asks_to_be_replaced(
        &mut self,
        slot: SlotIndex,
        before: &Worker,
        stage: Stage,
        cx: &mut Context,
    ) {
        let stable_after = self.policy_of(before).restart.stable_after;
        let ready_for = before.ready_for(cx.now);
        if ready_for.is_some_and(|ready_for| ready_for >= stable_after) {
            if let Some(slot) = self.slots.get_mut(&slot) {
                slot.pacing.reset(before.generation);
            }
            return;
        }
        if let Some((worker, _)) = self.worker_and_policy(slot, before.id) {
            worker.failed = true;
        }
        let failure = WorkerFailure::AskedTooEarly { ready_for, stable_after };
        self.failed(slot, before, failure, stage, cx);
    }

    /// The worker missed its watchdog, or said that it is to be treated so.
    pub(super) fn watchdog_ran_out(
        &mut self,
        slot: SlotIndex,
        id: WorkerId,
        triggered: bool,
        stage: Stage,
        cx: &mut Context,
    ) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() {
            return;
        }
        let failure = WorkerFailure::Watchdog { after: policy.watchdog.filter(|_| !triggered) };
        let worker = worker.clone();
        self.retire(slot, id, Retirement::Watchdog, cx);
        self.failed(slot, &worker, failure, stage, cx);
    }

    /// Nothing came of a start.
    pub(super) fn spawn_failed(
        &mut self,
        slot: SlotIndex,
        id: WorkerId,
        failure: StartFailure,
        stage: Stage,
        cx: &mut Context,
    ) {
        let Some(worker) = self.remove(slot, id, cx) else { return };
        if !worker.is_active() {
            return;
        }
        if failure.program_changed {
            self.keep_the_new(slot);
        } else {
            self.failed(slot, &worker, WorkerFailure::Start(failure), stage, cx);
        }
    }

    /// The worker's main process ended: what that means, and the end of the rest of its group.
    pub(super) fn exited(
        &mut self,
        slot: SlotIndex,
        id: WorkerId,
        status: ExitStatus,
        stage: Stage,
        cx: &mut Context,
    ) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if worker.has_exited() {
            return;
        }
        let (before, signal) = (worker.clone(), policy.stop_signal);
        let latest = cx.now.after(policy.stop_timeout);
        let until = match before.state {
            State::Draining { until: Some(until), next: Escalation::Kill, .. } => Some(until),
            State::Killed { .. } | State::LetGo { .. } => Some(cx.now + kill_patience(policy)),
            _ => latest,
        };
        let killed = matches!(before.state, State::Killed { .. } | State::LetGo { .. });
        worker.state = State::Ending { until, killed };
        cx.ask(Action::EndGroup { worker: id, signal });
        self.release_kept(slot);
        // Of one that was let go all has been said, and its slot has gone on without it.
        if !before.is_let_go()
            && let Some(failure) = failure_of_exit(&before, status, cx.now)
        {
            self.failed(slot, &before, failure, stage, cx);
        }
    }

    /// Nothing is left of the worker.
    pub(super) fn group_ended(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let has_exited =
            self.slots.get(&slot).and_then(|slot| slot.worker(id)).is_some_and(Worker::has_exited);
        if has_exited {
            self.remove(slot, id, cx);
        }
    }

    fn remove(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) -> Option<Worker> {
        let slot = self.slots.get_mut(&slot)?;
        let position = slot.workers.iter().position(|worker| worker.id == id)?;
        cx.forget(id);
        let worker = slot.workers.remove(position);
        slot.release_kept();
        Some(worker)
    }

    /// What a worker's failure means for its slot and for a rollout.
    pub(super) fn failed(
        &mut self,
        index: SlotIndex,
        worker: &Worker,
        failure: WorkerFailure,
        stage: Stage,
        cx: &mut Context,
    ) {
        let place = self.place(index, worker.generation);
        let wished = matches!(
            worker.state,
            State::Draining { why: Retirement::OwnWish, .. } | State::Killed { why: Retirement::OwnWish, .. }
        );
        let restart_in = if wished || worker.is_paced() {
            // Paced when it said so.
            let restart_at = self.slots.get(&index).and_then(|slot| slot.pacing.restart_at(cx.now));
            restart_at.map_or(Duration::ZERO, |at| at.since(cx.now))
        } else {
            self.pace(index, worker, self.failure_kind(worker, &failure, cx.now), cx)
        };
        let slot = self.slots.entry(index).or_default();
        // One that only lost its channel, or asked to be replaced on it, serves on.
        let serves = slot.worker(worker.id).is_some_and(Worker::is_active);
        slot.restarts += u64::from(!worker.failed);
        slot.last_failure = Some((cx.now, worker.id, failure.clone()));
        let crash_loop = slot.pacing.is_crash_loop(Some(worker.generation));
        cx.note(Note::WorkerFailed {
            worker: worker.id,
            place: place.clone(),
            failure: failure.clone(),
            restart_in,
            crash_loop,
        });
        // One that was ready and wished to go proves nothing about its successor; nor does one that still serves.
        let proves = (worker.is_active() || worker.ready.is_none()) && !serves;
        match stage {
            Stage::Canary | Stage::Rolling if worker.failed => {}
            Stage::Canary | Stage::Rolling => self.count_failure(worker, place, failure),
            Stage::Back if proves && Some(worker.generation) == self.base => self.keep_the_new(index),
            Stage::Back | Stage::Steady => {}
        }
    }

    fn failure_kind(&self, worker: &Worker, failure: &WorkerFailure, now: Monotonic) -> FailureKind {
        let stable_after = self.policy_of(worker).restart.stable_after;
        let of_its_own = matches!(failure, WorkerFailure::AskedTooEarly { .. } | WorkerFailure::ChannelLost);
        match worker.ready_for(now) {
            Some(ready_for) if ready_for >= stable_after => FailureKind::Stable,
            Some(_) if !of_its_own => FailureKind::EarlyDeath,
            _ => FailureKind::FailedStart,
        }
    }

    /// Paces a slot after a failure. Returns the wait before its next start.
    fn pace(&mut self, index: SlotIndex, worker: &Worker, kind: FailureKind, cx: &mut Context) -> Duration {
        let policy = self.policy_of(worker).restart.clone();
        let slot = self.slots.entry(index).or_default();
        slot.pacing.failed(cx.now, worker.generation, kind, &policy, &mut cx.jitter)
    }

    fn count_failure(&mut self, worker: &Worker, place: Place, failure: WorkerFailure) {
        let max_failures = self.policy_of(worker).rollout.max_failures;
        let Some(part) = &mut self.part else { return };
        if part.target != Some(worker.generation) {
            return;
        }
        part.failures += 1;
        if part.failures >= max_failures && part.verdict.is_none() {
            part.verdict = Some(RolloutFailure::Worker { worker: worker.id, place, failure });
        }
    }

    /// The old program cannot be brought back in this slot: a ready new worker stays where it is.
    pub(super) fn keep_the_new(&mut self, index: SlotIndex) {
        let base = self.base;
        let Some(slot) = self.slots.get_mut(&index) else { return };
        if slot.kept.is_none() {
            let stays = slot.foreign(base).find(|worker| worker.is_ready()).map(|worker| worker.generation);
            slot.kept = stays;
        }
    }

    /// Deals with every deadline of its workers that has been reached.
    pub(super) fn pass_deadlines(&mut self, stage: Stage, cx: &mut Context) {
        let due: Vec<(SlotIndex, WorkerId)> = self
            .slots
            .iter()
            .flat_map(|(index, slot)| slot.workers.iter().map(|worker| (*index, worker)))
            .filter(|(_, worker)| worker.next_step().is_some_and(|step| step <= cx.now))
            .map(|(index, worker)| (index, worker.id))
            .collect();
        for (slot, id) in due {
            self.pass_channel(slot, id, stage, cx);
            let worker = self.worker_and_policy(slot, id);
            if worker.is_some_and(|(worker, _)| worker.next_step().is_some_and(|step| step <= cx.now)) {
                self.pass_deadline(slot, id, stage, cx);
            }
        }
        self.settle(cx.now);
    }

    fn pass_deadline(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        match worker.state {
            State::Starting { .. } => self.pass_start(slot, id, stage, cx),
            State::Ready { watchdog_by: Some(by) } if by <= cx.now => {
                self.watchdog_ran_out(slot, id, false, stage, cx);
            }
            State::Ready { .. } => self.pass_ping(slot, id, stage, cx),
            State::Draining { next: Escalation::Signal, why, .. } => {
                let (until, signal) = (cx.now.after(policy.stop_timeout), policy.stop_signal);
                worker.state = State::Draining { until, next: Escalation::Kill, why };
                cx.ask(Action::Signal { worker: id, signal });
            }
            State::Draining { why, .. } => {
                worker.state = State::Killed { why, give_up: cx.now + kill_patience(policy) };
                cx.ask(Action::Kill { worker: id });
            }
            State::Ending { killed: false, .. } => {
                let give_up = cx.now + kill_patience(policy);
                worker.state = State::Ending { until: Some(give_up), killed: true };
                cx.ask(Action::Kill { worker: id });
            }
            State::Killed { .. } | State::Ending { .. } => self.give_up(slot, id, cx),
            State::LetGo { .. } => {}
        }
    }

    fn pass_start(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if worker.deadline().is_none_or(|deadline| deadline > cx.now) {
            worker.late_at = None;
            let (generation, after) = (worker.generation, cx.now.since(worker.started));
            cx.note(Note::WorkerNotReady { worker: id, place: self.place(slot, generation), after });
        } else if worker.bakes() {
            self.became_ready(slot, id, cx);
        } else {
            let after = policy.start_timeout.duration().unwrap_or_default();
            let worker = worker.clone();
            self.retire(slot, id, Retirement::StartTimeout, cx);
            self.failed(slot, &worker, WorkerFailure::StartTimeout { after }, stage, cx);
        }
    }

    /// Workers that have been ready for `stable_after` clear their slot's slate.
    fn settle(&mut self, now: Monotonic) {
        for slot in self.slots.values_mut() {
            if settled_at(slot, &self.policies).is_some_and(|at| at <= now)
                && let Some(generation) = slot.pacing.unsettled()
            {
                slot.pacing.reset(generation);
            }
        }
    }
}

/// An exit is a failure unless it was asked for; one that the worker asked for itself (`STOPPING=1`) must
/// have the status 0, and the worker must have been ready.
fn failure_of_exit(worker: &Worker, status: ExitStatus, now: Monotonic) -> Option<WorkerFailure> {
    let asked_by_us = match worker.state {
        State::Starting { .. } | State::Ready { .. } | State::Ending { .. } => false,
        State::Draining { why, .. } | State::Killed { why, .. } => why != Retirement::OwnWish,
        State::LetGo { why } => why != Some(Retirement::OwnWish),
    };
    let as_it_wished =
        matches!(worker.state, State::Draining { .. } | State::Killed { .. } | State::LetGo { .. })
            && worker.ready.is_some()
            && status == ExitStatus::Code(0);
    if asked_by_us || as_it_wished {
        return None;
    }
    Some(match worker.ready_for(now) {
        Some(ready_for) => WorkerFailure::Died { status, ready_for },
        None => WorkerFailure::EndedBeforeReady { status },
    })
}

//! A pool: its slots, the generations it builds on and moves to, and what happens to its workers.
//!
//! Which worker is to be started or retired is decided in `planner`; this file keeps the books: who is in
//! which slot, what each slot is to run, and what a worker's fate means for the slot and for a rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Action, Note, Place, Retirement, RolloutFailure, WorkerFailure};
use super::context::Context;
use super::event::{ExitStatus, StartFailure};
use super::slot::Slot;
use super::worker::{State, Worker};
use crate::config::model::{Policy, Ready, Signal};
use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
use crate::time::{Monotonic, Timeout};

/// What a worker that missed its watchdog gets, so that it may leave a core file
/// (`WatchdogSignal=` in `systemd.service(5)` has the same default).
const WATCHDOG_SIGNAL: Signal = Signal(6);

/// How far the rollout is that a pool takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// No rollout.
    Steady,
    /// The first new worker has to prove itself.
    Canary,
    /// Slot by slot.
    Rolling,
    /// It failed; what was moved goes back.
    Back,
}

/// A pool's part in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Where it moves; `None`: the pool is removed.
    pub(super) target: Option<Generation>,
    /// The slot whose new worker goes first; `None` where there is no slot to fill.
    pub(super) canary: Option<SlotIndex>,
    /// New workers that failed so far.
    pub(super) failures: u32,
    /// They were too many.
    pub(super) verdict: Option<RolloutFailure>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) name: PoolName,
    /// The generation to build on; `None` while its first rollout makes it, and once it is removed.
    pub(super) base: Option<Generation>,
    pub(super) part: Option<Part>,
    /// One for each generation that a worker or a plan of this pool uses.
    pub(super) policies: BTreeMap<Generation, Policy>,
    /// The number of slots that a `scale` command set.
    pub(super) scale: Option<u32>,
    pub(super) slots: BTreeMap<SlotIndex, Slot>,
}

impl Pool {
    pub(super) fn new(name: PoolName) -> Self {
        Self { name, base: None, part: None, policies: BTreeMap::new(), scale: None, slots: BTreeMap::new() }
    }

    /// The pool's stage when the daemon's rollout is at `stage`.
    pub(super) fn stage(&self, stage: Stage) -> Stage {
        if self.part.is_some() { stage } else { Stage::Steady }
    }

    /// The policy that rules the pool as a whole.
    pub(super) fn governing(&self, stage: Stage) -> Option<&Policy> {
        let target = self.part.as_ref().and_then(|part| part.target);
        let generation = match stage {
            Stage::Steady => self.base,
            Stage::Canary | Stage::Rolling => target.or(self.base),
            Stage::Back => self.base.or(target),
        };
        generation.and_then(|generation| self.policies.get(&generation))
    }

    /// How many slots the pool is to have.
    pub(super) fn wanted_slots(&self, stage: Stage) -> u32 {
        let target = self.part.as_ref().and_then(|part| part.target);
        let workers = |generation: Option<Generation>| {
            let policy = generation.and_then(|generation| self.policies.get(&generation));
            policy.map_or(0, |policy| self.scale.unwrap_or(policy.workers))
        };
        match stage {
            Stage::Steady | Stage::Back => workers(self.base),
            Stage::Rolling => workers(target.or(self.base)),
            Stage::Canary => {
                let canary = self.part.as_ref().and_then(|part| part.canary);
                workers(self.base).max(canary.map_or(0, |slot| slot.0 + 1))
            }
        }
    }

    /// The generation that a slot is to run; `None`: nothing.
    pub(super) fn wanted(&self, index: SlotIndex, stage: Stage) -> Option<Generation> {
        if index.0 >= self.wanted_slots(stage) {
            return None;
        }
        let base = self.slots.get(&index).and_then(|slot| slot.kept).or(self.base);
        let target = self.part.as_ref().and_then(|part| part.target);
        match stage {
            Stage::Steady | Stage::Back => base,
            Stage::Rolling => target.or(base),
            Stage::Canary => {
                let is_canary = self.part.as_ref().is_some_and(|part| part.canary == Some(index));
                if is_canary { target.or(base) } else { base }
            }
        }
    }

    /// The slot whose new worker goes first: one that serves nobody now, else the first.
    pub(super) fn choose_canary(&self, slots: u32) -> Option<SlotIndex> {
        let idle =
            (0..slots).map(SlotIndex).find(|index| !self.slots.get(index).is_some_and(Slot::has_ready));
        idle.or((slots > 0).then_some(SlotIndex(0)))
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.values().flat_map(|slot| &slot.workers)
    }

    pub(super) fn ready(&self) -> u32 {
        count(self.workers().filter(|worker| worker.is_ready()))
    }

    pub(super) fn active(&self) -> u32 {
        count(self.workers().filter(|worker| worker.is_active()))
    }

    pub(super) fn draining(&self) -> u32 {
        count(self.workers().filter(|worker| worker.is_draining()))
    }

    pub(super) fn policy_of(&self, worker: &Worker) -> &Policy {
        // Policies are dropped in `forget_unused_policies` only, which keeps those of living workers.
        self.policies.get(&worker.generation).expect("a living worker's generation has a policy")
    }

    fn place(&self, slot: SlotIndex, generation: Generation) -> Place {
        Place { pool: self.name.clone(), slot, generation }
    }

    fn worker_and_policy(&mut self, slot: SlotIndex, id: WorkerId) -> Option<(&mut Worker, &Policy)> {
        let worker = self.slots.get_mut(&slot)?.worker_mut(id)?;
        let policy = self.policies.get(&worker.generation)?;
        Some((worker, policy))
    }

    /// Starts a worker in a slot.
    pub(super) fn start(&mut self, slot: SlotIndex, generation: Generation, exact: bool, cx: &mut Context) {
        let id = cx.spawn(self.place(slot, generation), exact);
        let policy = self.policies.get(&generation).expect("a wanted generation has a policy");
        let worker = Worker::new(id, generation, cx.now, policy);
        self.slots.entry(slot).or_default().workers.push(worker);
    }

    /// Asks a worker to end, once, with the signal and the patience that its policy gives for `why`.
    pub(super) fn retire(&mut self, slot: SlotIndex, id: WorkerId, why: Retirement, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() {
            return;
        }
        let (executed, generation) = (worker.executed, worker.generation);
        worker.asked = Some(cx.now);
        worker.state = match executed {
            true => State::Draining { kill_at: cx.now.after(patience(policy, why)), why },
            false => State::Killed { why },
        };
        let signal = match why {
            Retirement::Watchdog => WATCHDOG_SIGNAL,
            _ => policy.stop_signal,
        };
        let place = self.place(slot, generation);
        cx.note(Note::Retiring { worker: id, place, why });
        match (executed, why) {
            // Nothing of the program has run yet: there is nobody to ask.
            (false, _) => cx.ask(Action::Kill { worker: id }),
            // It is ending already.
            (true, Retirement::OwnWish) => {}
            (true, _) => cx.ask(Action::Signal { worker: id, signal }),
        }
    }

    pub(super) fn was_executed(&mut self, slot: SlotIndex, id: WorkerId) {
        if let Some((worker, _)) = self.worker_and_policy(slot, id) {
            worker.executed = true;
        }
    }

    pub(super) fn spawned(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        worker.executed = true;
        if policy.ready == Ready::Exec {
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

    pub(super) fn more_time(&mut self, slot: SlotIndex, id: WorkerId, by: Duration, cx: &mut Context) {
        if let Some((worker, _)) = self.worker_and_policy(slot, id) {
            worker.allow_more_time(cx.now + by);
        }
    }

    /// The worker says that it is ending. Its successor is started by the planner: at once where the
    /// worker had been stable, else after a wait that runs from now.
    pub(super) fn says_stopping(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() {
            return;
        }
        let (generation, ready_for) = (worker.generation, worker.ready_for(cx.now));
        let restart = policy.restart.clone();
        self.retire(slot, id, Retirement::OwnWish, cx);
        if let Some(slot) = self.slots.get_mut(&slot) {
            match ready_for {
                Some(ready_for) => {
                    slot.pacing.wished(cx.now, generation, ready_for, &restart, &mut cx.jitter);
                }
                None => drop(slot.pacing.ended(cx.now, generation, None, &restart, &mut cx.jitter)),
            }
        }
    }

    /// The worker missed its watchdog, or said that it is to be treated so.
    pub(super) fn watchdog_ran_out(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() {
            return;
        }
        let failure = WorkerFailure::Watchdog { after: policy.watchdog.unwrap_or_default() };
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
        if worker.is_ending() {
            return;
        }
        let (before, signal) = (worker.clone(), policy.stop_signal);
        let latest = cx.now.after(policy.stop_timeout);
        let kill_at = match before.state {
            State::Draining { kill_at: Some(kill_at), .. } => Some(kill_at),
            State::Killed { .. } => None,
            _ => latest,
        };
        let killed = matches!(before.state, State::Killed { .. });
        worker.state = State::Ending { kill_at, killed };
        cx.ask(Action::EndGroup { worker: id, signal });
        if let Some(failure) = failure_of_exit(&before, status, cx.now) {
            self.failed(slot, &before, failure, stage, cx);
        }
    }

    /// Nothing is left of the worker.
    pub(super) fn group_ended(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let is_ending = self.slots.get(&slot).and_then(|slot| slot.worker(id)).is_some_and(Worker::is_ending);
        if is_ending {
            self.remove(slot, id, cx);
        }
    }

    fn remove(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) -> Option<Worker> {
        let slot = self.slots.get_mut(&slot)?;
        let position = slot.workers.iter().position(|worker| worker.id == id)?;
        cx.forget(id);
        Some(slot.workers.remove(position))
    }

    /// What a worker's failure means for its slot and for a rollout.
    fn failed(
        &mut self,
        index: SlotIndex,
        worker: &Worker,
        failure: WorkerFailure,
        stage: Stage,
        cx: &mut Context,
    ) {
        let restart = self.policy_of(worker).restart.clone();
        let place = self.place(index, worker.generation);
        let slot = self.slots.entry(index).or_default();
        let ready_for = worker.ready_for(cx.now);
        let wished = matches!(
            worker.state,
            State::Draining { why: Retirement::OwnWish, .. } | State::Killed { why: Retirement::OwnWish }
        );
        let restart_in = if wished {
            // Paced when it said so.
            slot.pacing.restart_at(cx.now).map_or(Duration::ZERO, |at| at.since(cx.now))
        } else {
            slot.pacing.ended(cx.now, worker.generation, ready_for, &restart, &mut cx.jitter)
        };
        slot.restarts += 1;
        slot.last_failure = Some((cx.now, worker.id, failure.clone()));
        let crash_loop = slot.pacing.is_crash_loop(Some(worker.generation));
        cx.note(Note::WorkerFailed {
            worker: worker.id,
            place: place.clone(),
            failure: failure.clone(),
            restart_in,
            crash_loop,
        });
        // One that was ready and wished to go proves nothing about its successor.
        let proves = worker.is_active() || worker.ready.is_none();
        match stage {
            Stage::Canary | Stage::Rolling => self.count_failure(worker, place, failure),
            Stage::Back if proves && Some(worker.generation) == self.base => self.keep_the_new(index),
            Stage::Back | Stage::Steady => {}
        }
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
            let stays = slot.wrong(base).find(|worker| worker.is_ready()).map(|worker| worker.generation);
            slot.kept = stays;
        }
    }

    /// Slots that were left on a thrown-away generation go back as soon as that worker is gone.
    pub(super) fn release_kept(&mut self) {
        self.slots.values_mut().for_each(Slot::release_kept);
    }

    /// Deals with every deadline of its workers that has been reached.
    pub(super) fn pass_deadlines(&mut self, stage: Stage, cx: &mut Context) {
        let due: Vec<(SlotIndex, WorkerId)> = self
            .slots
            .iter()
            .flat_map(|(index, slot)| slot.workers.iter().map(|worker| (*index, worker)))
            .filter(|(_, worker)| worker.deadline().is_some_and(|deadline| deadline <= cx.now))
            .map(|(index, worker)| (index, worker.id))
            .collect();
        for (slot, id) in due {
            self.pass_deadline(slot, id, stage, cx);
        }
        self.settle(cx.now);
    }

    fn pass_deadline(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        match worker.state {
            State::Starting { .. } => {
                let after = policy.start_timeout.duration().unwrap_or_default();
                let worker = worker.clone();
                self.retire(slot, id, Retirement::StartTimeout, cx);
                self.failed(slot, &worker, WorkerFailure::StartTimeout { after }, stage, cx);
            }
            State::Ready { .. } => self.watchdog_ran_out(slot, id, stage, cx),
            State::Draining { why, .. } => {
                worker.state = State::Killed { why };
                cx.ask(Action::Kill { worker: id });
            }
            State::Ending { .. } => {
                worker.state = State::Ending { kill_at: None, killed: true };
                cx.ask(Action::Kill { worker: id });
            }
            State::Killed { .. } => {}
        }
    }

    /// Workers that have been ready for `stable_after` clear their slot's slate.
    fn settle(&mut self, now: Monotonic) {
        for slot in self.slots.values_mut() {
            if settled_at(slot, &self.policies).is_some_and(|at| at <= now) {
                slot.pacing.settle();
            }
        }
    }

    /// Everything in this pool that time alone brings about.
    pub(super) fn deadlines(&self, now: Monotonic) -> impl Iterator<Item = Monotonic> {
        self.slots.values().flat_map(move |slot| {
            slot.workers
                .iter()
                .filter_map(Worker::deadline)
                .chain(settled_at(slot, &self.policies))
                .chain(slot.pacing.restart_at(now))
        })
    }

    pub(super) fn forget_unused_policies(&mut self) {
        let mut used: Vec<Generation> = self.workers().map(|worker| worker.generation).collect();
        used.extend(self.base);
        used.extend(self.part.as_ref().and_then(|part| part.target));
        self.policies.retain(|generation, _| used.contains(generation));
    }
}

/// When the slot's worker will have been ready long enough to clear the slate; `None` where that is clear,
/// or where the worker that is ready is not of the generation that failed.
fn settled_at(slot: &Slot, policies: &BTreeMap<Generation, Policy>) -> Option<Monotonic> {
    let failing = slot.pacing.unsettled()?;
    let worker = slot.active().find(|worker| worker.generation == failing)?;
    Some(worker.ready? + policies.get(&failing)?.restart.stable_after)
}

fn count<'a>(workers: impl Iterator<Item = &'a Worker>) -> u32 {
    u32::try_from(workers.count()).unwrap_or(u32::MAX)
}

fn patience(policy: &Policy, why: Retirement) -> Timeout {
    match why {
        Retirement::Replaced | Retirement::RolledBack | Retirement::Removed | Retirement::OwnWish => {
            policy.drain_timeout
        }
        Retirement::StartTimeout | Retirement::Watchdog | Retirement::DaemonStops => policy.stop_timeout,
    }
}

/// An exit is a failure unless it was asked for; one that the worker asked for itself (`STOPPING=1`) must
/// have the status 0, and the worker must have been ready.
fn failure_of_exit(worker: &Worker, status: ExitStatus, now: Monotonic) -> Option<WorkerFailure> {
    let asked_by_us = match worker.state {
        State::Starting { .. } | State::Ready { .. } | State::Ending { .. } => false,
        State::Draining { why, .. } | State::Killed { why } => why != Retirement::OwnWish,
    };
    let as_it_wished = matches!(worker.state, State::Draining { .. } | State::Killed { .. })
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

//! The one planner: from what a pool's slots run to what they are to run, start-first, within limits.
//!
//! Every reason to replace or retire a worker (reload, crash, scale, rollback, removal) is a change of
//! what slots are to run, and comes here. Three steps, each of which looks at one slot:
//!
//! 1. slots that are not wanted: ask their workers to end, but for ready ones that stand in for wanted slots
//!    which serve nobody;
//! 2. slots where the wanted worker is ready: ask the others there to end;
//! 3. slots without the wanted worker: start it, if the pacing and the surge allow.
//!
//! Where the surge is nothing (stop-first), a slot is empty before its next worker starts: in place of step 2 the old
//! one is asked to make room, if enough others are ready, and then its whole process group must be gone. That holds
//! whatever the reason, a crash and a rollback among them.
//!
//! A worker that is *worn* is one more that is not the wanted one, except that it comes last in steps 2 and 3: a
//! rollout must end whatever worn workers do.

use super::action::{Note, Retirement};
use super::context::Context;
use super::pool::Pool;
use super::slot::Slot;
use super::wanted::{Stage, Wanted};
use super::worker::Worker;
use crate::config::model::Policy;
use crate::id::{Generation, SlotIndex, WorkerId};

/// What one planning may still do: the limits and how much of them is used, counted once.
struct Budget {
    /// Workers that may still be started; negative where more are active than may be.
    starts: i64,
    /// Ready workers that may still be asked to end.
    ready: u32,
    /// Workers that may still begin to drain.
    draining: u32,
    /// The surge is nothing, so that an old worker must go before a new one comes.
    stop_first: bool,
}

impl Budget {
    fn new(policy: &Policy, slots: u32, stage: Stage, pool: &Pool) -> Self {
        let stop_first = pool.is_stop_first(stage);
        let surge = policy.rollout.max_surge.of_rounded_up(slots);
        let unavailable = policy.rollout.max_unavailable.of_rounded_down(slots);
        // A share of few can be nothing, and a rollout must be able to move. No surge means none, as in Kubernetes.
        let (surge, unavailable) = match stop_first {
            true => (0, unavailable.max(1)),
            false if stage == Stage::Back || unavailable == 0 => (surge.max(1), unavailable),
            false => (surge, unavailable),
        };
        let (mut active, mut ready, mut draining) = (0, 0, 0);
        for worker in pool.workers() {
            active += i64::from(worker.is_active());
            ready += u32::from(worker.is_ready());
            draining += u32::from(worker.is_draining());
        }
        Self {
            starts: i64::from(slots) + i64::from(surge) - active,
            ready: ready.saturating_sub(slots.saturating_sub(unavailable)),
            draining: policy.rollout.max_draining.saturating_sub(draining),
            stop_first,
        }
    }

    /// May this worker, in a slot that is not wanted, be asked to end? If so, it is counted. However many
    /// drain: that it goes is what was asked for.
    fn take_surplus(&mut self, is_ready: bool) -> bool {
        let may = !is_ready || self.ready > 0;
        if may {
            self.take(is_ready);
        }
        may
    }

    /// May this worker be asked to end? If so, it is counted.
    fn take_end(&mut self, is_ready: bool, stage: Stage) -> bool {
        // In a rollback the replacement is ready in the same slot: nothing gets worse. Nor does it wait for
        // those that drain: a rollout that waits is slow, a rollback that waits keeps a bad program in service.
        let may = !is_ready || stage == Stage::Back || (self.ready > 0 && self.draining > 0);
        if may {
            self.take(is_ready);
        }
        may
    }

    /// May this worker be asked to make room for its successor? If so, it is counted. Its slot will serve nobody for a
    /// while, in a rollback, too; that does not wait for those that drain.
    fn take_room(&mut self, is_ready: bool, stage: Stage) -> bool {
        let may = !is_ready || (self.ready > 0 && (self.draining > 0 || stage == Stage::Back));
        if may {
            self.take(is_ready);
        }
        may
    }

    fn take(&mut self, is_ready: bool) {
        self.ready = self.ready.saturating_sub(u32::from(is_ready));
        self.draining = self.draining.saturating_sub(1);
        self.starts += 1;
    }
}

impl Pool {
    /// Brings the pool as near to what is wanted as the limits allow now.
    pub(super) fn plan(&mut self, stage: Stage, cx: &mut Context) {
        if stage != Stage::Back {
            self.slots.values_mut().for_each(Slot::release_worn);
        }
        let wanted = self.wanted(stage);
        match self.governing(stage) {
            None => self.retire_surplus(stage, cx),
            Some(policy) => {
                let mut budget = Budget::new(policy, wanted.slots, stage, self);
                self.retire_unwanted(&wanted, &mut budget, stage, cx);
                self.retire_superseded(&wanted, &mut budget, stage, cx);
                self.fill_slots(&wanted, &mut budget, stage, cx);
            }
        }
        self.drop_surplus_slots(wanted.slots);
    }

    fn drop_surplus_slots(&mut self, slots: u32) {
        let surplus = self.slots.range(SlotIndex(slots)..);
        let empty: Vec<SlotIndex> =
            surplus.filter(|(_, slot)| slot.workers.is_empty()).map(|(index, _)| *index).collect();
        for index in empty {
            self.slots.remove(&index);
        }
    }

    fn retire_unwanted(&mut self, wanted: &Wanted, budget: &mut Budget, stage: Stage, cx: &mut Context) {
        for (index, id, is_ready) in self.surplus(wanted.slots) {
            if budget.take_surplus(is_ready) {
                self.retire(index, id, why_unwanted(stage), cx);
            }
        }
    }

    /// Asks every worker in a slot that is not wanted to end, whoever else serves.
    pub(super) fn retire_surplus(&mut self, stage: Stage, cx: &mut Context) {
        let slots = self.wanted(stage).slots;
        for (index, id, _) in self.surplus(slots) {
            self.retire(index, id, why_unwanted(stage), cx);
        }
    }

    /// Active workers in slots from `slots` up, and whether each is ready.
    fn surplus(&self, slots: u32) -> Vec<(SlotIndex, WorkerId, bool)> {
        let surplus = self.slots.range(SlotIndex(slots)..);
        surplus
            .flat_map(|(index, slot)| slot.active().map(|worker| (*index, worker.id, worker.is_ready())))
            .collect()
    }

    fn retire_superseded(&mut self, wanted: &Wanted, budget: &mut Budget, stage: Stage, cx: &mut Context) {
        for (index, id, is_ready, is_foreign) in self.superseded(wanted, stage) {
            let why = why_ended(stage, is_foreign, Retirement::Replaced);
            if budget.take_end(is_ready, stage) {
                self.retire(index, id, why, cx);
            }
        }
    }

    /// Active workers of another generation than the wanted one, or worn, that are no longer needed; whether each is
    /// ready, and whether of another generation. Those that are only worn come last, the oldest first: workers that wear out again and again
    /// must not use up what the others wait for.
    fn superseded(&self, wanted: &Wanted, stage: Stage) -> Vec<(SlotIndex, WorkerId, bool, bool)> {
        let mut found = Vec::new();
        for (index, slot) in &self.slots {
            let here = wanted.of(*index, Some(slot));
            let needless = |worker: &&Worker| match stage {
                // While the canary bakes nobody is asked to end for it; who is worn makes way for its own successor.
                Stage::Canary if wanted.moves_to(worker.generation) => false,
                Stage::Canary => slot.covers(wanted.before(slot), worker) || slot.is_late(here, worker),
                Stage::Back if !worker.is_ready() && Some(worker.generation) != here => true,
                _ => slot.covers(here, worker) || slot.is_late(here, worker),
            };
            found.extend(slot.wrong(here).filter(needless).map(|worker| {
                let only_worn = (Some(worker.generation) == here).then_some(worker.id);
                (only_worn, *index, worker.id, worker.is_ready())
            }));
        }
        found.sort_by_key(|(only_worn, ..)| *only_worn);
        let foreign = |only_worn: Option<WorkerId>| only_worn.is_none();
        found.into_iter().map(|(worn, index, id, is_ready)| (index, id, is_ready, foreign(worn))).collect()
    }

    fn fill_slots(&mut self, wanted: &Wanted, budget: &mut Budget, stage: Stage, cx: &mut Context) {
        for (index, generation) in self.unfilled(wanted, stage, cx) {
            if budget.stop_first && self.slots.get(&index).is_some_and(|slot| !slot.is_vacant()) {
                self.make_room(index, generation, budget, stage, cx);
                continue;
            }
            if budget.starts <= 0 {
                continue;
            }
            let serves = |slot: &Slot| slot.foreign(Some(generation)).any(Worker::is_ready);
            let exact = stage == Stage::Back && self.slots.get(&index).is_some_and(serves);
            self.start(index, generation, exact, cx);
            budget.starts -= 1;
        }
    }

    /// Slots that want a worker and may start one now; those that serve nobody come first, and those whose worker
    /// is only worn come last, the oldest first.
    fn unfilled(&self, wanted: &Wanted, stage: Stage, cx: &Context) -> Vec<(SlotIndex, Generation)> {
        let mut found = Vec::new();
        for (index, slot) in self.wanted_places(wanted.slots) {
            let Some(generation) = wanted.of(index, slot) else { continue };
            let filled = slot.is_some_and(|slot| is_filled(slot, generation, wanted, stage));
            let paced = slot.is_none_or(|slot| slot.pacing.allows(cx.now, generation));
            if !filled && paced {
                let worn = slot.and_then(|slot| slot.of(Some(generation)).map(|worker| worker.id).min());
                found.push((slot.is_some_and(Slot::has_ready), worn, index, generation));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, _, index, generation)| (index, generation)).collect()
    }

    /// Makes room in a slot for its next worker: asks the one that is there to end, or waits until nothing is left of it.
    fn make_room(
        &mut self,
        index: SlotIndex,
        wanted: Generation,
        budget: &mut Budget,
        stage: Stage,
        cx: &mut Context,
    ) {
        let Some(slot) = self.slots.get_mut(&index) else { return };
        let Some(old) = slot.wrong(Some(wanted)).next().map(|worker| worker.id) else {
            return self.await_end(index, cx);
        };
        let Some(worker) = slot.worker_mut(old) else { return };
        // One that is only worn serves on until the rollout is over: that waits for a moment at which all slots serve.
        if worker.generation == wanted && matches!(stage, Stage::Rolling | Stage::Back) {
            return;
        }
        if budget.take_room(worker.is_ready(), stage) {
            worker.awaited = true;
            let why = why_ended(stage, worker.generation != wanted, Retirement::MakeRoom);
            self.retire(index, old, why, cx);
        }
    }

    /// Says once of each worker that its successor waits for its end, unless that was said when it was asked to end.
    fn await_end(&mut self, index: SlotIndex, cx: &mut Context) {
        let Some(slot) = self.slots.get_mut(&index) else { return };
        let mut unsaid = Vec::new();
        for worker in slot.workers.iter_mut().filter(|worker| !worker.awaited && !worker.is_let_go()) {
            worker.awaited = true;
            unsaid.push((worker.id, worker.generation));
        }
        for (worker, generation) in unsaid {
            cx.note(Note::SuccessorWaits { worker, place: self.place(index, generation) });
        }
    }
}

/// Does a slot have the worker that it is to have, or must it do with the one it has?
fn is_filled(slot: &Slot, generation: Generation, wanted: &Wanted, stage: Stage) -> bool {
    // A canary that is worn bakes all the same, and what was kept of a thrown-away generation is not started again.
    let must_do = slot.kept == Some(generation) || (stage == Stage::Canary && wanted.moves_to(generation));
    slot.right(Some(generation)).is_some() || (must_do && slot.of(Some(generation)).next().is_some())
}

/// Why a worker is asked to end: a rollback is the reason for those of the generation that is thrown away.
fn why_ended(stage: Stage, is_foreign: bool, otherwise: Retirement) -> Retirement {
    if stage == Stage::Back && is_foreign { Retirement::RolledBack } else { otherwise }
}

fn why_unwanted(stage: Stage) -> Retirement {
    if stage == Stage::Back { Retirement::RolledBack } else { Retirement::Removed }
}

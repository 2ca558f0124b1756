//! The one planner: from what a pool's slots run to what they are to run, start-first, within limits.
//!
//! Every reason to replace or retire a worker (reload, crash, scale, rollback, removal) is a change of
//! what slots are to run, and comes here. Three steps, each of which looks at one slot:
//!
//! 1. slots that are not wanted: ask their workers to end;
//! 2. slots where the wanted worker is ready: ask the others there to end;
//! 3. slots without the wanted worker: start it, if the pacing and the surge allow; where the surge is
//!    nothing, ask the old one to end first, if enough others are ready.

use super::action::Retirement;
use super::context::Context;
use super::pool::{Pool, Stage};
use super::slot::Slot;
use super::worker::Worker;
use crate::config::model::Policy;
use crate::id::{Generation, SlotIndex, WorkerId};

/// The limits of one planning, counted once.
struct Limits {
    /// Workers that may be active.
    active_max: u32,
    /// Ready workers that must remain when we ask one to end.
    ready_min: u32,
    /// Old workers that may drain.
    draining_max: u32,
    /// The surge is nothing, so that an old worker must go before a new one comes.
    stop_first: bool,
}

impl Limits {
    fn new(policy: &Policy, slots: u32, stage: Stage) -> Self {
        let surge = policy.rollout.max_surge.of_rounded_up(slots);
        let unavailable = policy.rollout.max_unavailable.of_rounded_down(slots);
        // Both can round to nothing ("0%" of few); one must be possible, and start-first harms nobody.
        // A rollback is start-first whatever the policy says.
        let surge = if stage == Stage::Back || unavailable == 0 { surge.max(1) } else { surge };
        Self {
            active_max: slots.saturating_add(surge),
            ready_min: slots.saturating_sub(unavailable),
            draining_max: policy.rollout.max_draining,
            stop_first: surge == 0,
        }
    }
}

impl Pool {
    /// Brings the pool as near to what is wanted as the limits allow now.
    pub(super) fn plan(&mut self, stage: Stage, cx: &mut Context) {
        self.retire_unwanted(stage, cx);
        let slots = self.wanted_slots(stage);
        if let Some(policy) = self.governing(stage) {
            let limits = Limits::new(policy, slots, stage);
            self.retire_superseded(&limits, stage, cx);
            self.fill_slots(&limits, stage, cx);
        }
        self.slots.retain(|index, slot| index.0 < slots || !slot.workers.is_empty());
    }

    fn retire_unwanted(&mut self, stage: Stage, cx: &mut Context) {
        let why = if stage == Stage::Back { Retirement::RolledBack } else { Retirement::Removed };
        for (index, id) in self.unwanted(stage) {
            self.retire(index, id, why, cx);
        }
    }

    /// Active workers in slots that are to run nothing.
    fn unwanted(&self, stage: Stage) -> Vec<(SlotIndex, WorkerId)> {
        self.slots
            .iter()
            .filter(|(index, _)| self.wanted(**index, stage).is_none())
            .flat_map(|(index, slot)| slot.active().map(|worker| (*index, worker.id)))
            .collect()
    }

    fn retire_superseded(&mut self, limits: &Limits, stage: Stage, cx: &mut Context) {
        let why = if stage == Stage::Back { Retirement::RolledBack } else { Retirement::Replaced };
        for (index, id) in self.superseded(stage) {
            let Some(worker) = self.slots.get(&index).and_then(|slot| slot.worker(id)) else { continue };
            if !worker.is_ready() || self.may_retire_ready(limits, stage) {
                self.retire(index, id, why, cx);
            }
        }
    }

    /// Active workers of another generation than the wanted one that are no longer needed.
    fn superseded(&self, stage: Stage) -> Vec<(SlotIndex, WorkerId)> {
        let mut found = Vec::new();
        for (index, slot) in &self.slots {
            let wanted = self.wanted(*index, stage);
            // While the canary bakes nobody is asked to end.
            let covered = stage != Stage::Canary && slot.right(wanted).is_some_and(Worker::is_ready);
            let needless = |worker: &&Worker| covered || (stage == Stage::Back && !worker.is_ready());
            found.extend(slot.wrong(wanted).filter(needless).map(|worker| (*index, worker.id)));
        }
        found
    }

    /// May a ready worker be asked to end now?
    fn may_retire_ready(&self, limits: &Limits, stage: Stage) -> bool {
        // In a rollback the replacement is ready in the same slot: nothing gets worse. Nor does it wait for
        // those that drain: a rollout that waits is slow, a rollback that waits keeps a bad program in service.
        stage == Stage::Back || (self.ready() > limits.ready_min && self.draining() < limits.draining_max)
    }

    fn fill_slots(&mut self, limits: &Limits, stage: Stage, cx: &mut Context) {
        let mut room = limits.active_max.saturating_sub(self.active());
        for (index, wanted) in self.unfilled(stage, cx) {
            if room == 0 {
                if !limits.stop_first || !self.stop_first(index, wanted, limits, stage, cx) {
                    continue;
                }
                room = 1;
            }
            let exact = stage == Stage::Back && self.slots.get(&index).is_some_and(Slot::has_ready);
            self.start(index, wanted, exact, cx);
            room -= 1;
        }
    }

    /// Slots that want a worker and may start one now; those that serve nobody come first.
    fn unfilled(&self, stage: Stage, cx: &Context) -> Vec<(SlotIndex, Generation)> {
        let mut found = Vec::new();
        for index in (0..self.wanted_slots(stage)).map(SlotIndex) {
            let Some(wanted) = self.wanted(index, stage) else { continue };
            let slot = self.slots.get(&index);
            let filled = slot.is_some_and(|slot| slot.right(Some(wanted)).is_some());
            let paced = slot.is_none_or(|slot| slot.pacing.allows(cx.now, wanted));
            if !filled && paced {
                found.push((slot.is_some_and(Slot::has_ready), index, wanted));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, index, wanted)| (index, wanted)).collect()
    }

    /// Makes room in a slot by asking its old worker to end before the new one starts.
    fn stop_first(
        &mut self,
        index: SlotIndex,
        wanted: Generation,
        limits: &Limits,
        stage: Stage,
        cx: &mut Context,
    ) -> bool {
        let Some(slot) = self.slots.get(&index) else { return false };
        let Some(old) = slot.wrong(Some(wanted)).next() else { return false };
        let id = old.id;
        if old.is_ready() && !self.may_retire_ready(limits, stage) {
            return false;
        }
        self.retire(index, id, Retirement::Replaced, cx);
        true
    }
}

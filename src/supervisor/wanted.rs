//! What a pool's slots are to run: it follows from the generation that the pool builds on, from its part
//! in a rollout, and from how far that is.
//!
//! Only a view of facts; who is started or retired to get there is the planner's business.

use serde::{Deserialize, Serialize};

use super::action::RolloutFailure;
use super::pool::Pool;
use super::slot::Slot;
use crate::config::model::Policy;
use crate::id::{Generation, SlotIndex};

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

/// What each slot of a pool is to run, worked out once for a look at all of them.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// How many slots there are to be.
    pub(super) slots: u32,
    stage: Stage,
    base: Option<Generation>,
    target: Option<Generation>,
    canary: Option<SlotIndex>,
}

impl Wanted {
    /// Is this the generation that the pool moves to?
    pub(super) fn moves_to(&self, generation: Generation) -> bool {
        self.target == Some(generation)
    }

    /// The generation that a slot runs as long as it does not move.
    pub(super) fn before(&self, slot: &Slot) -> Option<Generation> {
        slot.kept.or(self.base)
    }

    /// The generation that a slot is to run; `None`: nothing.
    pub(super) fn of(&self, index: SlotIndex, slot: Option<&Slot>) -> Option<Generation> {
        if index.0 >= self.slots {
            return None;
        }
        let base = slot.map_or(self.base, |slot| self.before(slot));
        let moves = match self.stage {
            Stage::Steady | Stage::Back => false,
            Stage::Rolling => true,
            Stage::Canary => self.canary == Some(index),
        };
        if moves { self.target.or(base) } else { base }
    }
}

impl Pool {
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

    /// Must everything of the old worker be gone before the next one starts? The policy that rules the pool decides; a
    /// rollback is stop-first also where the program that it ends is: that may hold what the old one needs.
    pub(super) fn is_stop_first(&self, stage: Stage) -> bool {
        let target = self.part.as_ref().and_then(|part| part.target).filter(|_| stage == Stage::Back);
        let ended = target.and_then(|generation| self.policies.get(&generation));
        self.governing(stage).into_iter().chain(ended).any(|policy| policy.rollout.is_stop_first())
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

    /// What each slot is to run.
    pub(super) fn wanted(&self, stage: Stage) -> Wanted {
        let part = self.part.as_ref();
        Wanted {
            slots: self.wanted_slots(stage),
            stage,
            base: self.base,
            target: part.and_then(|part| part.target),
            canary: part.and_then(|part| part.canary),
        }
    }

    /// The slot whose new worker goes first: one that serves nobody now, else the first.
    pub(super) fn choose_canary(&self, slots: u32) -> Option<SlotIndex> {
        let idle =
            (0..slots).map(SlotIndex).find(|index| !self.slots.get(index).is_some_and(Slot::has_ready));
        idle.or((slots > 0).then_some(SlotIndex(0)))
    }

    /// The slots that are wanted, in their order, whether anything runs there or not.
    pub(super) fn wanted_places(&self, slots: u32) -> impl Iterator<Item = (SlotIndex, Option<&Slot>)> {
        let mut present = self.slots.range(..SlotIndex(slots)).peekable();
        (0..slots).map(SlotIndex).map(move |index| {
            let slot = present.next_if(|(found, _)| **found == index);
            (index, slot.map(|(_, slot)| slot))
        })
    }
}

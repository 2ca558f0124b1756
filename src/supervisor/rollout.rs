//! A rollout: moving pools from one generation to the next, judged as a whole.
//!
//! A generation is one revision of everything, so its pools move together: no old worker is asked to end
//! before the canary of *every* pool has stayed ready, and when one pool fails all of them go back.
//!
//! ```text
//!            canaries stayed ready            every slot moved
//!   Canary ------------------------> Rolling -----------------> done: Commit
//!      |                                |
//!      | too many failures, deadline, cancel
//!      +---------------> Back <---------+
//!                          | every slot back, or kept because the old program is gone
//!                          +---------------> rolled back
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Note, Place, RolloutFailure};
use super::context::Context;
use super::pool::Pool;
use super::slot::Slot;
use super::wanted::Stage;
use super::worker::Worker;
use crate::id::{Generation, RequestId, SlotIndex, WorkerId};
use crate::time::Monotonic;

/// A rollback that nothing else ends is given up after this long, where the policy's `deadline` is endless.
const ROLLBACK_PATIENCE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollout {
    pub(super) generation: Generation,
    pub(super) stage: Stage,
    /// Who asked for it.
    pub(super) requests: Vec<RequestId>,
    /// Who asked to roll it back.
    pub(super) cancels: Vec<RequestId>,
    pub(super) started: Monotonic,
    /// Why it goes back, and since when.
    pub(super) failure: Option<(RolloutFailure, Monotonic)>,
    /// When it last came nearer to its end, and how far it was then.
    pub(super) progress: (Monotonic, u32),
}

/// What a look at a rollout says is to be done.
pub(super) enum Judgement {
    /// Nothing yet.
    Wait,
    /// It goes on in another stage.
    Moved,
    /// Every slot runs the new generation.
    Done,
    /// Everything that could go back did.
    RolledBack,
}

impl Rollout {
    pub(super) fn new(generation: Generation, requests: Vec<RequestId>, now: Monotonic) -> Self {
        Self {
            generation,
            stage: Stage::Canary,
            requests,
            cancels: Vec::new(),
            started: now,
            failure: None,
            progress: (now, 0),
        }
    }

    /// Takes the next step that the state of the pools calls for.
    pub(super) fn judge<'a>(
        &mut self,
        pools: impl Iterator<Item = &'a mut Pool>,
        cx: &mut Context,
    ) -> Judgement {
        let mut pools: Vec<&mut Pool> = pools.filter(|pool| pool.part.is_some()).collect();
        self.note_progress(&pools, cx.now);
        match self.stage {
            Stage::Canary | Stage::Rolling => self.judge_forward(&pools, cx),
            Stage::Back => self.judge_back(&mut pools, cx),
            Stage::Steady => Judgement::Wait,
        }
    }

    fn judge_forward(&mut self, pools: &[&mut Pool], cx: &mut Context) -> Judgement {
        if let Some(failure) = self.find_failure(pools, cx.now) {
            self.fail(failure, cx);
            return Judgement::Moved;
        }
        if self.stage == Stage::Canary && pools.iter().all(|pool| canary_is_proven(pool, cx.now)) {
            self.stage = Stage::Rolling;
            self.progress.0 = cx.now;
            cx.note(Note::CanaryProven { generation: self.generation });
            return Judgement::Moved;
        }
        if self.stage == Stage::Rolling && pools.iter().all(|pool| is_moved(pool)) {
            return Judgement::Done;
        }
        Judgement::Wait
    }

    fn find_failure(&self, pools: &[&mut Pool], now: Monotonic) -> Option<RolloutFailure> {
        let verdict = |pool: &&mut Pool| pool.part.as_ref().and_then(|part| part.verdict.clone());
        let late = |pool: &&mut Pool| {
            let moving = pool.part.as_ref().is_some_and(|part| part.target.is_some());
            let at_last = self.deadline_of(pool).is_some_and(|deadline| deadline <= now);
            let unfinished = self.stage == Stage::Canary || !is_moved(pool);
            (moving && at_last && unfinished).then(|| RolloutFailure::Deadline {
                pool: pool.name.clone(),
                waiting_for: self.waiting_for(pool, now).unwrap_or_else(|| "the other pools".to_owned()),
            })
        };
        pools.iter().find_map(verdict).or_else(|| pools.iter().find_map(late))
    }

    /// Turns round: what was moved goes back.
    pub(super) fn fail(&mut self, failure: RolloutFailure, cx: &mut Context) {
        cx.note(Note::RollingBack { generation: self.generation, reason: failure.clone() });
        self.failure = Some((failure, cx.now));
        self.stage = Stage::Back;
        self.progress = (cx.now, 0);
    }

    fn judge_back(&mut self, pools: &mut [&mut Pool], cx: &mut Context) -> Judgement {
        let mut kept_now = false;
        for pool in pools.iter_mut() {
            if self.deadline_of(pool).is_some_and(|deadline| deadline <= cx.now) {
                kept_now |= keep_all(pool);
                pool.retire_surplus(Stage::Back, cx);
            }
        }
        if kept_now {
            return Judgement::Moved;
        }
        let is_over = |pool: &Pool| self.deadline_of(pool).is_some_and(|deadline| deadline <= cx.now);
        if pools.iter().all(|pool| is_back(pool) && (is_over(pool) || is_restored(pool))) {
            Judgement::RolledBack
        } else {
            Judgement::Wait
        }
    }

    /// When the stage that the rollout is in must be over, as far as one pool is concerned.
    fn deadline_of(&self, pool: &Pool) -> Option<Monotonic> {
        let timeout = pool.governing(self.stage)?.rollout.deadline;
        match &self.failure {
            None => self.started.after(timeout),
            Some((_, since)) => Some(*since + timeout.duration().unwrap_or(ROLLBACK_PATIENCE)),
        }
    }

    /// Everything that time alone brings about.
    pub(super) fn deadlines<'a>(
        &'a self,
        pools: impl Iterator<Item = &'a Pool> + 'a,
    ) -> impl Iterator<Item = Monotonic> + 'a {
        pools.filter(|pool| pool.part.is_some()).flat_map(|pool| {
            let baked = if self.stage == Stage::Canary { canary_proven_at(pool) } else { None };
            baked.into_iter().chain(self.deadline_of(pool))
        })
    }

    fn note_progress(&mut self, pools: &[&mut Pool], now: Monotonic) {
        let done = pools.iter().map(|pool| self.moved(pool).0).sum();
        if done != self.progress.1 {
            self.progress = (now, done);
        }
    }

    /// How many of a pool's slots run what they are to run, and how many there are.
    pub(super) fn moved(&self, pool: &Pool) -> (u32, u32) {
        let slots = pool.wanted_slots(self.stage);
        let target = match self.stage {
            Stage::Back => pool.base,
            _ => pool.part.as_ref().and_then(|part| part.target).or(pool.base),
        };
        let runs_it = |slot: &Slot| slot.of(target).any(Worker::is_ready);
        let moved = pool.slots.range(..SlotIndex(slots)).filter(|(_, slot)| runs_it(slot)).count();
        (u32::try_from(moved).unwrap_or(u32::MAX), slots)
    }

    /// What the rollout waits for in a pool, for a person; `None`: for nothing there.
    pub(super) fn waiting_for(&self, pool: &Pool, now: Monotonic) -> Option<String> {
        let name = &pool.name;
        if let Some((slot, worker)) = self.in_the_way(pool) {
            return Some(format!(
                "pool {name}: worker {worker} of slot {slot} to end before the next one starts"
            ));
        }
        if self.stage == Stage::Canary {
            let canary = pool.part.as_ref().and_then(|part| part.canary)?;
            return Some(match canary_proven_at(pool) {
                Some(at) if at <= now => return None,
                Some(_) => format!("pool {name}: the first new worker, in slot {canary}, to stay ready"),
                None => format!("pool {name}: the first new worker, in slot {canary}, to become ready"),
            });
        }
        let draining = pool.draining();
        if pool.governing(self.stage).is_some_and(|policy| draining >= policy.rollout.max_draining) {
            return Some(format!("pool {name}: {draining} workers still drain (max_draining)"));
        }
        let wanted = pool.wanted(self.stage);
        let unmoved = pool
            .wanted_places(wanted.slots)
            .find(|(index, slot)| !slot.is_some_and(|found| is_settled(found, wanted.of(*index, *slot))));
        unmoved.map(|(slot, _)| format!("pool {name}: the new worker of slot {slot} to become ready"))
    }

    /// The worker that must be gone before the next one of its slot starts (stop-first).
    pub(super) fn in_the_way(&self, pool: &Pool) -> Option<(SlotIndex, WorkerId)> {
        if !pool.is_stop_first(self.stage) {
            return None;
        }
        // While the canary bakes, the other slots are not waited for.
        let canary = pool.part.as_ref().and_then(|part| part.canary);
        let is_awaited = |slot: SlotIndex| self.stage != Stage::Canary || Some(slot) == canary;
        let places = pool.wanted_places(pool.wanted_slots(self.stage));
        places.filter(|(index, _)| is_awaited(*index)).find_map(|(index, slot)| {
            let slot = slot.filter(|slot| slot.active().next().is_none())?;
            let ending = slot.workers.iter().find(|worker| !worker.is_let_go())?;
            Some((index, ending.id))
        })
    }

    /// The slots that stay on the thrown-away generation.
    pub(super) fn kept<'a>(&self, pools: impl Iterator<Item = &'a Pool>) -> Vec<Place> {
        pools
            .flat_map(|pool| pool.slots.iter().map(move |(index, slot)| (pool, *index, slot)))
            .filter(|(_, _, slot)| slot.kept == Some(self.generation))
            .map(|(pool, slot, _)| Place { pool: pool.name.clone(), slot, generation: self.generation })
            .collect()
    }
}

/// When the canary of a pool will have stayed ready long enough; `None` while it is not ready. One that is worn
/// serves like any other, so it proves as much. One that became ready by staying has stayed already.
fn canary_proven_at(pool: &Pool) -> Option<Monotonic> {
    let part = pool.part.as_ref()?;
    let slot = pool.slots.get(&part.canary?)?;
    let worker = slot.of(part.target).find(|worker| worker.is_ready())?;
    let ready = worker.ready?;
    Some(if worker.bakes() { ready } else { ready + pool.policy_of(worker).rollout.bake_time })
}

fn canary_is_proven(pool: &Pool, now: Monotonic) -> bool {
    let needs_none = pool.part.as_ref().is_none_or(|part| part.canary.is_none());
    needs_none || canary_proven_at(pool).is_some_and(|at| at <= now)
}

/// Does a slot run what is wanted, and nothing else?
fn is_settled(slot: &Slot, wanted: Option<Generation>) -> bool {
    slot.of(wanted).any(Worker::is_ready) && slot.foreign(wanted).next().is_none()
}

fn is_moved(pool: &Pool) -> bool {
    let removed = pool.part.as_ref().is_some_and(|part| part.target.is_none());
    let wanted = pool.wanted(Stage::Rolling);
    let settled = |(index, slot): (SlotIndex, Option<&Slot>)| {
        slot.is_some_and(|found| is_settled(found, wanted.of(index, slot)))
    };
    let mut surplus = pool.slots.range(SlotIndex(wanted.slots)..);
    let mut no_more = || surplus.all(|(_, slot)| slot.active().next().is_none());
    removed || (pool.wanted_places(wanted.slots).all(settled) && no_more())
}

/// Nothing of the new generation is active any more, except what is kept.
fn is_back(pool: &Pool) -> bool {
    let wanted = pool.wanted(Stage::Back);
    pool.slots.iter().all(|(index, slot)| slot.foreign(wanted.of(*index, Some(slot))).next().is_none())
}

/// Does the old generation serve again, or has it failed to? Where the new worker went first (stop-first), that is still to
/// be seen when it has gone.
fn is_restored(pool: &Pool) -> bool {
    let wanted = pool.wanted(Stage::Back);
    let has_an_outcome = |(index, slot): (SlotIndex, Option<&Slot>)| {
        let generation = wanted.of(index, slot);
        slot.is_some_and(|slot| {
            slot.of(generation).any(Worker::is_ready) || slot.pacing.has_failed(generation)
        })
    };
    !pool.is_stop_first(Stage::Back) || pool.wanted_places(wanted.slots).all(has_an_outcome)
}

/// The rollback takes too long: ready new workers stay where they are.
fn keep_all(pool: &mut Pool) -> bool {
    if pool.base.is_none() {
        return false;
    }
    let base = pool.base;
    let waiting: Vec<SlotIndex> = pool
        .slots
        .iter()
        .filter(|(_, slot)| slot.kept.is_none() && slot.foreign(base).any(Worker::is_ready))
        .map(|(index, _)| *index)
        .collect();
    for index in &waiting {
        pool.keep_the_new(*index);
    }
    !waiting.is_empty()
}

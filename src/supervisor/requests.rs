//! What people ask for: rollouts (joined while one runs), cancelling, scaling. Each is answered once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::action::{Action, ManagerState, Note, Outcome, RolloutFailure};
use super::event::{Request, Scope};
use super::machine::Life;
use super::pool::Pool;
use super::rollout::Rollout;
use super::slot::Slot;
use super::wanted::{Part, Stage};
use crate::config::model::Policy;
use crate::id::{Generation, PoolName, RequestId, SlotIndex};
use crate::time::Monotonic;

/// The most slots that `scale` may ask for; the configuration has the same limit.
const SCALE_MAX: u32 = 10_000;

/// How long the shell may take to make a generation. A file server or a directory server that is only slow has answered by then;
/// a service manager still waits (systemd: 90 s).
pub const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);

/// A generation that the shell is making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preparing {
    /// Who asked for it.
    pub(super) requests: Vec<RequestId>,
    /// When it is given up; `None`: it is, and the reason is awaited.
    pub(super) until: Option<Monotonic>,
}

/// Rollout requests that wait for the one that runs, joined into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Queued {
    pub(super) requests: Vec<RequestId>,
    pub(super) scope: Scope,
}

impl Queued {
    /// What people asked for and what nobody had to ask for, as one.
    fn joined(asked: Option<Self>, unasked: Option<Scope>) -> Option<Self> {
        match (asked, unasked) {
            (Some(Self { requests, scope }), Some(more)) => {
                Some(Self { requests, scope: scope.joined(more) })
            }
            (None, Some(scope)) => Some(Self { requests: Vec::new(), scope }),
            (asked, None) => asked,
        }
    }
}

/// A `scale` command that is not yet fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PendingScale {
    pub(super) request: RequestId,
    pub(super) pool: PoolName,
    /// Slots that were wanted before it, and that are wanted since.
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Supervisor {
    pub(super) fn requested(&mut self, request: RequestId, what: Request) {
        if let Request::Stop { now } = what {
            return self.stop_requested(request, now);
        }
        if self.phase.is_stopping() {
            return self.fail_at_once(request, "the daemon is stopping");
        }
        match what {
            Request::Roll(scope) => self.roll_requested(request, scope),
            Request::Cancel { pool } => self.cancel_requested(request, pool),
            Request::Scale { pool, workers } => {
                if workers.is_none_or(|workers| workers <= SCALE_MAX) {
                    self.outdo_scales(&pool);
                }
                self.scale_requested(request, pool, workers);
            }
            Request::ScaleBy { pool, by } => self.scale_by_requested(request, pool, by),
            Request::Stop { .. } => {}
        }
    }

    pub(super) fn answer(&mut self, request: RequestId, outcome: Outcome) {
        self.cx.ask(Action::Answer { request, outcome });
    }

    fn refuse(&mut self, request: RequestId, reason: &str) {
        self.answer(request, Outcome::Refused { reason: reason.to_owned() });
    }

    /// There is nothing wrong with the request; it only does not fit the moment.
    fn fail_at_once(&mut self, request: RequestId, reason: &str) {
        self.answer(request, Outcome::Failed { reason: reason.to_owned() });
    }

    fn roll_requested(&mut self, request: RequestId, scope: Scope) {
        self.cx.ask(Action::Tell(ManagerState::Reloading));
        let joined = match self.queued.take() {
            None => Queued { requests: vec![request], scope },
            Some(mut queued) => {
                queued.requests.push(request);
                queued.scope = queued.scope.joined(scope);
                queued
            }
        };
        self.queued = Some(joined);
        self.begin_queued(false);
    }

    /// Begins the rollout that was asked for, joined with what lost listeners need now, if none runs and the start is
    /// over (or cannot get on).
    pub(super) fn begin_queued(&mut self, tell: bool) {
        if self.is_rolling() || self.phase.is_stopping() {
            return;
        }
        self.pace_lost();
        if self.phase == Life::Starting && !self.start_is_stuck() {
            return;
        }
        let lost = self.take_lost();
        let Some(Queued { requests, scope }) = Queued::joined(self.queued.take(), lost) else { return };
        if tell {
            self.cx.ask(Action::Tell(ManagerState::Reloading));
        }
        let generation = Generation(self.last_generation.0 + 1);
        self.preparing = Some(Preparing { requests, until: Some(self.cx.now + PREPARE_TIMEOUT) });
        self.cx.ask(Action::Prepare { generation, scope });
    }

    pub(super) fn prepared(&mut self, pools: BTreeMap<PoolName, Option<Policy>>) {
        let Some(Preparing { requests, .. }) = self.preparing.take() else { return };
        let generation = Generation(self.last_generation.0 + 1);
        self.last_generation = generation;
        self.generations.insert(generation);
        for (name, policy) in pools {
            self.take_part(name, generation, policy);
        }
        self.cx.note(Note::RolloutStarted { generation });
        self.rollout = Some(Rollout::new(generation, requests, self.cx.now));
    }

    fn take_part(&mut self, name: PoolName, generation: Generation, policy: Option<Policy>) {
        if policy.is_none() && !self.pools.contains_key(&name) {
            return;
        }
        let pool = self.pools.entry(name.clone()).or_insert_with(|| Pool::new(name));
        let target = policy.map(|policy| {
            pool.policies.insert(generation, policy);
            generation
        });
        pool.part = Some(Part { target, canary: None, failures: 0, verdict: None });
        let slots = pool.wanted_slots(Stage::Rolling);
        let canary = target.and_then(|_| pool.choose_canary(slots));
        if let Some(part) = &mut pool.part {
            part.canary = canary;
        }
    }

    /// The shell takes too long: it is to say with what.
    pub(super) fn pass_preparing(&mut self) {
        let late =
            |preparing: &mut Preparing| preparing.until.take_if(|until| *until <= self.cx.now).is_some();
        if self.preparing.as_mut().is_some_and(late) {
            self.cx.ask(Action::GiveUpPreparing);
        }
    }

    pub(super) fn prepare_refused(&mut self, reason: &str) {
        let Some(Preparing { requests, .. }) = self.preparing.take() else { return };
        self.tell_ready();
        for request in requests {
            self.refuse(request, reason);
        }
        self.begin_queued(true);
    }

    fn cancel_requested(&mut self, request: RequestId, pool: Option<PoolName>) {
        if pool.is_none()
            && let Some(Preparing { requests, .. }) = self.preparing.take()
        {
            return self.preparation_cancelled(request, requests);
        }
        let takes_part = |name: &PoolName| self.pools.get(name).is_some_and(|pool| pool.part.is_some());
        let covered = pool.as_ref().is_none_or(takes_part);
        let Some(rollout) = self.rollout.as_mut().filter(|_| covered) else {
            return self.fail_at_once(request, "no such rollout is running");
        };
        rollout.cancels.push(request);
        if rollout.stage != Stage::Back {
            rollout.fail(RolloutFailure::Cancelled, &mut self.cx);
        }
    }

    /// Nothing was changed yet, so nothing goes back.
    fn preparation_cancelled(&mut self, cancel: RequestId, requests: Vec<RequestId>) {
        self.tell_ready();
        self.answer(cancel, Outcome::Done { generation: None });
        for request in requests {
            self.fail_at_once(request, "cancelled before anything was changed");
        }
        self.begin_queued(true);
    }

    /// An absolute number takes the place of what was asked for before.
    fn outdo_scales(&mut self, name: &PoolName) {
        if self.pools.get(name).is_none_or(|pool| pool.base.is_none()) {
            return;
        }
        for earlier in std::mem::take(&mut self.scales) {
            if earlier.pool == *name {
                let reason = "another scale command for this pool came after it".to_owned();
                self.answer(earlier.request, Outcome::Failed { reason });
            } else {
                self.scales.push(earlier);
            }
        }
    }

    /// Of two clients that want one more at the same time, each gets one, and is answered when both are there.
    fn scale_by_requested(&mut self, request: RequestId, name: PoolName, by: i32) {
        let Some(pool) = self.pools.get(&name).filter(|pool| pool.base.is_some()) else {
            return self.refuse(request, &format!("there is no pool {name}"));
        };
        let from = self.slots_asked_for(pool);
        match from.checked_add_signed(by) {
            Some(workers @ 1..=SCALE_MAX) => self.scale_requested(request, name, Some(workers)),
            sum => {
                let sum = sum.map_or_else(|| "fewer than none".to_owned(), |sum| sum.to_string());
                let reason = format!(
                    "pool {name} has {from} workers, and {by:+} makes {sum}: there are 1 to {SCALE_MAX}"
                );
                self.refuse(request, &reason);
            }
        }
    }

    /// The slots of a pool, without the place that a canary may need beyond them.
    fn slots_asked_for(&self, pool: &Pool) -> u32 {
        let stage = pool.stage(self.stage());
        pool.wanted_slots(if stage == Stage::Canary { Stage::Steady } else { stage })
    }

    fn scale_requested(&mut self, request: RequestId, name: PoolName, workers: Option<u32>) {
        if workers.is_some_and(|workers| workers > SCALE_MAX) {
            return self.refuse(request, &format!("a pool has at most {SCALE_MAX} workers"));
        }
        let Some(pool) = self.pools.get(&name).filter(|pool| pool.base.is_some()) else {
            return self.refuse(request, &format!("there is no pool {name}"));
        };
        let from = self.slots_asked_for(pool);
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.scale = workers;
        }
        let to = self.pools.get(&name).map_or(from, |pool| self.slots_asked_for(pool));
        self.scales.push(PendingScale { request, pool: name, from, to });
    }

    /// Answers the `scale` commands that are fulfilled, or cannot be.
    pub(super) fn judge_scales(&mut self) {
        for pending in std::mem::take(&mut self.scales) {
            match self.scale_outcome(&pending) {
                Some(outcome) => self.answer(pending.request, outcome),
                None => self.scales.push(pending),
            }
        }
    }

    fn scale_outcome(&self, PendingScale { pool: name, from, to, .. }: &PendingScale) -> Option<Outcome> {
        let Some(pool) = self.pools.get(name).filter(|pool| pool.base.is_some()) else {
            return Some(Outcome::Failed { reason: format!("pool {name} was removed") });
        };
        let stage = pool.stage(self.stage());
        let wanted = pool.wanted(stage);
        // The place that a canary needs beyond the slots is not what was asked for.
        let slots = self.slots_asked_for(pool);
        let loops = |(index, slot): &(SlotIndex, Option<&Slot>)| {
            slot.is_some_and(|found| found.pacing.is_crash_loop(wanted.of(*index, *slot)))
        };
        if let Some((slot, _)) = pool.wanted_places(slots).find(loops) {
            return Some(Outcome::Failed { reason: format!("pool {name}: slot {slot} is in a crash loop") });
        }
        let surplus = pool.slots.range(SlotIndex(slots)..).any(|(_, slot)| slot.active().next().is_some());
        let served = pool.wanted_places(slots).all(|(_, slot)| slot.is_some_and(Slot::has_ready));
        let fulfilled = served && !surplus;
        fulfilled.then(|| Outcome::Scaled { pool: name.clone(), from: *from, to: *to })
    }
}

//! What must hold for each order that the machine gives, at the moment it gives it.

use std::collections::BTreeSet;
use std::time::Duration;

use handover::id::{Generation, PoolName, WorkerId};
use handover::supervisor::{
    Action, ManagerState, Note, Outcome, Place, Request, RolloutFailure, Scope, WorkerFailure,
};

use super::channel::Channel;
use super::shadow::{Check, Shadow, Stage, Violation, Worker, hold};

/// So long the shell may take to make a generation.
const PREPARED_WITHIN: Duration = Duration::from_secs(30);

impl Shadow {
    /// Checks an order, and notes what follows from it.
    pub(crate) fn obey(&mut self, action: &Action) -> Check {
        let last_words = matches!(action, Action::Answer { .. });
        hold(!self.ended || last_words, "nothing follows Exit", || format!("{action:?}"))?;
        match action {
            Action::Spawn { worker, at, exact } => self.spawn(*worker, at, *exact),
            Action::Drain { worker, why, patience } => self.drain(*worker, *why, *patience),
            Action::Ping { worker } => self.ping(*worker),
            Action::Signal { worker, .. } => self.signal(*worker),
            Action::Kill { worker } => {
                self.learn_killed(*worker);
                self.kill(*worker)
            }
            Action::EndGroup { worker, .. } => {
                let worker = self.living(*worker, "EndGroup")?;
                let first = worker.exited && !worker.group_asked;
                worker.group_asked = true;
                hold(first, "a group is ended once, after its main process", || format!("{action:?}"))
            }
            Action::Prepare { generation, scope } => self.prepare(*generation, scope),
            Action::GiveUpPreparing => self.give_up_preparing(),
            Action::Commit { generation } => self.commit(*generation),
            Action::Forget { generation } => {
                let used = self.is_used(*generation);
                hold(!used, "no generation in use is forgotten", || format!("{action:?}"))?;
                let known = self.known.remove(generation);
                hold(known, "a generation is forgotten once", || format!("{action:?}"))
            }
            Action::Answer { request, outcome } => {
                let asked = self.requests.remove(request);
                match asked {
                    None => hold(false, "a request is answered once", || format!("{action:?}")),
                    Some(what) => self.answer(&what, outcome),
                }
            }
            Action::Tell(state) => self.tell(*state),
            Action::ExtendTimeout { by } => {
                self.extended_until = Some(self.now + *by);
                hold(self.is_in_progress(), "more time is asked for while there is progress", String::new)
            }
            Action::Note(note) => self.note(note),
            Action::Exit { failure } => self.exit(failure.is_some()),
        }
    }

    pub(crate) fn living(&mut self, id: WorkerId, what: &str) -> Result<&mut Worker, Violation> {
        self.workers.get_mut(&id).ok_or_else(|| Violation {
            property: "no order is given for a worker that is gone",
            detail: format!("{what} for {id}"),
        })
    }

    fn spawn(&mut self, id: WorkerId, at: &Place, exact: bool) -> Check {
        let wrong = |text: &str| format!("{text}: worker {id} at {at} (exact: {exact}), {:?}", self.rollout);
        hold(id.0 > self.spawned, "a worker's number is never used again", || wrong("number"))?;
        hold(self.stopping.is_none(), "a stopping daemon starts nothing", || wrong("stopping"))?;
        hold(!self.failed.contains(&at.generation), "a failed generation is never built on", || {
            wrong("failed")
        })?;
        let stage = self.stage(&at.pool);
        let (base, target) = (self.pools[&at.pool].base, self.target(&at.pool));
        let moves = matches!(stage, Stage::Canary | Stage::Rolling);
        let right = Some(at.generation) == base || (moves && Some(at.generation) == target);
        hold(right, "only a wanted generation is started", || wrong("generation"))?;
        if stage == Stage::Canary && Some(at.generation) == target {
            let pool = self.pools.entry(at.pool.clone()).or_default();
            let slot = *pool.canary.get_or_insert(at.slot);
            hold(slot == at.slot, "one canary in a pool, in one slot", || wrong("canary"))?;
        }
        let most = self.most_slots(&at.pool);
        hold(at.slot.0 < most, "only wanted slots are filled", || wrong("slot"))?;
        let is_canary = stage == Stage::Canary && Some(at.generation) == target;
        let fills = |w: &Worker| w.is_active() && (!w.worn || is_canary);
        let twin = self.in_slot(at).any(|w| fills(w) && w.place.generation == at.generation);
        hold(!twin, "a slot runs a generation once, except beside who is worn", || wrong("twin"))?;
        let is_foreign = |worker: &Worker| worker.is_ready() && worker.place.generation != at.generation;
        let may = exact == (stage == Stage::Back && self.in_slot(at).any(is_foreign));
        hold(may, "exact starts belong to rollbacks", || wrong("exact"))?;
        if let Some(pace) = self.paces.get(&(at.pool.clone(), at.slot)) {
            let early = pace.generation == at.generation && self.now < pace.not_before;
            hold(!early, "no start before its backoff", || {
                format!("{}, {pace:?}, {}", wrong("pace"), self.now)
            })?;
        }
        let alone = !self.is_stop_first(&at.pool) || self.in_slot(at).all(|w| w.let_go);
        hold(alone, "stop-first: a slot is empty before its next worker starts", || wrong("beside another"))?;
        self.check_starts(at)?;
        self.check_live_limit(&at.pool, most, stage)?;
        let ready_by = self.moment(self.policy(at).start_timeout);
        self.spawned = id.0;
        let worker = Worker {
            id,
            place: at.clone(),
            executed: false,
            ready: None,
            asked: None,
            exited: false,
            ready_by,
            bakes_until: None,
            watchdog_by: None,
            kill_from: None,
            killed: false,
            gone_by: None,
            unkillable: false,
            let_go: false,
            signalled: false,
            group_asked: false,
            said_stopping: false,
            triggered: false,
            channel: Channel::default(),
            worn: false,
            failed: false,
            asked_early: false,
            dead: BTreeSet::new(),
        };
        self.workers.insert(id, worker);
        Ok(())
    }

    /// The slots there may be: those of the old and of the new generation, and the canary's.
    pub(crate) fn most_slots(&self, pool: &PoolName) -> u32 {
        let slots = self.slots(pool);
        let target = self.target(pool);
        match self.stage(pool) {
            Stage::Canary => {
                let canary = self.pools[pool].canary.map_or(0, |slot| slot.0 + 1);
                slots.max(self.slots_in(pool, target)).max(canary)
            }
            _ => slots,
        }
    }

    fn check_live_limit(&self, pool: &PoolName, slots: u32, stage: Stage) -> Check {
        let live = self.in_pool(pool).filter(|worker| worker.is_active()).count() + 1;
        let most = slots + self.limits(pool).surge;
        hold(live <= most as usize, "live workers are at most N + surge", || {
            format!("{live} of {most} in pool {pool}, {stage:?}")
        })
    }

    fn kill(&mut self, id: WorkerId) -> Check {
        let (now, stop_now) = (self.now, self.stop_now);
        let worker = self.living(id, "Kill")?;
        let again = std::mem::replace(&mut worker.killed, true);
        hold(!again, "a worker is killed once", || format!("{worker:?}"))?;
        let over = worker.asked.is_some() || worker.exited;
        let unborn = !worker.executed && !worker.exited;
        let due = worker.kill_from.is_some_and(|from| from <= now);
        hold(over && (unborn || due || stop_now), "a kill comes after its grace", || format!("{worker:?}"))
    }

    fn prepare(&mut self, generation: Generation, scope: &Scope) -> Check {
        let alone = self.preparing.is_none() && self.rollout.is_none() && self.stopping.is_none();
        let detail = || format!("{generation}, newest {}", self.newest);
        hold(alone, "one rollout at a time", detail)?;
        hold(generation.0 == self.newest.0 + 1, "generations are counted up", detail)?;
        self.preparing = Some((generation, Some(self.now + PREPARED_WITHIN)));
        self.check_reason(scope)
    }

    fn give_up_preparing(&mut self) -> Check {
        let now = self.now;
        let until = self.preparing.as_mut().and_then(|(_, until)| until.take());
        hold(until.is_some_and(|until| until <= now), "what takes too long is given up once", || {
            format!("{until:?} at {now}")
        })
    }

    fn commit(&mut self, generation: Generation) -> Check {
        let current =
            self.rollout.as_ref().is_some_and(|r| r.generation == generation && r.proven && !r.back);
        hold(current, "only a proven rollout is committed", || generation.to_string())?;
        for name in self.pools.keys() {
            let Some(Some(target)) = self.pools[name].part else { continue };
            let unmoved = self.unmoved(name, target);
            hold(unmoved.is_none(), "a rollout is done when every slot moved", || {
                format!("{name} {unmoved:?}")
            })?;
        }
        self.rollout = None;
        self.learn_end_of_roll();
        self.committed = generation;
        for pool in self.pools.values_mut() {
            if let Some(target) = pool.part.take() {
                pool.base = target;
            }
            if pool.base.is_none() {
                pool.scale = None;
            }
        }
        Ok(())
    }

    /// A slot that does not run `generation` and nothing else.
    pub(crate) fn unmoved(&self, pool: &PoolName, generation: Generation) -> Option<u32> {
        let slots = self.slots(pool);
        let active: Vec<&Worker> = self.in_pool(pool).filter(|worker| worker.is_active()).collect();
        let strange = active.iter().find(|w| w.place.generation != generation || w.place.slot.0 >= slots);
        let served = |slot: u32| active.iter().any(|w| w.is_ready() && w.place.slot.0 == slot);
        strange.map(|worker| worker.place.slot.0).or_else(|| (0..slots).find(|slot| !served(*slot)))
    }

    fn tell(&mut self, state: ManagerState) -> Check {
        match state {
            ManagerState::Reloading => {
                self.reloading = true;
                hold(self.stopping.is_none(), "no RELOADING while stopping", String::new)
            }
            ManagerState::Ready => {
                hold(self.stopping.is_none(), "no READY while stopping", String::new)?;
                let wanted = !self.started || self.reloading;
                hold(wanted, "READY once for the start and once for RELOADING", || {
                    "nobody waits".to_owned()
                })?;
                if !self.started {
                    let lacking = self.pools.keys().find(|name| !self.is_up(name));
                    hold(lacking.is_none(), "READY when the pools are", || format!("{lacking:?}"))?;
                }
                (self.started, self.reloading) = (true, false);
                Ok(())
            }
            ManagerState::Stopping => self.begin_stop(),
        }
    }

    fn begin_stop(&mut self) -> Check {
        hold(self.stopping.is_none(), "STOPPING once", String::new)?;
        let hopeless = !self.started && self.pools.keys().any(|name| self.is_hopeless(name));
        let reason = self.stop_asked || self.broken || hopeless;
        hold(reason, "a stop has a reason", || format!("{:?}", self.pools))?;
        self.stopping = Some(self.now);
        (self.rollout, self.preparing) = (None, None);
        // What was granted for a start or a reload does not hold for a stop.
        self.extended_until = None;
        let now = self.now;
        let policies = &self.policies;
        for worker in self.workers.values_mut().filter(|worker| !worker.is_active() && !worker.killed) {
            let policy = &policies[&(worker.place.pool.clone(), worker.place.generation)];
            let latest = now.after(policy.stop_timeout);
            let waits = worker.awaits_signal();
            let at = if waits { &mut worker.channel.signal_from } else { &mut worker.kill_from };
            *at = [*at, latest].into_iter().flatten().min();
        }
        Ok(())
    }

    fn exit(&mut self, failure: bool) -> Check {
        let left = self.workers.values().any(|worker| worker.let_go);
        let none = self.workers.values().all(|worker| worker.let_go);
        hold(none, "Exit leaves nobody behind", || format!("{:?}", self.workers))?;
        hold(self.stopping.is_some(), "Exit follows a stop", String::new)?;
        hold(self.requests.is_empty(), "everybody is answered before Exit", || {
            format!("{:?}", self.requests)
        })?;
        let asked = self.stop_asked && !failure;
        let failed = failure && (self.broken || !self.started || left);
        hold(failure || !left, "Exit says that somebody was left behind", String::new)?;
        hold(asked || failed, "Exit says whether it failed", || failure.to_string())?;
        self.ended = true;
        Ok(())
    }

    fn answer(&mut self, what: &Request, outcome: &Outcome) -> Check {
        let detail = || format!("{what:?}: {outcome:?}");
        if self.stopping.is_some() {
            let stop = matches!(what, Request::Stop { .. });
            let left = self.workers.values().any(|worker| worker.let_go) && !self.ended;
            let fits = matches!(outcome, Outcome::Failed { .. } | Outcome::Refused { .. }) != (stop && !left);
            return hold(fits, "a stopping daemon finishes nothing else", detail);
        }
        let fits = match (what, outcome) {
            (Request::Roll(_), Outcome::Done { generation: Some(generation) }) => {
                *generation == self.committed && self.rollout.is_none()
            }
            (Request::Roll(_), Outcome::RolledBack { generation, kept, .. }) => {
                self.failed.contains(generation) && self.kept(*generation) == *kept
            }
            (Request::Roll(_), Outcome::Refused { .. }) => self.rollout.is_none(),
            (Request::Roll(_), Outcome::Failed { .. }) => self.unprepared,
            (Request::Cancel { .. }, Outcome::Done { .. }) => {
                self.rollout.is_none() && (self.cancels > 0 || self.unprepared)
            }
            (Request::Cancel { .. }, Outcome::Failed { .. }) => true,
            (Request::Scale { pool, .. } | Request::ScaleBy { pool, .. }, Outcome::Scaled { .. }) => {
                self.is_scaled(pool)
            }
            (
                Request::Scale { .. } | Request::ScaleBy { .. },
                Outcome::Refused { .. } | Outcome::Failed { .. },
            ) => true,
            _ => false,
        };
        hold(fits, "an answer says what is so", detail)?;
        let told = !matches!(what, Request::Roll(_)) || !self.reloading || !self.started;
        hold(told, "READY goes before the answer", detail)
    }

    fn kept(&self, generation: Generation) -> Vec<Place> {
        let stays = |w: &&Worker| w.is_active() && w.place.generation == generation;
        let mut kept: Vec<Place> = self.workers.values().filter(stays).map(|w| w.place.clone()).collect();
        kept.sort();
        kept.dedup();
        kept
    }

    fn is_scaled(&self, pool: &PoolName) -> bool {
        let slots = self.slots(pool);
        let active = || self.in_pool(pool).filter(|worker| worker.is_active());
        let served = |slot: u32| active().any(|w| w.is_ready() && w.place.slot.0 == slot);
        (0..slots).all(served) && active().all(|worker| worker.place.slot.0 < slots)
    }

    fn note(&mut self, note: &Note) -> Check {
        match note {
            Note::WorkerReady { worker, .. } => {
                let now = self.now;
                let policy = self.workers.get(worker).map(|worker| self.policy(&worker.place).clone());
                if let Some(policy) = policy
                    && let Some(worker) = self.workers.get_mut(worker)
                    && worker.ready.is_none()
                    && worker.has_baked(now)
                {
                    worker.become_ready(now, &policy);
                }
                let ready = self.workers.get(worker).is_some_and(|worker| worker.ready.is_some());
                hold(ready, "readiness is told when it is so", || format!("{note:?}"))
            }
            Note::WorkerNotReady { worker, .. } => {
                let starts = |worker: &Worker| {
                    worker.is_active() && worker.ready.is_none() && worker.bakes_until.is_none()
                };
                let late = self.workers.get(worker).is_some_and(starts);
                hold(late, "who is said to lack something is not ready", || format!("{note:?}"))
            }
            Note::Retiring { worker, place, why } => self.retire(*worker, place, *why),
            Note::WorkerFailed { worker, place, failure, .. } => self.worker_failed(*worker, place, failure),
            Note::SuccessorWaits { worker, place } => self.successor_waits(*worker, place),
            Note::PoolsRolled { pools, listeners } => self.pools_rolled(pools, listeners),
            Note::RolloutStarted { generation } => {
                let current = self.rollout.as_ref().is_some_and(|rollout| rollout.generation == *generation);
                hold(current, "a rollout begins with its generation", || format!("{note:?}"))
            }
            Note::CanaryProven { .. } => {
                let unproven = self.pools.keys().find(|name| !self.is_baked(name));
                hold(unproven.is_none(), "every canary bakes", || format!("{unproven:?}"))?;
                self.rollout.as_mut().into_iter().for_each(|rollout| rollout.proven = true);
                Ok(())
            }
            Note::RollingBack { generation, reason } => self.roll_back(*generation, reason),
            Note::ReplacementWished { worker, .. } => {
                let worn =
                    self.workers.get(worker).is_some_and(|worker| worker.worn && !worker.channel.counted);
                hold(worn, "a wish is told when it is made", || format!("{note:?}"))
            }
            Note::RolloutDone { .. } | Note::TimeLost(_) => Ok(()),
            Note::StopSignal { effect } => self.check_effect(*effect),
            Note::WorkerLetGo { worker, .. } => self.let_go(*worker),
            Note::RolledBack { generation, kept } => {
                let really = self.kept(*generation);
                hold(really == *kept, "what is kept is said", || format!("{really:?}, said {kept:?}"))?;
                self.rollout = None;
                self.learn_end_of_roll();
                self.pools.values_mut().for_each(|pool| pool.part = None);
                Ok(())
            }
        }
    }

    fn successor_waits(&mut self, id: WorkerId, place: &Place) -> Check {
        let ends = self.workers.get(&id).is_some_and(|worker| !worker.is_active());
        let fits = ends && self.is_stop_first(&place.pool);
        hold(fits, "stop-first: only a worker that ends is waited for", || format!("{id} {place}"))
    }

    fn roll_back(&mut self, generation: Generation, reason: &RolloutFailure) -> Check {
        let fits = match reason {
            RolloutFailure::Cancelled => self.cancels > 0,
            RolloutFailure::Deadline { .. } => self.pools.keys().any(|name| self.is_late(name)),
            RolloutFailure::Worker { place, .. } => self.has_failed(&place.pool),
        };
        hold(fits, "a rollback has its reason", || format!("{reason:?}"))?;
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| !rollout.back) else {
            return hold(false, "a rollout turns round once", || generation.to_string());
        };
        rollout.back = true;
        self.starts.clear();
        rollout.started = self.now;
        self.failed.insert(generation);
        Ok(())
    }

    fn worker_failed(&mut self, id: WorkerId, place: &Place, failure: &WorkerFailure) -> Check {
        let mut counts = true;
        if *failure == WorkerFailure::ChannelLost {
            self.learn_lost(id);
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            let again = std::mem::replace(&mut worker.failed, true);
            // One whose channel was lost, or that asked to be replaced, serves on; that it dies is told, and counts no more.
            counts = !again;
            hold(!again || worker.channel.counted || worker.asked_early, "a worker fails once", || {
                format!("{worker:?} {failure:?}")
            })?;
            let fits = match failure {
                WorkerFailure::Watchdog { .. } => true,
                WorkerFailure::Unresponsive { .. } => worker.ready.is_some(),
                WorkerFailure::ChannelLost => worker.channel.counted && !again,
                WorkerFailure::AskedTooEarly { .. } => worker.asked_early && !again,
                WorkerFailure::Died { .. } => worker.ready.is_some(),
                _ => worker.ready.is_none(),
            };
            hold(fits, "a failure is told as it was", || format!("{worker:?} {failure:?}"))?;
        }
        if matches!(failure, WorkerFailure::Unresponsive { .. }) {
            self.check_silence(id)?;
        }
        let target = self.target(&place.pool);
        let forward = matches!(self.stage(&place.pool), Stage::Canary | Stage::Rolling);
        if let Some(pool) = self.pools.get_mut(&place.pool)
            && forward
            && counts
            && target == Some(place.generation)
        {
            pool.failures += 1;
        }
        Ok(())
    }
}

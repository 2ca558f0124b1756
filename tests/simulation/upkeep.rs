//! What must hold after each step, and what must have happened by then: nothing due is left lying.

use handover::id::{Generation, PoolName, SlotIndex};
use handover::time::Monotonic;

use super::shadow::{Check, Shadow, Stage, TICK, Worker, hold};

impl Shadow {
    /// Checks the machine after it answered an event; `deadline` is its next.
    pub(crate) fn after_step(&mut self, deadline: Option<Monotonic>) -> Check {
        hold(deadline.is_none_or(|at| at > self.now), "the next deadline lies ahead", || {
            format!("{deadline:?}")
        })?;
        self.forget_pools();
        for worker in self.workers.values() {
            self.check_worker(worker, deadline)?;
        }
        let lost = self.known.iter().find(|generation| !self.is_used(**generation));
        hold(lost.is_none(), "an unused generation is forgotten", || format!("{lost:?}"))?;
        self.check_rollout(deadline)?;
        self.check_start()?;
        self.check_lost(deadline)?;
        let until = self.preparing.and_then(|(_, until)| until);
        let waits = until.is_none_or(|until| until > self.now && deadline.is_some_and(|next| next <= until));
        hold(waits, "a generation that takes too long is given up", || format!("{until:?}"))?;
        self.check_extension(deadline)
    }

    fn forget_pools(&mut self) {
        let inhabited: Vec<PoolName> =
            self.workers.values().map(|worker| worker.place.pool.clone()).collect();
        self.pools
            .retain(|name, pool| pool.base.is_some() || pool.part.is_some() || inhabited.contains(name));
        let paces = std::mem::take(&mut self.paces);
        let wanted = |name: &PoolName, slot: SlotIndex| {
            let slots = |pool| self.slots(pool).max(self.slots_in(pool, self.target(pool)));
            let here = |worker: &Worker| &worker.place.pool == name && worker.place.slot == slot;
            self.pools.contains_key(name) && (slot.0 < slots(name) || self.workers.values().any(here))
        };
        let paces = paces.into_iter().filter(|((name, slot), _)| wanted(name, *slot)).collect();
        self.paces = paces;
    }

    fn check_worker(&self, worker: &Worker, deadline: Option<Monotonic>) -> Check {
        let detail = || format!("{worker:?} at {}, next deadline {deadline:?}", self.now);
        let active = worker.is_active();
        hold(!(active && self.stopping.is_some()), "a stop asks everybody to end", detail)?;
        hold(!(active && worker.said_stopping), "a wish is granted", detail)?;
        hold(!(active && worker.triggered), "a triggered watchdog is obeyed", detail)?;
        let spoke = !worker.executed
            || worker.signalled
            || worker.channel.drained
            || active
            || worker.killed
            || worker.exited;
        let own = worker.asked.is_some_and(|(_, why)| why == handover::supervisor::Retirement::OwnWish);
        hold(spoke || own, "who is asked to end is told so", detail)?;
        hold(worker.exited == worker.group_asked, "the rest of a group is ended", detail)?;
        hold(!self.stop_now || worker.killed, "a stop at once kills everybody", detail)?;
        let told = !worker.channel.counted || worker.failed;
        hold(told, "a lost channel is told", detail)?;
        hold(
            !worker.asked_early || worker.failed,
            "a wish that comes too early is told as a failure",
            detail,
        )?;
        self.check_let_go(worker, deadline)?;
        let due = match active {
            true => {
                let bakes_until = worker.bakes_until.filter(|_| worker.ready.is_none());
                hold(bakes_until.is_none_or(|at| at > self.now), "who has stayed is ready", detail)?;
                let lost_at = worker.channel.lost_at().filter(|_| !worker.worn);
                [worker.ready_by.or(bakes_until), worker.watchdog_by, worker.channel.ping_at, lost_at]
            }
            false => [worker.kill_from, worker.channel.signal_from, None, None],
        };
        for at in due.into_iter().flatten().filter(|_| !worker.killed) {
            hold(at >= self.now, "nothing due is left lying", detail)?;
            let latest = at.max(self.now + TICK);
            hold(deadline.is_some_and(|next| next <= latest), "what falls due is waited for", detail)?;
        }
        Ok(())
    }

    /// Does anything need this generation?
    pub(crate) fn is_used(&self, generation: Generation) -> bool {
        generation == self.committed
            || self.rollout.as_ref().is_some_and(|rollout| rollout.generation == generation)
            || self.workers.values().any(|worker| worker.place.generation == generation)
            || self
                .pools
                .values()
                .any(|pool| pool.base == Some(generation) || pool.part == Some(Some(generation)))
    }

    fn check_rollout(&self, deadline: Option<Monotonic>) -> Check {
        let Some(rollout) = &self.rollout else { return Ok(()) };
        let detail = || format!("{rollout:?} at {}, {:?}", self.now, self.pools);
        let baked = self.pools.keys().all(|name| self.is_baked(name));
        hold(rollout.proven || rollout.back || !baked, "baked canaries are noticed", detail)?;
        for name in self.pools.keys() {
            hold(rollout.back || !self.has_failed(name), "too many failures end a rollout", detail)?;
            hold(rollout.back || !self.is_late(name), "a deadline ends a rollout", detail)?;
            let waits = self
                .deadline(name)
                .is_none_or(|at| at <= self.now || deadline.is_some_and(|next| next <= at));
            hold(waits, "the rollout's deadline is waited for", detail)?;
        }
        Ok(())
    }

    /// When a pool's part in the running rollout must be over.
    fn deadline(&self, pool: &PoolName) -> Option<Monotonic> {
        let rollout = self.rollout.as_ref()?;
        self.pools[pool].part?;
        rollout.started.after(self.governing(pool)?.rollout.deadline)
    }

    pub(crate) fn is_late(&self, pool: &PoolName) -> bool {
        let Some(target) = self.target(pool) else { return false };
        let passed = self.deadline(pool).is_some_and(|at| at <= self.now);
        passed && (self.stage(pool) == Stage::Canary || self.unmoved(pool, target).is_some())
    }

    pub(crate) fn has_failed(&self, pool: &PoolName) -> bool {
        let Some(target) = self.target(pool) else { return false };
        let most = self.policies[&(pool.clone(), target)].rollout.max_failures;
        self.pools[pool].failures >= most
    }

    /// Has the pool's canary stayed ready long enough?
    pub(crate) fn is_baked(&self, pool: &PoolName) -> bool {
        let Some(target) = self.target(pool).filter(|_| self.pools[pool].needs_canary) else { return true };
        let bake = self.policies[&(pool.clone(), target)].rollout.bake_time;
        let stayed =
            |w: &Worker| w.has_baked(self.now) || w.ready.is_some_and(|since| since + bake <= self.now);
        let baked = |w: &Worker| w.is_ready() && stayed(w);
        self.in_pool(pool).any(|worker| worker.place.generation == target && baked(worker))
    }

    /// Ready and failing slots of a pool, of how many.
    fn count(&self, pool: &PoolName) -> (u32, u32, u32) {
        let slots = self.slots(pool).max(match self.stage(pool) {
            Stage::Canary => self.slots_in(pool, self.target(pool)).min(1),
            _ => 0,
        });
        let is_served = |slot: u32| self.in_pool(pool).any(|w| w.is_ready() && w.place.slot.0 == slot);
        let is_failing = |slot: u32| {
            let burst = |generation| self.policies[&(pool.clone(), generation)].restart.burst;
            let pace = self.paces.get(&(pool.clone(), SlotIndex(slot)));
            let wanted = |generation| match self.stage(pool) {
                Stage::Steady | Stage::Back => Some(generation) == self.pools[pool].base,
                Stage::Rolling => Some(generation) == self.target(pool),
                Stage::Canary => true,
            };
            pace.is_some_and(|pace| wanted(pace.generation) && pace.failures >= burst(pace.generation))
        };
        let served = (0..slots).filter(|slot| is_served(*slot)).count();
        let failing = (0..slots).filter(|slot| !is_served(*slot) && is_failing(*slot)).count();
        (u32::try_from(served).expect("few"), u32::try_from(failing).expect("few"), slots)
    }

    pub(crate) fn is_up(&self, pool: &PoolName) -> bool {
        let (ready, failing, slots) = self.count(pool);
        let least = self.governing(pool).map_or(0, |policy| policy.min_ready.min(slots));
        ready >= least && ready + failing == slots
    }

    pub(crate) fn is_hopeless(&self, pool: &PoolName) -> bool {
        let (_, failing, slots) = self.count(pool);
        slots > 0 && failing == slots
    }

    fn check_start(&self) -> Check {
        if self.started || self.stopping.is_some() || self.rollout.is_some() || self.preparing.is_some() {
            return Ok(());
        }
        let up = self.pools.keys().all(|name| self.is_up(name));
        hold(!up, "READY is told as soon as it is so", || format!("{:?}", self.pools))?;
        let hopeless = self.pools.keys().any(|name| self.is_hopeless(name));
        hold(!hopeless, "a hopeless start ends", || format!("{:?}", self.paces))
    }

    /// A start whose slots are all ready or failing again and again makes none.
    pub(crate) fn is_in_progress(&self) -> bool {
        let is_settled = |(ready, failing, slots): (u32, u32, u32)| ready + failing == slots;
        let stuck = self.pools.keys().all(|name| is_settled(self.count(name)));
        self.rollout.is_some() || (!self.started && !stuck) || self.stopping.is_some()
    }

    /// The service manager was asked to wait for longer than we sleep.
    fn check_extension(&self, deadline: Option<Monotonic>) -> Check {
        if self.ended || !self.is_in_progress() {
            return Ok(());
        }
        let enough = self.extended_until.is_some_and(|until| deadline.is_none_or(|at| until > at));
        hold(enough, "more time is asked for before it is needed", || {
            format!("extended until {:?}, next deadline {deadline:?}", self.extended_until)
        })
    }
}

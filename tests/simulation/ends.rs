//! When a worker may be asked to end, and for which reasons.

use handover::config::model::Share;
use handover::id::{Generation, PoolName, WorkerId};
use handover::supervisor::{Place, Retirement};

use super::shadow::{Check, Shadow, Stage, Worker, hold, patience};

/// So many workers may be asked to end by ourselves, and so many may be started above the slots.
pub(crate) struct Limits {
    pub(crate) surge: u32,
    pub(crate) unavailable: u32,
}

impl Shadow {
    pub(crate) fn limits(&self, pool: &PoolName) -> Limits {
        let slots = self.most_slots(pool);
        let policy = self.governing(pool).map(|policy| &policy.rollout);
        let surge = policy.map_or(Share::Count(1), |rollout| rollout.max_surge).of_rounded_up(slots);
        let unavailable = policy.map_or(Share::Count(0), |rollout| rollout.max_unavailable);
        let unavailable = unavailable.of_rounded_down(slots);
        if self.is_stop_first(pool) {
            return Limits { surge: 0, unavailable: unavailable.max(1) };
        }
        let start_first = unavailable == 0 || self.stage(pool) == Stage::Back;
        Limits { surge: if start_first { surge.max(1) } else { surge }, unavailable }
    }

    pub(crate) fn retire(&mut self, id: WorkerId, place: &Place, why: Retirement) -> Check {
        let silent = self.is_unresponsive(id);
        let detail = || format!("{why:?} {:?}, {:?}", self.workers.get(&id), self.rollout);
        let active = self.workers.get(&id).is_some_and(Worker::is_active);
        hold(active, "a worker is asked to end once", detail)?;
        let worker = &self.workers[&id];
        let (is_ready, ready, paced) = (worker.is_ready(), worker.ready, worker.is_paced());
        let fair = match why {
            Retirement::DaemonStops => self.stopping.is_some(),
            Retirement::OwnWish => worker.said_stopping,
            Retirement::StartTimeout => worker.ready_by.is_some_and(|by| by <= self.now),
            Retirement::Watchdog => {
                silent || worker.triggered || worker.watchdog_by.is_some_and(|by| by <= self.now)
            }
            Retirement::Removed => place.slot.0 >= self.slots(&place.pool),
            Retirement::RolledBack => self.may_roll_back(worker),
            Retirement::Replaced => worker.worn || self.is_of_the_past(place),
            Retirement::MakeRoom => {
                self.is_stop_first(&place.pool) && (worker.worn || self.is_of_the_past(place))
            }
        };
        hold(fair, "a worker is asked to end for a reason", detail)?;
        if matches!(why, Retirement::Replaced | Retirement::MakeRoom) && is_ready {
            self.check_replaced(id, place, why)?;
        } else if why == Retirement::Replaced {
            self.check_given_up(id, place)?;
        }
        match (why, ready) {
            _ if paced => {}
            (Retirement::OwnWish, Some(_)) => {
                let early = self.wish(place, ready);
                self.living(id, "Retiring")?.asked_early = early;
            }
            (Retirement::OwnWish, None) => self.failure(place, None, false),
            (Retirement::StartTimeout | Retirement::Watchdog, _) => self.failure(place, ready, true),
            _ => {}
        }
        let waits = self.moment(patience(self.policy(place), why));
        let now = self.now;
        let worker = self.living(id, "Retiring")?;
        worker.asked = Some((now, why));
        worker.kill_from = if worker.executed { waits } else { Some(now) };
        (worker.ready_by, worker.watchdog_by) = (None, None);
        worker.channel.forget_times();
        Ok(())
    }

    /// A rollback ends a ready new worker when its slot's old one is ready, or when the slot goes.
    fn may_roll_back(&self, worker: &Worker) -> bool {
        let place = &worker.place;
        let covered = || self.in_slot(place).any(|other| other.id != worker.id && other.is_ready());
        let makes_room = || self.is_stop_first(&place.pool) && self.may_be_missing(&place.pool);
        let gone = place.slot.0 >= self.slots(&place.pool);
        let new = Some(place.generation) != self.pools[&place.pool].base;
        self.stage(&place.pool) == Stage::Back
            && (!worker.is_ready() || gone || (new && (covered() || makes_room())))
    }

    /// Does a rollout move the pool away from this generation, or was that thrown away?
    fn is_of_the_past(&self, place: &Place) -> bool {
        let is_forward = matches!(self.stage(&place.pool), Stage::Canary | Stage::Rolling);
        let generation = Some(place.generation);
        let moves_on = is_forward && generation != self.target(&place.pool);
        moves_on || (self.failed.contains(&place.generation) && generation != self.pools[&place.pool].base)
    }

    /// One that is not ready is given up only where another serves, or where the old ones go first anyway.
    fn check_given_up(&self, id: WorkerId, place: &Place) -> Check {
        let served = self.in_slot(place).any(|other| other.id != id && other.is_ready());
        let stop_first = self.limits(&place.pool).surge == 0;
        hold(served || stop_first, "a start is given up where another worker serves", || {
            format!("{id} {place}")
        })
    }

    /// May one more ready worker be missing because of us?
    fn may_be_missing(&self, pool: &PoolName) -> bool {
        self.ready(pool) > self.slots(pool).saturating_sub(self.limits(pool).unavailable)
    }

    fn check_replaced(&mut self, id: WorkerId, place: &Place, why: Retirement) -> Check {
        let detail = || format!("{:?}, {:?}", self.workers.get(&id), self.rollout);
        let name = &place.pool;
        let stage = self.stage(name);
        let worker = &self.workers[&id];
        let stop_first = why == Retirement::MakeRoom;
        let serves = |generation: Option<Generation>| {
            let mut others = self.in_slot(place).filter(|other| other.id != id);
            others.any(|w| w.is_ready() && Some(w.place.generation) == generation)
        };
        let (base, target) = (self.pools[name].base, self.target(name));
        let was_thrown_away = self.failed.contains(&place.generation) && Some(place.generation) != base;
        let moved = matches!(stage, Stage::Canary | Stage::Rolling) && serves(target);
        let own = self.is_succeeded(worker) || (was_thrown_away && serves(base));
        hold(own || moved || stop_first, "its successor is ready first", detail)?;
        if stage == Stage::Back && !stop_first {
            return Ok(());
        }
        hold(self.may_be_missing(name), "ready workers stay at N - max_unavailable", detail)?;
        if stage == Stage::Back {
            return Ok(());
        }
        let drains = |w: &&Worker| w.asked.is_some() && !w.exited && !w.let_go;
        let draining = self.in_pool(name).filter(drains).count();
        let most = self.governing(name).map_or(0, |policy| policy.rollout.max_draining);
        hold(draining < most as usize, "at most max_draining drain", detail)?;
        let for_canary = stage == Stage::Canary && !own && !worker.worn;
        if let Some(pool) = self.pools.get_mut(name).filter(|_| for_canary) {
            pool.stopped_first += 1;
            let first = stop_first && pool.stopped_first == 1;
            return hold(first, "no old worker ends before every canary baked", || place.to_string());
        }
        Ok(())
    }
}

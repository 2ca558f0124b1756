//! Time in which nobody ran, and what must come of it: nothing.
//!
//! The world knows the time in which processes run; the clock goes on in pauses, too. The event loop sees the clock only, and
//! looks at it as the daemon does. What the machine does to workers is judged here by their own time: none is given up,
//! killed or proven before it ran for as long as its pool says.

use std::collections::BTreeMap;
use std::time::Duration;

use handover::config::model::{Policy, Ready};
use handover::id::{PoolName, WorkerId};
use handover::supervisor::{Action, CountedTime, Event, Note, Place, ReadyBy, Retirement, RolloutFailure};
use handover::time::Monotonic;

use super::shadow::{Check, Shadow, hold, is_way};

/// The clock, and how far it is ahead of the world.
pub(crate) struct Clock {
    pub(crate) time: CountedTime,
    paused: Duration,
}

/// What a worker did and what was asked of it, in the world's time.
struct Life {
    place: Place,
    started: Monotonic,
    /// Since when nothing but its staying can say that it is ready.
    bakes: Option<Monotonic>,
    /// It became ready by staying.
    stayed: bool,
    ready: Option<Monotonic>,
    fed: Option<Monotonic>,
    asked: Option<Monotonic>,
}

/// See the module.
pub(crate) struct Lives {
    lives: BTreeMap<WorkerId, Life>,
    rollout: Option<Monotonic>,
    stop_now: bool,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { time: CountedTime::new(Monotonic::ZERO), paused: Duration::ZERO }
    }

    /// When, in the world's time, the loop wakes up if nothing happens.
    pub(crate) fn wakes(&self, deadline: Option<Monotonic>) -> Option<Monotonic> {
        let at = self.time.next_look(deadline)?;
        Some(Monotonic::from_origin(at.since(Monotonic::from_origin(self.paused))))
    }

    pub(crate) fn pause(&mut self, by: Duration) {
        self.paused += by;
    }

    /// The loop looks at the clock.
    pub(crate) fn look(&mut self, world: Monotonic, deadline: Option<Monotonic>) -> Option<Event> {
        self.time.look(world + self.paused, deadline).map(Event::TimeLost)
    }
}

impl Lives {
    pub(crate) fn new() -> Self {
        Self { lives: BTreeMap::new(), rollout: None, stop_now: false }
    }

    pub(crate) fn learn(&mut self, world: Monotonic, event: &Event, shadow: &Shadow) {
        match event {
            Event::Ready { worker, by } => self.shows_ready(*worker, *by, world, shadow),
            Event::Spawned { worker } => {
                let place = self.lives.get(worker).map(|life| life.place.clone());
                if place.is_some_and(|place| shadow.policy(&place).ready == Ready::Exec) {
                    self.bakes(*worker, world);
                }
            }
            Event::ReadinessUnknown { worker } => self.bakes(*worker, world),
            Event::Heartbeat { worker } => {
                self.lives.get_mut(worker).into_iter().for_each(|life| life.fed = Some(world));
            }
            Event::Exited { worker, .. } => {
                let life = self.lives.get_mut(worker).into_iter();
                life.for_each(|life| life.asked = life.asked.or(Some(world)));
            }
            Event::Prepared { .. } => self.rollout = Some(world),
            _ => self.stop_now |= shadow.stop_now,
        }
    }

    fn bakes(&mut self, worker: WorkerId, world: Monotonic) {
        let life = self.lives.get_mut(&worker).into_iter();
        life.for_each(|life| life.bakes = life.bakes.or(Some(world)));
    }

    fn shows_ready(&mut self, worker: WorkerId, by: ReadyBy, world: Monotonic, shadow: &Shadow) {
        let place = self.lives.get(&worker).map(|life| life.place.clone());
        if place.is_some_and(|place| is_way(by, shadow.policy(&place).ready)) {
            self.is_ready(worker, world);
        }
    }

    fn is_ready(&mut self, worker: WorkerId, world: Monotonic) {
        let life = self.lives.get_mut(&worker).filter(|life| life.ready.is_none());
        life.into_iter().for_each(|life| (life.ready, life.fed) = (Some(world), Some(world)));
    }

    pub(crate) fn check(&mut self, world: Monotonic, action: &Action, shadow: &Shadow) -> Check {
        match action {
            Action::Spawn { worker, at, .. } => {
                let place = at.clone();
                let life = Life {
                    place,
                    started: world,
                    bakes: None,
                    stayed: false,
                    ready: None,
                    fed: None,
                    asked: None,
                };
                self.lives.insert(*worker, life);
                Ok(())
            }
            Action::Note(Note::WorkerReady { worker, .. }) => self.check_ready(*worker, world, shadow),
            Action::Note(Note::Retiring { worker, why, .. }) => {
                self.check_retired(*worker, *why, world, shadow)
            }
            Action::Kill { worker } => self.check_killed(*worker, world, shadow),
            Action::Note(Note::CanaryProven { .. }) => self.check_proven(world, shadow),
            Action::Note(Note::RollingBack { reason: RolloutFailure::Deadline { pool, .. }, .. }) => {
                self.check_late(pool, world, shadow)
            }
            _ => Ok(()),
        }
    }

    /// One that said nothing has become ready by staying.
    fn check_ready(&mut self, id: WorkerId, world: Monotonic, shadow: &Shadow) -> Check {
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.ready.is_none()) else { return Ok(()) };
        let bake = shadow.policy(&life.place).rollout.bake_time;
        let ran = life.bakes.map(|since| world.since(since));
        life.stayed = true;
        self.is_ready(id, world);
        hold(ran >= Some(bake), "no worker is ready for a pause", || {
            format!("worker {id}, {ran:?} of {bake:?}")
        })
    }

    fn check_retired(&mut self, id: WorkerId, why: Retirement, world: Monotonic, shadow: &Shadow) -> Check {
        let Some(life) = self.lives.get_mut(&id) else { return Ok(()) };
        life.asked = Some(world);
        let policy = shadow.policy(&life.place);
        let triggered = shadow.workers.get(&id).is_some_and(|worker| worker.triggered);
        let (since, limit) = match why {
            Retirement::StartTimeout => (life.started, policy.start_timeout.duration()),
            Retirement::Watchdog if !triggered => {
                (life.fed.unwrap_or(life.started), shortest_silence(policy))
            }
            _ => return Ok(()),
        };
        let ran = world.since(since);
        hold(limit.is_none_or(|limit| ran >= limit), "no worker is given up for a pause", || {
            format!("worker {id} ran for {ran:?} of {limit:?}, {why:?}")
        })
    }

    fn check_killed(&self, id: WorkerId, world: Monotonic, shadow: &Shadow) -> Check {
        let Some((life, asked)) = self.lives.get(&id).and_then(|life| Some((life, life.asked?))) else {
            return Ok(());
        };
        let unborn = shadow.workers.get(&id).is_some_and(|worker| !worker.executed);
        let policy = shadow.policy(&life.place);
        let limits = [policy.stop_timeout.duration(), policy.drain_timeout.duration()];
        let least =
            limits.into_iter().flatten().min().filter(|_| !unborn && !shadow.stop_now && !self.stop_now);
        let ran = world.since(asked);
        hold(least.is_none_or(|least| ran >= least), "no worker is killed for a pause", || {
            format!("worker {id} had {ran:?} of {least:?}")
        })
    }

    fn check_proven(&self, world: Monotonic, shadow: &Shadow) -> Check {
        for name in shadow.pools.keys() {
            let Some(target) = shadow.target(name).filter(|_| shadow.pools[name].needs_canary) else {
                continue;
            };
            let bake = shadow.policies[&(name.clone(), target)].rollout.bake_time;
            let baked = self.lives.values().any(|life| {
                let new = &life.place.pool == name && life.place.generation == target;
                let since = if life.stayed { life.bakes } else { life.ready };
                new && life.ready.and(since).is_some_and(|since| world.since(since) >= bake)
            });
            hold(baked, "no canary is proven by a pause", || format!("pool {name}, {bake:?}"))?;
        }
        Ok(())
    }

    fn check_late(&self, pool: &PoolName, world: Monotonic, shadow: &Shadow) -> Check {
        // It has just turned round: the limit was that of where it went.
        let policy = shadow.target(pool).map(|target| &shadow.policies[&(pool.clone(), target)]);
        let limit = policy.and_then(|policy| policy.rollout.deadline.duration());
        let ran = self.rollout.map(|since| world.since(since));
        hold(ran >= limit, "no rollout is late for a pause", || format!("{ran:?} of {limit:?}"))
    }
}

/// A worker whose watchdog runs out was silent for so long at least, or did not answer a ping for that.
fn shortest_silence(policy: &Policy) -> Option<Duration> {
    let ping = policy.ping_timeout.map(|_| Duration::ZERO);
    [policy.watchdog, ping].into_iter().flatten().min()
}

//! What must be true, kept by a second opinion: a model of its own that sees only events and actions.
//!
//! It shares no code with the machine and takes nothing on trust: how many workers serve, since when,
//! what each was promised and when its time is up are worked out here. A difference is
//! a [`Violation`] and names the property that does not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handover::config::model::{Policy, Ready};
use handover::id::{Generation, ListenerName, PoolName, RequestId, SlotIndex, WorkerId};
use handover::supervisor::{Event, Place, ReadyBy, Request, Retirement};
use handover::time::{Monotonic, Timeout};

use super::channel::Channel;
use super::lost::Rolls;
use super::pace::{Pace, Starts};

/// A property that does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) detail: String,
}

pub(crate) type Check = Result<(), Violation>;

/// Fails with the property's name unless it holds.
pub(crate) fn hold(holds: bool, property: &'static str, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { property, detail: detail() }) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Steady,
    Canary,
    Rolling,
    Back,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) place: Place,
    pub(crate) executed: bool,
    pub(crate) ready: Option<Monotonic>,
    pub(crate) asked: Option<(Monotonic, Retirement)>,
    pub(crate) exited: bool,
    pub(crate) ready_by: Option<Monotonic>,
    /// It is ready when it has stayed until then.
    pub(crate) bakes_until: Option<Monotonic>,
    pub(crate) watchdog_by: Option<Monotonic>,
    /// When it may be killed, and must be.
    pub(crate) kill_from: Option<Monotonic>,
    pub(crate) killed: bool,
    /// When it was, and when it must be gone or let go.
    pub(crate) gone_by: Option<Monotonic>,
    /// It was reported that it cannot be killed.
    pub(crate) unkillable: bool,
    pub(crate) let_go: bool,
    pub(crate) signalled: bool,
    pub(crate) group_asked: bool,
    pub(crate) said_stopping: bool,
    pub(crate) triggered: bool,
    pub(crate) channel: Channel,
    /// It is to be replaced, and serves until then.
    pub(crate) worn: bool,
    pub(crate) failed: bool,
    /// It asked to be replaced before it was stable.
    pub(crate) asked_early: bool,
    /// Listeners of which it may have a socket that was ended for all.
    pub(crate) dead: BTreeSet<ListenerName>,
}

impl Worker {
    pub(crate) fn is_active(&self) -> bool {
        self.asked.is_none() && !self.exited
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_active() && self.ready.is_some()
    }

    /// It has stayed until it is ready by that.
    pub(crate) fn has_baked(&self, now: Monotonic) -> bool {
        self.bakes_until.is_some_and(|until| until <= now)
    }

    pub(crate) fn become_ready(&mut self, now: Monotonic, policy: &Policy) {
        self.ready = Some(now);
        self.ready_by = None;
        self.watchdog_by = policy.watchdog.map(|every| now + every);
        self.begin_pings(now, policy.ping_timeout);
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) base: Option<Generation>,
    /// Its part in a rollout: where it goes.
    pub(crate) part: Option<Option<Generation>>,
    pub(crate) needs_canary: bool,
    /// Where the first new worker went.
    pub(crate) canary: Option<SlotIndex>,
    pub(crate) scale: Option<u32>,
    /// Failed new workers in the rollout.
    pub(crate) failures: u32,
    /// Ready old workers that were asked to end before a canary was proven (stop-first).
    pub(crate) stopped_first: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(crate) generation: Generation,
    pub(crate) started: Monotonic,
    pub(crate) proven: bool,
    pub(crate) back: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub(crate) now: Monotonic,
    pub(crate) policies: BTreeMap<(PoolName, Generation), Policy>,
    pub(crate) pools: BTreeMap<PoolName, Pool>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) paces: BTreeMap<(PoolName, SlotIndex), Pace>,
    pub(crate) starts: Starts,
    pub(crate) spawned: u64,
    pub(crate) known: BTreeSet<Generation>,
    pub(crate) failed: BTreeSet<Generation>,
    pub(crate) committed: Generation,
    pub(crate) newest: Generation,
    pub(crate) preparing: Option<(Generation, Option<Monotonic>)>,
    pub(crate) rollout: Option<Rollout>,
    pub(crate) requests: BTreeMap<RequestId, Request>,
    pub(crate) rolls: Rolls,
    pub(crate) cancels: u32,
    /// The event at hand cancels the making of a generation.
    pub(crate) unprepared: bool,
    pub(crate) started: bool,
    pub(crate) reloading: bool,
    pub(crate) stopping: Option<Monotonic>,
    pub(crate) stop_asked: bool,
    pub(crate) stop_now: bool,
    /// When the first signal asked for the stop.
    pub(crate) signalled: Option<Monotonic>,
    pub(crate) broken: bool,
    pub(crate) ended: bool,
    pub(crate) extended_until: Option<Monotonic>,
}

impl Shadow {
    pub(crate) fn new(pools: &BTreeMap<PoolName, Policy>) -> Self {
        let first = Generation(1);
        let view = |name: &PoolName| (name.clone(), Pool { base: Some(first), ..Pool::default() });
        Self {
            now: Monotonic::ZERO,
            policies: pools.iter().map(|(name, policy)| ((name.clone(), first), policy.clone())).collect(),
            pools: pools.keys().map(view).collect(),
            workers: BTreeMap::new(),
            paces: BTreeMap::new(),
            starts: Starts::new(),
            spawned: 0,
            known: BTreeSet::from([first]),
            failed: BTreeSet::new(),
            committed: first,
            newest: first,
            preparing: None,
            rollout: None,
            requests: BTreeMap::new(),
            rolls: Rolls::default(),
            cancels: 0,
            unprepared: false,
            started: false,
            reloading: false,
            stopping: None,
            stop_asked: false,
            stop_now: false,
            signalled: None,
            broken: false,
            ended: false,
            extended_until: None,
        }
    }

    pub(crate) fn policy(&self, place: &Place) -> &Policy {
        &self.policies[&(place.pool.clone(), place.generation)]
    }

    pub(crate) fn stage(&self, pool: &PoolName) -> Stage {
        let takes_part = self.pools.get(pool).is_some_and(|pool| pool.part.is_some());
        match &self.rollout {
            Some(rollout) if takes_part && rollout.back => Stage::Back,
            Some(rollout) if takes_part && rollout.proven => Stage::Rolling,
            Some(_) if takes_part => Stage::Canary,
            _ => Stage::Steady,
        }
    }

    pub(crate) fn target(&self, pool: &PoolName) -> Option<Generation> {
        self.pools.get(pool)?.part?
    }

    /// The number of slots of a pool in one of its generations.
    pub(crate) fn slots_in(&self, pool: &PoolName, generation: Option<Generation>) -> u32 {
        let policy = generation.and_then(|generation| self.policies.get(&(pool.clone(), generation)));
        policy.map_or(0, |policy| self.pools[pool].scale.unwrap_or(policy.workers))
    }

    /// The number of slots that the pool is to have now.
    pub(crate) fn slots(&self, pool: &PoolName) -> u32 {
        let base = self.pools[pool].base;
        match self.stage(pool) {
            Stage::Rolling => self.slots_in(pool, self.target(pool).or(base)),
            _ => self.slots_in(pool, base),
        }
    }

    /// Does nothing start in a slot of which something lives?
    pub(crate) fn is_stop_first(&self, pool: &PoolName) -> bool {
        let ended = self.target(pool).filter(|_| self.stage(pool) == Stage::Back);
        let ended = ended.and_then(|generation| self.policies.get(&(pool.clone(), generation)));
        let policies = self.governing(pool).into_iter().chain(ended);
        policies.into_iter().any(|policy| policy.rollout.max_surge.of_rounded_up(100) == 0)
    }

    /// The generation that rules the pool's limits now.
    pub(crate) fn governing(&self, pool: &PoolName) -> Option<&Policy> {
        let (base, target) = (self.pools[pool].base, self.target(pool));
        let generation = match self.stage(pool) {
            Stage::Steady => base,
            Stage::Back => base.or(target),
            Stage::Canary | Stage::Rolling => target.or(base),
        };
        self.policies.get(&(pool.clone(), generation?))
    }

    pub(crate) fn in_pool<'a>(&'a self, pool: &'a PoolName) -> impl Iterator<Item = &'a Worker> {
        self.workers.values().filter(move |worker| &worker.place.pool == pool)
    }

    pub(crate) fn in_slot<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Worker> {
        self.in_pool(&place.pool).filter(|worker| worker.place.slot == place.slot)
    }

    pub(crate) fn ready(&self, pool: &PoolName) -> u32 {
        u32::try_from(self.in_pool(pool).filter(|worker| worker.is_ready()).count()).expect("few")
    }

    pub(crate) fn moment(&self, timeout: Timeout) -> Option<Monotonic> {
        self.now.after(timeout)
    }

    /// The facts that an event brings, before the machine answers.
    pub(crate) fn learn(&mut self, now: Monotonic, event: &Event) {
        self.now = now;
        self.unprepared = false;
        let asked = matches!(event, Event::Requested { .. } | Event::Prepared { .. });
        let changed = matches!(event, Event::SpawnFailed { failure, .. } if failure.program_changed);
        if asked || changed {
            self.starts.clear();
        }
        match event {
            Event::Prepared { pools } => self.learn_generation(pools),
            Event::PrepareRefused { .. } => self.learn_unprepared(),
            Event::ListenerReplaced { listener, pools } => self.learn_replaced(listener, pools),
            Event::Requested { request, what } => self.learn_request(*request, what),
            Event::Broken { .. } => self.broken = true,
            Event::DeadlinePassed | Event::TimeLost(_) => {}
            Event::StopSignal { request } => self.learn_signal(*request),
            Event::KillFailed { worker, .. } => self.learn_unkillable(*worker),
            Event::SpawnFailed { worker, failure } => {
                if let Some(gone) = self.workers.remove(worker)
                    && gone.is_active()
                    && !failure.program_changed
                {
                    self.unasked_end(&gone);
                }
            }
            Event::Exited { worker, .. } => self.learn_exit(*worker),
            Event::GroupEnded { worker } => {
                if self.workers.get(worker).is_some_and(|worker| worker.exited) {
                    self.workers.remove(worker);
                }
            }
            Event::ChannelOpened { worker, .. }
            | Event::Answered { worker }
            | Event::ReplacementWished { worker, .. }
            | Event::ChannelClosed { worker }
            | Event::ChannelLost { worker } => self.learn_channel(*worker, event),
            Event::Spawned { worker }
            | Event::Ready { worker, .. }
            | Event::ReadinessUnknown { worker }
            | Event::Heartbeat { worker }
            | Event::WatchdogTriggered { worker }
            | Event::Stopping { worker }
            | Event::MoreTime { worker, .. } => self.learn_word(*worker, event),
            Event::NotHeard { worker, by } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.ready_by = worker.ready_by.map(|at| at + *by);
                    worker.watchdog_by = worker.watchdog_by.map(|at| at + *by);
                }
            }
        }
        self.settle();
    }

    fn learn_word(&mut self, id: WorkerId, event: &Event) {
        let Some(place) = self.workers.get(&id).map(|worker| worker.place.clone()) else { return };
        let (now, policy) = (self.now, self.policy(&place).clone());
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // All but one come from the worker itself.
        worker.executed |= !matches!(event, Event::ReadinessUnknown { .. });
        let bakes = match event {
            Event::Spawned { .. } => policy.ready == Ready::Exec,
            Event::ReadinessUnknown { .. } => policy.ready == Ready::Accept,
            _ => false,
        };
        if bakes && worker.is_active() && worker.ready.is_none() && worker.bakes_until.is_none() {
            worker.bakes_until = Some(now + policy.rollout.bake_time);
            worker.ready_by = None;
        }
        let counts = matches!(event, Event::Ready { by, .. } if is_way(*by, policy.ready));
        if counts && worker.is_active() && worker.ready.is_none() {
            worker.bakes_until = worker.bakes_until.filter(|until| *until <= now);
            worker.become_ready(now, &policy);
        }
        match event {
            Event::Heartbeat { .. } if worker.is_ready() => {
                let fed = policy.watchdog.map(|every| now + every);
                worker.watchdog_by = worker.watchdog_by.max(fed);
            }
            Event::WatchdogTriggered { .. } => worker.triggered |= worker.is_active(),
            Event::Stopping { .. } => worker.said_stopping |= worker.is_active(),
            Event::MoreTime { by, .. } => worker.learn_more_time(now, *by, self.stopping, &policy),
            _ => {}
        }
    }

    fn learn_exit(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        if worker.exited {
            return;
        }
        let (was_active, before) = (worker.is_active(), worker.clone());
        let patience = self.moment(self.policy(&before.place).stop_timeout);
        if was_active {
            self.unasked_end(&before);
        }
        let gone_by = self.now + kill_patience(self.policy(&before.place));
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.exited = true;
        worker.let_go = false;
        worker.gone_by = worker.killed.then_some(gone_by);
        worker.ready_by = None;
        worker.watchdog_by = None;
        worker.channel.forget_times();
        if !worker.killed && (was_active || worker.kill_from.is_none()) {
            worker.kill_from = patience;
        }
    }

    fn learn_generation(&mut self, pools: &BTreeMap<PoolName, Option<Policy>>) {
        let Some((generation, _)) = self.preparing.take() else { return };
        self.newest = generation;
        self.known.insert(generation);
        for (name, policy) in pools {
            if policy.is_none() && !self.pools.contains_key(name) {
                continue;
            }
            let pool = self.pools.entry(name.clone()).or_default();
            pool.part = Some(policy.as_ref().map(|_| generation));
            (pool.failures, pool.stopped_first, pool.canary) = (0, 0, None);
            if let Some(policy) = policy {
                self.policies.insert((name.clone(), generation), policy.clone());
            }
            let slots = self.slots_in(name, policy.as_ref().map(|_| generation));
            if let Some(pool) = self.pools.get_mut(name) {
                pool.needs_canary = slots > 0;
            }
        }
        self.cancels = 0;
        let started = self.now;
        self.rollout = Some(Rollout { generation, started, proven: false, back: false });
    }

    fn learn_unprepared(&mut self) {
        if self.preparing.take().is_some() {
            self.learn_end_of_roll();
        }
    }

    fn learn_request(&mut self, request: RequestId, what: &Request) {
        self.requests.insert(request, what.clone());
        match what {
            Request::Stop { now } => {
                self.stop_asked = true;
                self.stop_now |= *now;
            }
            Request::Cancel { pool: None } if self.stopping.is_none() && self.preparing.is_some() => {
                self.learn_unprepared();
                self.unprepared = true;
            }
            Request::Cancel { pool } if self.stopping.is_none() => {
                let takes_part = |pool: &PoolName| self.stage(pool) != Stage::Steady;
                self.cancels += u32::from(pool.as_ref().is_none_or(takes_part) && self.rollout.is_some());
            }
            Request::ScaleBy { pool: name, by } if self.stopping.is_none() => {
                let has_base = self.pools.get(name).is_some_and(|pool| pool.base.is_some());
                let sum = has_base.then(|| self.slots(name).checked_add_signed(*by)).flatten();
                if let (Some(1..=10_000), Some(pool)) = (sum, self.pools.get_mut(name)) {
                    pool.scale = sum;
                }
            }
            Request::Scale { pool, workers } if self.stopping.is_none() => {
                if let Some(pool) = self.pools.get_mut(pool).filter(|pool| pool.base.is_some()) {
                    pool.scale = *workers;
                }
            }
            _ => {}
        }
    }
}

/// The wait that a retirement grants.
pub(crate) fn patience(policy: &Policy, why: Retirement) -> Timeout {
    match why {
        Retirement::StartTimeout | Retirement::Watchdog | Retirement::DaemonStops => policy.stop_timeout,
        _ => policy.drain_timeout,
    }
}

/// How long a killed worker may take to be gone.
pub(crate) fn kill_patience(policy: &Policy) -> Duration {
    let seconds = |seconds| Duration::from_secs(seconds);
    policy.stop_timeout.duration().unwrap_or(seconds(30)).max(seconds(10)).min(seconds(300))
}

/// A wake-up that is due may come this much later: the machine's next call.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Is it the way in which a worker of such a pool becomes ready?
pub(crate) fn is_way(by: ReadyBy, ready: Ready) -> bool {
    matches!(
        (by, ready),
        (ReadyBy::Notify, Ready::Notify) | (ReadyBy::Fd, Ready::Fd(_)) | (ReadyBy::Accept, Ready::Accept)
    )
}

//! The model of everything outside the machine: worker processes with scripts, the shell that carries
//! orders out, and people with requests. It decides what happens next and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handover::config::model::{Policy, Ready};
use handover::id::{Generation, ListenerName, PoolName, RequestId, WorkerId};
use handover::supervisor::{Action, Event, ExitStatus, ReadyBy, Request, Scope, StartFailure};
use handover::time::Monotonic;

use super::client::Client;
use super::rng::Rng;
use super::swarm::{Faults, Setup, policy, pool_name};
use super::ways::{stays, subject};

const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core: false };
pub(crate) const SOON: Duration = Duration::from_millis(5);

/// See the module.
pub(crate) struct World {
    pub(crate) now: Monotonic,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    /// No more faults: everything that can behave does.
    pub(crate) calm: bool,
    /// Except that every worker wishes to be replaced as soon as it serves.
    pub(crate) restless: bool,
    pub(crate) queue: BTreeMap<(Monotonic, u64), Event>,
    sequence: u64,
    pub(crate) processes: BTreeMap<WorkerId, Process>,
    policies: BTreeMap<(PoolName, Generation), Policy>,
    /// What the file says that is in force, and the one that a rollout tries.
    pub(crate) configured: BTreeMap<PoolName, Policy>,
    candidate: BTreeMap<PoolName, Policy>,
    last_request: u64,
    next_request: Monotonic,
    quiet: Duration,
    stops: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Forking,
    Running,
    /// The main process is gone, the group may not be.
    Dead,
    Gone,
}

pub(crate) struct Process {
    life: Life,
    pub(crate) ready: Ready,
    /// It is not ready before it has stayed for so long.
    stays: Duration,
    watchdog: Option<Duration>,
    pub(crate) client: Client,
    pub(crate) asked: bool,
    killed: bool,
    unkillable: bool,
    ignores_stop: bool,
    extends_stop: bool,
    group_lingers: bool,
    hangs: bool,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let policies =
            setup.pools.iter().map(|(name, policy)| ((name.clone(), Generation(1)), policy.clone()));
        Self {
            now: Monotonic::ZERO,
            rng: Rng::new(setup.seed ^ 0x5EED),
            calm: false,
            restless: false,
            queue: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            policies: policies.collect(),
            candidate: setup.pools.clone(),
            configured: setup.pools,
            last_request: 0,
            next_request: Monotonic::ZERO + setup.quiet,
            quiet: setup.quiet,
            stops: setup.stops,
            faults: setup.faults,
        }
    }

    /// The next thing that happens; the loop wants to be woken at `deadline`.
    pub(crate) fn next(&mut self, deadline: Option<Monotonic>) -> Option<Event> {
        loop {
            let queued = self.queue.first_key_value().map(|(key, _)| key.0);
            let person = (!self.calm).then_some(self.next_request);
            let at = [queued, person, deadline].into_iter().flatten().min()?;
            self.now = self.now.max(at);
            if queued == Some(at) {
                let (_, event) = self.queue.pop_first()?;
                if self.happens(&event) {
                    self.end_a_listener(&event);
                    return Some(event);
                }
            } else if person == Some(at) {
                self.next_request = self.now + self.rng.millis(1, 1 + self.quiet.as_millis() as u64 * 2);
                return Some(self.draw_request());
            } else {
                if self.buggify() {
                    self.now = self.now + self.rng.millis(0, 1500);
                }
                return Some(Event::DeadlinePassed);
            }
        }
    }

    pub(crate) fn push(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    /// Takes an event in that is due; false where it is not possible any more.
    pub(crate) fn happens(&mut self, event: &Event) -> bool {
        let Some(worker) = subject(event) else { return true };
        let needs = match event {
            Event::SpawnFailed { .. } => Some(Life::Forking),
            Event::GroupEnded { .. } => Some(Life::Dead),
            _ => None,
        };
        let Some(process) = self.processes.get_mut(&worker) else { return false };
        if needs.is_some_and(|needs| needs != process.life) {
            return false;
        }
        let alive = matches!(process.life, Life::Forking | Life::Running);
        match event {
            Event::Spawned { .. } if process.life == Life::Forking => {
                process.life = Life::Running;
                self.beat(worker);
            }
            // A helper that died is reported twice: as executed, late, and as ended.
            Event::Spawned { .. } => return process.life == Life::Dead,
            Event::SpawnFailed { .. } | Event::GroupEnded { .. } => process.life = Life::Gone,
            Event::Exited { .. } if alive => process.life = Life::Dead,
            Event::Heartbeat { .. } if alive => self.beat(worker),
            Event::Stopping { .. } => process.asked = true,
            Event::ChannelOpened { .. }
            | Event::Answered { .. }
            | Event::ChannelClosed { .. }
            | Event::ChannelLost { .. } => {
                return alive && process.client.says(event);
            }
            _ => {}
        }
        alive || matches!(event, Event::GroupEnded { .. } | Event::KillFailed { .. })
    }

    /// A worker may end a listener for all when it begins to serve, and when it dies.
    pub(crate) fn end_a_listener(&mut self, event: &Event) {
        let may = matches!(event, Event::Ready { .. } | Event::Exited { .. });
        if !may || !self.fault(|faults| faults.ends_listener) {
            return;
        }
        let (listener, users) = self.rng.pick(&[("http", [0, 1, 3]), ("admin", [1, 2, 2])]);
        // Sometimes the machine does not know a pool any more, or not yet.
        let (all, configured, candidate) = (self.rng.chance(100), &self.configured, &self.candidate);
        let is_there = |name: &PoolName| all || configured.contains_key(name) || candidate.contains_key(name);
        let pools = users.into_iter().map(pool_name).filter(is_there).collect();
        let after = self.rng.millis(0, 200);
        self.push(after, Event::ListenerReplaced { listener: ListenerName::new(listener), pools });
    }

    fn beat(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let Some(every) = process.watchdog else { return };
        let hangs = process.hangs && !self.calm && self.rng.chance(200);
        if !hangs {
            let after = every.mul_f64(0.5) + self.rng.millis(0, every.as_millis() as u64 / 4);
            self.push(after, Event::Heartbeat { worker });
        }
    }

    /// Carries an order out.
    pub(crate) fn obey(&mut self, action: &Action) {
        match action {
            Action::Spawn { worker, at, exact } => {
                let policy = self.policies.get(&(at.pool.clone(), at.generation)).cloned();
                self.spawn(*worker, policy.as_ref(), *exact);
            }
            Action::Drain { worker, .. } => self.drain(*worker),
            Action::Ping { worker } => self.ping(*worker),
            Action::Signal { worker, .. } => self.signal(*worker),
            Action::Kill { worker } => self.kill(*worker),
            Action::EndGroup { worker, .. } => self.end_group(*worker),
            Action::Prepare { generation, scope } => self.prepare(*generation, scope),
            Action::GiveUpPreparing => self.refuse_to_prepare(),
            Action::Commit { .. } => self.configured.clone_from(&self.candidate),
            _ => {}
        }
    }

    fn spawn(&mut self, worker: WorkerId, policy: Option<&Policy>, exact: bool) {
        let process = Process {
            life: Life::Forking,
            ready: policy.map_or(Ready::Exec, |policy| policy.ready),
            stays: policy.map_or(Duration::ZERO, stays),
            watchdog: policy.and_then(|policy| policy.watchdog),
            client: Client::new(policy.and_then(|policy| policy.ping_timeout)),
            asked: false,
            killed: false,
            unkillable: self.fault(|faults| faults.unkillable),
            ignores_stop: self.fault(|faults| faults.ignores_stop),
            extends_stop: self.fault(|faults| faults.extends),
            group_lingers: self.fault(|faults| faults.group_lingers),
            hangs: self.fault(|faults| faults.hangs),
        };
        self.processes.insert(worker, process);
        let mut at = self.rng.millis(1, 50);
        let changed = exact && self.fault(|faults| faults.program_changed);
        if changed || self.fault(|faults| faults.spawn_fails) {
            let failure = StartFailure {
                stage: "exec".to_owned(),
                reason: "no such file".to_owned(),
                program_changed: changed,
            };
            return self.push(at, Event::SpawnFailed { worker, failure });
        }
        if self.fault(|faults| faults.exits_before_spawned) {
            self.push(at, Event::Exited { worker, status: ExitStatus::Code(3) });
            return self.push(at, Event::Spawned { worker });
        }
        if self.fault(|faults| faults.talks_before_spawned) {
            // In any way, its own or not.
            let by = self.rng.pick(&[ReadyBy::Notify, ReadyBy::Fd, ReadyBy::Accept]);
            let early = self.rng.pick(&[Event::Ready { worker, by }, Event::Stopping { worker }]);
            self.push(at, early);
            at += self.rng.millis(0, 20);
        }
        self.push(at, Event::Spawned { worker });
        self.open_channel(worker, at);
        self.start_up(worker, at);
    }

    /// What a worker does from its first instruction on.
    fn start_up(&mut self, worker: WorkerId, spawned: Duration) {
        let mut at = spawned + self.rng.millis(1, if self.calm { 200 } else { 800 });
        if self.fault(|faults| faults.extends) {
            let by = self.rng.millis(0, 8_000);
            self.push(at, Event::MoreTime { worker, by });
            let by = self.rng.millis(0, 3_000);
            self.push(at, Event::NotHeard { worker, by });
            at += self.rng.millis(0, 4_000);
        }
        if self.fault(|faults| faults.unseen) {
            let after = self.rng.millis(0, 1_000);
            self.push(spawned + after, Event::ReadinessUnknown { worker });
        }
        if self.fault(|faults| faults.crashes_early) {
            return self.push(at, Event::Exited { worker, status: ExitStatus::Code(1) });
        }
        if self.fault(|faults| faults.never_ready) {
            if self.fault(|faults| faults.wishes) {
                self.push(at, Event::Stopping { worker });
            }
            return;
        }
        self.push(at, self.ready(worker));
        at = at.max(spawned + self.processes.get(&worker).map_or(Duration::ZERO, |process| process.stays));
        if self.wishes_at_once(worker, at) {
            return;
        }
        at += self.rng.millis(1, 15_000);
        if self.fault(|faults| faults.triggers) {
            self.push(at, Event::WatchdogTriggered { worker });
        } else if self.fault(|faults| faults.crashes_later) {
            if self.fault(|faults| faults.loses_channel) {
                self.end_channel(worker, at);
            }
            self.push(at, Event::Exited { worker, status: KILLED });
        } else if self.fault(|faults| faults.wishes) {
            self.push(at, Event::Stopping { worker });
            if !self.fault(|faults| faults.ignores_stop) {
                let status = ExitStatus::Code(self.rng.pick(&[0, 0, 1]));
                at += self.rng.millis(0, 3_000);
                self.push(at, Event::Exited { worker, status });
            }
        }
    }

    pub(crate) fn signal(&mut self, worker: WorkerId) {
        let after = self.rng.millis(1, 3_000);
        let (more, calm) = (self.rng.millis(0, 6_000), self.calm);
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.asked = true;
        if process.extends_stop && !calm {
            self.push(SOON, Event::MoreTime { worker, by: more });
            self.push(more, Event::Exited { worker, status: ExitStatus::Code(0) });
        } else if calm || !process.ignores_stop {
            self.push(after, Event::Exited { worker, status: ExitStatus::Code(0) });
        }
    }

    fn kill(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.killed = true;
        if process.unkillable && !self.calm {
            // It is refused, or has no effect.
            if self.rng.chance(500) {
                let reason = "operation not permitted".to_owned();
                self.push(SOON, Event::KillFailed { worker, reason });
            }
            return;
        }
        match process.life {
            Life::Forking | Life::Running => self.push(SOON, Event::Exited { worker, status: KILLED }),
            Life::Dead => self.push(SOON, Event::GroupEnded { worker }),
            Life::Gone => {}
        }
    }

    fn end_group(&mut self, worker: WorkerId) {
        let after = self.rng.millis(0, 500);
        let Some(process) = self.processes.get_mut(&worker) else { return };
        if self.calm || process.killed || !process.group_lingers {
            self.push(after, Event::GroupEnded { worker });
        }
    }

    fn prepare(&mut self, generation: Generation, scope: &Scope) {
        // What is still under way for an earlier one is dropped, as the shell does.
        self.drop_what_is_prepared();
        let late = self.fault(|faults| faults.refused);
        let after = self.rng.millis(0, if late { 60_000 } else { 400 });
        if self.fault(|faults| faults.refused) {
            return self.push(after, Event::PrepareRefused { reason: "line 1: no".to_owned() });
        }
        self.candidate.clone_from(&self.configured);
        if scope.reread {
            self.edit_file(scope);
        }
        let (old, new) = (&self.configured, &self.candidate);
        let names = old.keys().chain(new.keys()).cloned().collect::<BTreeSet<_>>();
        if scope.pools.as_ref().is_some_and(|pools| !pools.is_subset(&names)) {
            return self.push(after, Event::PrepareRefused { reason: "there is no such pool".to_owned() });
        }
        let in_scope = |name: &PoolName| {
            let named = scope.pools.as_ref().is_none_or(|pools| pools.contains(name));
            named && (!scope.changed_only || old.get(name) != new.get(name))
        };
        let pools: BTreeMap<PoolName, Option<Policy>> =
            names.into_iter().filter(in_scope).map(|name| (name.clone(), new.get(&name).cloned())).collect();
        for (name, policy) in &pools {
            if let Some(policy) = policy {
                self.policies.insert((name.clone(), generation), policy.clone());
            }
        }
        self.push(after, Event::Prepared { pools });
    }

    /// Somebody edits the configuration file before it is read again; only pools in scope.
    fn edit_file(&mut self, scope: &Scope) {
        let in_scope = |name: &PoolName| scope.pools.as_ref().is_none_or(|pools| pools.contains(name));
        for name in (0..4).map(pool_name).filter(|name| in_scope(name)) {
            if !self.fault(|faults| faults.pools_change) {
                continue;
            }
            if self.candidate.len() > 1 && self.rng.chance(300) {
                self.candidate.remove(&name);
            } else if self.candidate.contains_key(&name) || self.rng.chance(300) {
                let policy = policy(&mut self.rng);
                self.candidate.insert(name, policy);
            }
        }
    }

    pub(crate) fn request(&mut self, what: Request) -> Event {
        self.last_request += 1;
        Event::Requested { request: RequestId(self.last_request), what }
    }

    fn draw_request(&mut self) -> Event {
        if self.rng.chance(self.stops) {
            return match self.rng.below(6) {
                4..=5 => {
                    self.last_request += 1;
                    Event::StopSignal { request: RequestId(self.last_request) }
                }
                0 => Event::Broken { reason: "a listener no longer listens".to_owned() },
                1 => self.request(Request::Stop { now: true }),
                _ => self.request(Request::Stop { now: false }),
            };
        }
        let pool = pool_name(self.rng.below(4));
        let what = match self.rng.below(10) {
            0..=5 => Request::Roll(Scope {
                reread: self.rng.chance(700),
                pools: self.rng.chance(200).then(|| [pool].into()),
                changed_only: self.rng.chance(200),
            }),
            6 => Request::Cancel { pool: self.rng.chance(300).then_some(pool) },
            7 => Request::ScaleBy { pool, by: self.rng.pick(&[-3, -1, 1, 2, i32::MAX]) },
            _ => {
                let workers = self.rng.pick(&[None, Some(0), Some(1), Some(2), Some(3), Some(5)]);
                Request::Scale { pool, workers }
            }
        };
        self.request(what)
    }

    /// From here on nothing goes wrong, and what hangs comes round.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.queue.retain(|_, event| matches!(event, Event::Prepared { .. } | Event::PrepareRefused { .. }));
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            let process = &self.processes[&worker];
            let after = Duration::from_millis(worker.0 % 50);
            match process.life {
                Life::Dead => self.push(after, Event::GroupEnded { worker }),
                Life::Gone => {}
                Life::Forking | Life::Running if process.killed => {
                    self.push(after, Event::Exited { worker, status: KILLED });
                }
                Life::Forking | Life::Running if process.asked => {
                    self.push(after, Event::Exited { worker, status: ExitStatus::Code(0) });
                }
                Life::Forking | Life::Running => {
                    self.push(after, Event::Spawned { worker });
                    self.push(after + SOON, self.ready(worker));
                    self.push(after + SOON, Event::Answered { worker });
                }
            }
        }
    }
}

//! The machine's stories, told as lists of events and the orders they bring.
//!
//! [`Machine`] is the machine with a clock that the test moves. Its orders are read as short lines
//! (`"spawn 2 in web/0 of 1"`), notes in brackets, so that a test reads like the log of a daemon.

mod channel;
mod closed;
mod extend;
mod let_go;
mod limits;
mod lost;
mod pause;
mod requests;
mod restart;
mod rollback;
mod rollout;
mod signals;
mod snapshot;
mod start;
mod stop;
mod stop_first;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Action, Event, ExitStatus, ManagerState, Note, Outcome, Phase, ReadyBy, Request, Scope, StartFailure,
    Status, Supervisor,
};
use crate::config::model::{Policy, Ready, RestartPolicy, RolloutPolicy, Share, Signal};
use crate::id::{ListenerName, PoolName, RequestId, SlotIndex, WorkerId};
use crate::time::Monotonic;

/// The defaults of the configuration, with `workers` slots.
fn policy(workers: u32) -> Policy {
    let thirty = Duration::from_secs(30);
    Policy {
        workers,
        min_ready: 1,
        ready: Ready::Notify,
        start_timeout: thirty.into(),
        stop_timeout: thirty.into(),
        drain_timeout: thirty.into(),
        stop_signal: Signal(15),
        watchdog: None,
        ping_timeout: None,
        rollout: RolloutPolicy {
            max_surge: Share::Count(1),
            max_unavailable: Share::Count(0),
            bake_time: Duration::from_secs(2),
            max_failures: 1,
            deadline: Duration::from_secs(300).into(),
            max_draining: 64,
        },
        restart: RestartPolicy {
            stable_after: Duration::from_secs(10),
            backoff: Duration::from_millis(100),
            backoff_max: thirty,
            burst: 5,
        },
    }
}

/// The defaults, with some of them changed.
fn policy_with(workers: u32, change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = policy(workers);
    change(&mut policy);
    policy
}

/// See the module.
struct Machine {
    supervisor: Supervisor,
    now: Monotonic,
    orders: Vec<String>,
    requests: u64,
    /// What the last generation that is made is to cover.
    scope: Option<Scope>,
    /// Workers that were said to lack something, and after which time.
    late: Vec<(u64, Duration)>,
    /// What the service manager was last asked for.
    extended: Option<Duration>,
}

impl Machine {
    /// A machine with one pool, `web`.
    fn new(policy: Policy) -> Self {
        Self::with_pools([("web", policy)])
    }

    fn with_pools<const N: usize>(pools: [(&str, Policy); N]) -> Self {
        let pools = pools.into_iter().map(|(name, policy)| (PoolName::new(name), policy)).collect();
        let now = Monotonic::ZERO;
        let mut machine = Self {
            supervisor: Supervisor::new(now, 1, pools),
            now,
            orders: Vec::new(),
            requests: 0,
            scope: None,
            late: Vec::new(),
            extended: None,
        };
        machine.collect();
        machine
    }

    /// A machine whose workers 1 to N are ready, long enough to be stable; what it said so far is forgotten.
    fn running(policy: Policy) -> Self {
        let workers = u64::from(policy.workers);
        let mut machine = Self::new(policy);
        (1..=workers).for_each(|worker| machine.starts(worker));
        machine.wait(60_000);
        machine.orders();
        machine
    }

    fn event(&mut self, event: Event) {
        self.supervisor.handle(self.now, event);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(action) = self.supervisor.next_action() {
            self.orders.extend(line(&action));
            match action {
                Action::ExtendTimeout { by } => self.extended = Some(by),
                Action::Prepare { scope, .. } => self.scope = Some(scope),
                Action::Note(Note::WorkerNotReady { worker, after, .. }) => {
                    self.late.push((worker.0, after));
                }
                _ => {}
            }
        }
    }

    /// What was ordered since this was last asked for.
    fn orders(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orders)
    }

    /// Lets time pass, with a call at every deadline on the way.
    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(deadline) = self.supervisor.next_deadline().filter(|at| *at <= until) {
            self.now = deadline;
            self.event(Event::DeadlinePassed);
        }
        self.now = until;
    }

    fn spawned(&mut self, worker: u64) {
        self.event(Event::Spawned { worker: WorkerId(worker) });
    }

    fn ready(&mut self, worker: u64) {
        self.ready_by(worker, ReadyBy::Notify);
    }

    fn ready_by(&mut self, worker: u64, by: ReadyBy) {
        self.event(Event::Ready { worker: WorkerId(worker), by });
    }

    /// A start that goes well.
    fn starts(&mut self, worker: u64) {
        self.spawned(worker);
        self.ready(worker);
    }

    fn stopping(&mut self, worker: u64) {
        self.event(Event::Stopping { worker: WorkerId(worker) });
    }

    /// Its main process ends; its group goes on.
    fn exits(&mut self, worker: u64, code: i32) {
        self.event(Event::Exited { worker: WorkerId(worker), status: ExitStatus::Code(code) });
    }

    fn group_ended(&mut self, worker: u64) {
        self.event(Event::GroupEnded { worker: WorkerId(worker) });
    }

    /// It ends with all that belongs to it.
    fn ends(&mut self, worker: u64, code: i32) {
        self.exits(worker, code);
        self.group_ended(worker);
    }

    fn spawn_fails(&mut self, worker: u64, program_changed: bool) {
        let (stage, reason) = ("exec".to_owned(), "no such file".to_owned());
        let failure = StartFailure { stage, reason, program_changed };
        self.event(Event::SpawnFailed { worker: WorkerId(worker), failure });
    }

    /// A request; gives its number.
    fn request(&mut self, what: Request) -> u64 {
        self.requests += 1;
        self.event(Event::Requested { request: RequestId(self.requests), what });
        self.requests
    }

    fn reload(&mut self) -> u64 {
        self.request(Request::Roll(Scope { reread: true, pools: None, changed_only: false }))
    }

    fn cancel(&mut self) -> u64 {
        self.request(Request::Cancel { pool: None })
    }

    fn scale(&mut self, workers: u32) -> u64 {
        self.request(Request::Scale { pool: PoolName::new("web"), workers: Some(workers) })
    }

    /// `SIGTERM` or `SIGINT`.
    fn stop_signal(&mut self) -> u64 {
        self.requests += 1;
        self.event(Event::StopSignal { request: RequestId(self.requests) });
        self.requests
    }

    fn stop(&mut self, now: bool) -> u64 {
        self.request(Request::Stop { now })
    }

    fn prepared<const N: usize>(&mut self, pools: [(&str, Option<Policy>); N]) {
        let pools: BTreeMap<_, _> =
            pools.into_iter().map(|(name, policy)| (PoolName::new(name), policy)).collect();
        self.event(Event::Prepared { pools });
    }

    /// A reload of the pool `web` that got as far as its first new worker's start; says nothing of it.
    fn reload_to(&mut self, policy: Policy) -> u64 {
        let request = self.reload();
        self.prepared([("web", Some(policy))]);
        self.orders();
        request
    }

    /// A worker ended the socket of a listener for all, and another is in its place.
    fn listener_replaced<const N: usize>(&mut self, listener: &str, pools: [&str; N]) {
        let (listener, pools) = (ListenerName::new(listener), pools.map(PoolName::new).into());
        self.event(Event::ListenerReplaced { listener, pools });
    }

    fn status(&self) -> Status {
        self.supervisor.status()
    }

    /// The workers of a slot of `web` as `number:state`.
    fn slot(&self, slot: u32) -> Vec<String> {
        let status = self.status();
        let slot = status.pools.get(&PoolName::new("web")).and_then(|pool| pool.slots.get(&SlotIndex(slot)));
        let workers = slot.map(|slot| slot.workers.clone()).unwrap_or_default();
        workers.iter().map(|worker| format!("{}:{:?}", worker.worker, worker.state)).collect()
    }
}

/// An order as a line; what is only bookkeeping is left out.
fn line(action: &Action) -> Option<String> {
    Some(match action {
        Action::Spawn { worker, at, exact } => {
            let exact = if *exact { " exactly" } else { "" };
            format!("spawn {worker} in {}/{} of {}{exact}", at.pool, at.slot, at.generation)
        }
        Action::Signal { worker, signal } => format!("signal {worker} with {}", signal.0),
        Action::Drain { worker, why, patience } => {
            let seconds = patience.duration().map_or("ever".to_owned(), |patience| format!("{patience:?}"));
            format!("drain {worker} for {seconds}: {why}")
        }
        Action::Ping { worker } => format!("ping {worker}"),
        Action::Kill { worker } => format!("kill {worker}"),
        Action::EndGroup { worker, .. } => format!("end group {worker}"),
        Action::Prepare { generation, .. } => format!("prepare {generation}"),
        Action::GiveUpPreparing => "give up preparing".to_owned(),
        Action::Commit { generation } => format!("commit {generation}"),
        Action::Forget { generation } => format!("forget {generation}"),
        Action::Answer { request, outcome } => format!("answer {request}: {}", outcome_line(outcome)),
        Action::Tell(ManagerState::Ready) => "READY".to_owned(),
        Action::Tell(ManagerState::Reloading) => "RELOADING".to_owned(),
        Action::Tell(ManagerState::Stopping) => "STOPPING".to_owned(),
        Action::Exit { failure: None } => "exit".to_owned(),
        Action::Exit { failure: Some(reason) } => format!("exit: {reason}"),
        Action::ExtendTimeout { .. } => return None,
        Action::Note(note) => note_line(note)?,
    })
}

fn outcome_line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { generation: None } | Outcome::Scaled { .. } => "done".to_owned(),
        Outcome::Done { generation: Some(generation) } => format!("done with {generation}"),
        Outcome::RolledBack { generation, kept, .. } if kept.is_empty() => {
            format!("rolled back from {generation}")
        }
        Outcome::RolledBack { generation, kept, .. } => {
            let slots: Vec<String> = kept.iter().map(|place| place.slot.to_string()).collect();
            format!("rolled back from {generation} but for slot {}", slots.join(", "))
        }
        Outcome::Refused { reason } => format!("refused, {reason}"),
        Outcome::Failed { reason } => format!("failed, {reason}"),
    }
}

fn note_line(note: &Note) -> Option<String> {
    Some(match note {
        Note::Retiring { worker, why, .. } => format!("[retire {worker}: {why:?}]"),
        Note::WorkerFailed { worker, failure, crash_loop, .. } => {
            format!("[failed {worker}: {failure}{}]", if *crash_loop { ", crash loop" } else { "" })
        }
        Note::PoolsRolled { pools, .. } => {
            let pools: Vec<&str> = pools.iter().map(PoolName::as_str).collect();
            format!("[roll {}]", pools.join(", "))
        }
        Note::ReplacementWished { worker, reason, .. } => format!("[worn {worker}: {reason}]"),
        Note::SuccessorWaits { worker, .. } => format!("[successor waits for {worker}]"),
        Note::CanaryProven { .. } => "[canary proven]".to_owned(),
        Note::RollingBack { reason, .. } => format!("[rolling back: {reason}]"),
        Note::TimeLost(lost) => format!("[time lost: {:?}, {} in a row]", lost.by, lost.in_a_row),
        Note::StopSignal { effect } => format!("[signal: {effect:?}]"),
        Note::WorkerLetGo { worker, reason, .. } => format!("[let go {worker}: {reason}]"),
        Note::WorkerReady { .. }
        | Note::WorkerNotReady { .. }
        | Note::RolloutStarted { .. }
        | Note::RolloutDone { .. }
        | Note::RolledBack { .. } => return None,
    })
}

//! The walk: breadth first, from each stage of a daemon's life, over every event that could come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use handover::config::model::{Policy, Ready, RestartPolicy, RolloutPolicy, Share, Signal};
use handover::id::{ListenerName, PoolName, RequestId, WorkerId};
use handover::supervisor::{
    Action, Event, ExitStatus, ReadyBy, Request, Retirement, Scope, StartFailure, Status, Supervisor,
    WorkerState, WorkerStatus,
};
use handover::time::Monotonic;

use super::table::Tables;
use super::words::{cause, daemon_cause, daemon_orders, orders_for, outcome};
use crate::shadow::Shadow;

/// So many events follow each prefix.
const DEPTH: usize = 2;

/// Walks with one slot and with two.
pub(crate) fn everything() -> Tables {
    let mut tables = Tables::default();
    std::thread::scope(|scope| {
        let walks = [1, 2].map(|slots| scope.spawn(move || walk(slots)));
        for walk in walks {
            tables.merge(walk.join().expect("the walk met no fault"));
        }
    });
    tables
}

fn walk(slots: u32) -> Tables {
    let mut tables = Tables::default();
    let mut seen = BTreeSet::new();
    for prefix in prefixes(slots) {
        let mut node = Node::new(slots);
        for step in prefix {
            let event = node.event(&step);
            node.step(event, &mut tables);
        }
        let mut next = VecDeque::from([(node, DEPTH)]);
        while let Some((node, depth)) = next.pop_front() {
            if depth == 0 || !seen.insert((depth, node.key())) {
                continue;
            }
            for event in node.possible() {
                let mut after = node.clone();
                after.step(event, &mut tables);
                next.push_back((after, depth - 1));
            }
        }
    }
    tables
}

/// A step on the way to a stage.
enum Step {
    Up(u64),
    Spawned(u64),
    Ends(u64),
    /// Nothing is left of it.
    Goes(u64),
    Wishes(u64),
    /// It says hello on its channel: it can be told to drain, and answers.
    Opens(u64),
    /// It wishes to be replaced, and serves until then.
    Wears(u64),
    Loses(u64),
    /// So many seconds later the worker feeds its watchdog.
    Feeds(u64, u64),
    Reload,
    Prepared,
    Refused,
    Replaced,
    Time,
    Cancel,
    Stop,
}

/// The stages of a daemon's life, as ways to get there.
fn prefixes(slots: u32) -> Vec<Vec<Step>> {
    let slots = u64::from(slots);
    let up = || (1..=slots).map(Step::Up);
    let canary = || up().chain([Step::Reload, Step::Prepared]);
    // The canary is up and has baked; with two slots the next one is under way.
    let fed = || (1..=slots).map(|worker| Step::Feeds(worker, if worker == 1 { 4 } else { 0 }));
    let moved = || canary().chain([Step::Up(slots + 1), Step::Time]);
    // A wish counts after two seconds.
    let stable =
        || up().chain((1..=slots).map(|worker| Step::Feeds(worker, if worker == 1 { 3 } else { 0 })));
    let died_twice = || up().chain([Step::Ends(1), Step::Up(slots + 1), Step::Ends(slots + 1)]);
    vec![
        vec![],
        vec![Step::Spawned(1)],
        up().collect(),
        up().chain([Step::Reload]).collect(),
        canary().collect(),
        canary().chain([Step::Up(slots + 1)]).collect(),
        moved().collect(),
        moved().chain([Step::Cancel]).collect(),
        moved().chain([Step::Reload]).collect(),
        moved().chain([Step::Cancel, Step::Time]).collect(),
        up().chain([Step::Ends(1)]).collect(),
        up().chain([Step::Wishes(1)]).collect(),
        up().chain([Step::Wishes(1), Step::Time]).collect(),
        up().chain([Step::Opens(1)]).collect(),
        up().chain([Step::Opens(1), Step::Time]).collect(),
        up().chain([Step::Opens(1), Step::Loses(1), Step::Up(slots + 1)]).collect(),
        up().chain([Step::Opens(1), Step::Stop]).collect(),
        up().chain([Step::Wears(1)]).collect(),
        up().chain([Step::Wears(1), Step::Reload, Step::Prepared]).collect(),
        moved().chain([Step::Opens(1), Step::Wears(slots + 1)]).collect(),
        moved().chain([Step::Wears(slots + 1), Step::Cancel]).collect(),
        stable().chain([Step::Wishes(1)]).collect(),
        stable().chain([Step::Wears(1)]).collect(),
        stable().chain([Step::Opens(1), Step::Wears(1)]).collect(),
        stable().chain([Step::Wears(1), Step::Reload, Step::Prepared]).collect(),
        died_twice().chain([Step::Goes(1), Step::Goes(slots + 1)]).collect(),
        died_twice().chain([Step::Goes(1), Step::Goes(slots + 1), Step::Reload]).collect(),
        up().chain([Step::Replaced]).collect(),
        up().chain([Step::Replaced, Step::Prepared]).collect(),
        up().chain([Step::Replaced, Step::Refused]).collect(),
        up().chain([Step::Replaced, Step::Refused]).chain(fed()).chain(fed()).collect(),
        moved().chain([Step::Replaced]).collect(),
        up().chain([Step::Stop]).collect(),
        canary().chain([Step::Stop]).collect(),
    ]
}

fn policy(workers: u32) -> Policy {
    let seconds = |seconds| Duration::from_secs(seconds).into();
    Policy {
        workers,
        min_ready: 1,
        ready: Ready::Notify,
        // No longer than the time after which a late worker is told of: that would be one more step on the way to each deadline.
        start_timeout: seconds(3),
        stop_timeout: seconds(4),
        drain_timeout: seconds(3),
        stop_signal: Signal(15),
        watchdog: Some(Duration::from_secs(5)),
        ping_timeout: Some(Duration::from_secs(3)),
        rollout: RolloutPolicy {
            max_surge: Share::Count(1),
            max_unavailable: Share::Count(0),
            bake_time: Duration::from_secs(1),
            max_failures: 1,
            deadline: seconds(300),
            max_draining: 64,
        },
        restart: RestartPolicy {
            stable_after: Duration::from_secs(2),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            burst: 2,
        },
    }
}

#[derive(Clone)]
struct Node {
    machine: Supervisor,
    shadow: Shadow,
    now: Monotonic,
    slots: u32,
    requests: u64,
    stopped: bool,
}

impl Node {
    fn new(slots: u32) -> Self {
        let pools: BTreeMap<_, _> = [(PoolName::new("web"), policy(slots))].into();
        let shadow = Shadow::new(&pools);
        let now = Monotonic::ZERO;
        let machine = Supervisor::new(now, 1, pools);
        let mut node = Self { machine, shadow, now, slots, requests: 0, stopped: false };
        node.check();
        node
    }

    fn key(&self) -> String {
        serde_json::to_string(&self.machine).expect("the machine can be written down")
    }

    /// Fetches the orders, with the shadow looking on.
    fn check(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.machine.next_action() {
            if let Err(violation) = self.shadow.obey(&action) {
                panic!("{}: {}\n{:#?}", violation.property, violation.detail, self.machine.status());
            }
            actions.push(action);
        }
        if let Err(violation) = self.shadow.after_step(self.machine.next_deadline()) {
            panic!("{}: {}\n{:#?}", violation.property, violation.detail, self.machine.status());
        }
        actions
    }

    fn event(&mut self, step: &Step) -> Event {
        match *step {
            Step::Up(worker) => Event::Ready { worker: WorkerId(worker), by: ReadyBy::Notify },
            Step::Spawned(worker) => Event::Spawned { worker: WorkerId(worker) },
            Step::Ends(worker) => Event::Exited { worker: WorkerId(worker), status: ExitStatus::Code(1) },
            Step::Goes(worker) => Event::GroupEnded { worker: WorkerId(worker) },
            Step::Wishes(worker) => Event::Stopping { worker: WorkerId(worker) },
            Step::Opens(worker) => {
                Event::ChannelOpened { worker: WorkerId(worker), drains: true, answers: true }
            }
            Step::Wears(worker) => wish(WorkerId(worker)),
            Step::Loses(worker) => Event::ChannelLost { worker: WorkerId(worker) },
            Step::Feeds(worker, seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                Event::Heartbeat { worker: WorkerId(worker) }
            }
            Step::Reload => self.request(Request::Roll(everything_again())),
            Step::Prepared => self.prepared(),
            Step::Refused => refused(),
            Step::Replaced => replaced(),
            Step::Time => Event::DeadlinePassed,
            Step::Cancel => self.request(Request::Cancel { pool: None }),
            Step::Stop => self.request(Request::Stop { now: false }),
        }
    }

    fn prepared(&self) -> Event {
        Event::Prepared { pools: [(PoolName::new("web"), Some(policy(self.slots)))].into() }
    }

    fn request(&self, what: Request) -> Event {
        Event::Requested { request: RequestId(self.requests + 1), what }
    }

    fn living(&self) -> Vec<WorkerId> {
        self.shadow.workers.keys().copied().collect()
    }

    /// Every event that could come now.
    fn possible(&self) -> Vec<Event> {
        let mut events = vec![
            Event::DeadlinePassed,
            self.prepared(),
            refused(),
            replaced(),
            Event::Broken { reason: "broken".to_owned() },
            self.request(Request::Roll(everything_again())),
            self.request(Request::Cancel { pool: None }),
            self.request(Request::Scale { pool: PoolName::new("web"), workers: Some(0) }),
            self.request(Request::Scale { pool: PoolName::new("web"), workers: Some(2) }),
            self.request(Request::Stop { now: false }),
            self.request(Request::Stop { now: true }),
            Event::StopSignal { request: RequestId(self.requests + 1) },
        ];
        for worker in self.living() {
            events.extend(of_worker(worker));
        }
        events
    }

    fn step(&mut self, event: Event, tables: &mut Tables) {
        if event == Event::DeadlinePassed {
            let Some(deadline) = self.machine.next_deadline() else { return };
            self.now = deadline;
        }
        if let Event::Requested { .. } | Event::StopSignal { .. } = event {
            self.requests += 1;
        }
        let before = self.machine.status();
        let (states, phase) = (self.worker_states(&before), self.phase(&before));
        let due = self.due(&before);
        self.shadow.learn(self.now, &event);
        self.machine.handle(self.now, event.clone());
        let actions = self.check();
        self.stopped |= actions.iter().any(|action| matches!(action, Action::Exit { .. }));
        let status = self.machine.status();
        let after = self.worker_states(&status);
        for (worker, state) in states {
            if let Some(cause) = cause(worker, &event, &due, &actions) {
                let now = after.get(&worker).copied().unwrap_or("gone");
                let seen = outcome(now, &orders_for(worker, &actions));
                tables.workers.entry((state.to_owned(), cause)).or_default().insert(seen);
            }
        }
        if let Some(cause) = daemon_cause(&event, &actions) {
            let seen = outcome(self.phase(&status), &daemon_orders(&actions));
            tables.daemon.entry((phase.to_owned(), cause)).or_default().insert(seen);
        }
    }

    /// Whose deadline has come.
    fn due(&self, status: &Status) -> Vec<WorkerId> {
        let is_due = |at: Option<Monotonic>| at.is_some_and(|at| at <= self.now);
        workers(status).filter(|worker| is_due(worker.deadline)).map(|worker| worker.worker).collect()
    }

    fn worker_states(&self, status: &Status) -> BTreeMap<WorkerId, &'static str> {
        workers(status).map(|found| (found.worker, self.worker_state(found))).collect()
    }

    fn worker_state(&self, found: &WorkerStatus) -> &'static str {
        let shadow = &self.shadow.workers[&found.worker];
        let wish = shadow.asked.is_some_and(|(_, why)| why == Retirement::OwnWish);
        match found.state {
            WorkerState::Starting if !shadow.executed => "starting, not executed",
            WorkerState::Starting if found.worn => "starting, to be replaced",
            WorkerState::Starting => "starting",
            WorkerState::Ready if found.worn => "ready, to be replaced",
            WorkerState::Ready if shadow.channel.asked => "ready, asked",
            WorkerState::Ready => "ready",
            WorkerState::Draining if shadow.awaits_signal() => "draining, without a signal",
            WorkerState::Draining if wish => "draining as it wished",
            WorkerState::Draining => "draining",
            WorkerState::Killed if wish => "killed after its wish",
            WorkerState::Killed => "killed",
            WorkerState::Ending => "ending",
            WorkerState::LetGo => "let go",
        }
    }

    fn phase(&self, status: &Status) -> &'static str {
        match (&status.rollout, status.phase.as_str()) {
            _ if self.stopped => "ended",
            (_, "stopping") => "stopping",
            (Some(rollout), _) if rollout.rolling_back.is_some() => "rolling back",
            (Some(_), _) => "rolling",
            _ if self.shadow.preparing.is_some() => "preparing",
            (None, "starting") => "starting",
            (None, _) => "running",
        }
    }
}

fn workers(status: &Status) -> impl Iterator<Item = &WorkerStatus> {
    status.pools.values().flat_map(|pool| pool.slots.values()).flat_map(|slot| &slot.workers)
}

fn refused() -> Event {
    Event::PrepareRefused { reason: "no".to_owned() }
}

fn replaced() -> Event {
    Event::ListenerReplaced { listener: ListenerName::new("http"), pools: [PoolName::new("web")].into() }
}

fn everything_again() -> Scope {
    Scope { reread: true, pools: None, changed_only: false }
}

fn wish(worker: WorkerId) -> Event {
    Event::ReplacementWished { worker, reason: "memory".to_owned() }
}

fn of_worker(worker: WorkerId) -> Vec<Event> {
    let (stage, reason) = ("exec".to_owned(), "no such file".to_owned());
    let failure = StartFailure { stage, reason, program_changed: false };
    let changed = StartFailure { program_changed: true, ..failure.clone() };
    vec![
        Event::Spawned { worker },
        Event::SpawnFailed { worker, failure },
        Event::SpawnFailed { worker, failure: changed },
        Event::Ready { worker, by: ReadyBy::Notify },
        Event::Ready { worker, by: ReadyBy::Accept },
        Event::Heartbeat { worker },
        Event::WatchdogTriggered { worker },
        Event::Stopping { worker },
        Event::ChannelOpened { worker, drains: true, answers: true },
        Event::Answered { worker },
        wish(worker),
        Event::ChannelClosed { worker },
        Event::ChannelLost { worker },
        Event::MoreTime { worker, by: Duration::from_secs(60) },
        Event::NotHeard { worker, by: Duration::from_secs(1) },
        Event::Exited { worker, status: ExitStatus::Code(0) },
        Event::Exited { worker, status: ExitStatus::Code(1) },
        Event::GroupEnded { worker },
        Event::KillFailed { worker, reason: "operation not permitted".to_owned() },
    ]
}

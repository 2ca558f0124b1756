//! What a daemon begins with, as values: the order of its start and its end, whoever owns the process.
//!
//! Nothing here reads the environment, touches a signal or a limit, or knows where lines go: whoever begins a daemon
//! (`run`, for a process that is one; `program`, as a part of somebody else's) brings that.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::model::Config;
use crate::control::server::Traffic;
use crate::daemon::Daemon;
use crate::daemon::boot::embed_host::Program;
use crate::daemon::boot::location;
use crate::daemon::boot::run::RunError;
use crate::daemon::boot::runtime_dir::Runtime;
use crate::daemon::channel::{self, Deadlines, Grants};
use crate::daemon::clients::command::Wish;
use crate::daemon::clients::control_socket::Serving;
use crate::daemon::core::turn::Inputs;
use crate::daemon::events::bus::Chronicle;
use crate::daemon::events::service_manager::Manager;
use crate::daemon::fds::closer::Closer;
use crate::daemon::fds::quota::Pot;
use crate::daemon::reload::blocking_jobs::{Finished, Readings, in_time};
use crate::daemon::reload::config_source::Source;
use crate::daemon::reload::generation::{Listeners, Record};
use crate::daemon::reload::inputs;
use crate::daemon::reload::inputs::Found;
use crate::daemon::worker::monitor;
use crate::daemon::worker::output_budget::Unwritten;
use crate::daemon::worker::readiness::Watcher;
use crate::daemon::worker::start::Surroundings;
use crate::daemon::worker::stored::Store;
use crate::daemon::worker::table::Table;
use crate::id::Generation;
use crate::listeners::plan::{Choice, plan};
use crate::listeners::{Held, Inherited};
use crate::notify::ServiceManager;
use crate::notify::parse::DATAGRAM_MAX;
use crate::observe::{Limits, Log, Writer};
use crate::os::clock;
use crate::os::hangup::Hangups;
use crate::os::limits;
use crate::os::signal::Signals;
use crate::os::spawn::Helper;
use crate::supervisor::{CountedTime, Supervisor};
use crate::time::Monotonic;

/// Reports of workers that may wait for the loop.
const REPORTS_MAX: usize = 1024;
/// Requests of clients that may wait for the loop.
pub(in crate::daemon) const CALLS_MAX: usize = 64;
/// At the end, how long others may take to hear our last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// See the module.
pub(in crate::daemon) struct Outset {
    pub(in crate::daemon) helper: Helper,
    /// Processes that outlive their parents become children of this process, and all children that are no workers are such.
    pub(in crate::daemon) is_subreaper: bool,
    /// What the configuration says of the log is applied to this one.
    pub(in crate::daemon) log: Option<Log>,
    pub(in crate::daemon) record: Record,
    pub(in crate::daemon) runtime: Runtime,
    pub(in crate::daemon) service: ServiceManager,
    /// Those that are orders to the daemon; `None`: the process's signals are another's.
    pub(in crate::daemon) signals: Option<Signals>,
    pub(in crate::daemon) source: Source,
    pub(in crate::daemon) surroundings: Surroundings,
    /// Within which time the service manager wants to hear from us.
    pub(in crate::daemon) watchdog: Option<Duration>,
    /// Where lines go.
    pub(in crate::daemon) writer: Writer,
    /// Those who want something of the daemon.
    pub(in crate::daemon) wishes: Wishes,
    /// The program that we are a part of.
    pub(in crate::daemon) program: Program,
}

/// The queue in which those who want something of the daemon stand.
pub(in crate::daemon) struct Wishes {
    pub(in crate::daemon) entrance: mpsc::Sender<Wish>,
    pub(in crate::daemon) queue: mpsc::Receiver<Wish>,
}

impl Wishes {
    pub(in crate::daemon) fn new() -> Self {
        let (entrance, queue) = mpsc::channel(CALLS_MAX);
        Self { entrance, queue }
    }
}

impl Outset {
    /// Runs the daemon to its end, in a `LocalSet`. Gives the failure that ended it, if one did.
    pub(in crate::daemon) async fn serve(mut self) -> Result<Option<String>, RunError> {
        let access = location::access(&self.record.config.control_group)?;
        let traffic = Rc::new(Traffic::default());
        let closer = Closer::start(self.helper.clone());
        let closer = closer.map_err(|error| RunError::System("closer", error))?;
        let Wishes { entrance, queue: wishes } = std::mem::replace(&mut self.wishes, Wishes::new());
        let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
        let control = self.runtime.control_socket();
        let control = control.map_err(|error| RunError::System("control socket", error))?;
        let serving = control.map(|control| Serving::start(control, access, entrance, traffic.clone()));
        let hangups = Rc::new(Hangups::new().map_err(|error| RunError::System("epoll", error))?);
        let ends_process = self.signals.is_some();
        let (signals, released) = (self.signals.take(), self.program.released.take());
        let is_up = self.program.is_up.take();
        let (watcher, sights) = Watcher::new();
        let (mut daemon, readings) = self.assemble(traffic, serving, reports_in, watcher, closer);
        daemon.stored = Store::new(hangups.clone());
        if let Some(is_up) = is_up {
            let _ = is_up.send(());
        }
        let failure =
            daemon.run(Inputs { signals, released, wishes, reports, readings, sights, hangups }).await;
        if let Some(serving) = &daemon.serving {
            serving.end();
        }
        daemon.say_last_words().await;
        daemon.let_go_of_sockets();
        daemon.closer.finish(ends_process).await;
        Ok(failure)
    }

    fn assemble(
        self,
        traffic: Rc<Traffic>,
        serving: Option<Serving>,
        reports: monitor::Reports,
        watcher: Watcher,
        closer: Closer,
    ) -> (Daemon, mpsc::UnboundedReceiver<Finished<Found>>) {
        let now = Monotonic::from_origin(clock::monotonic());
        let config = &self.record.config;
        let policies = config.pools.iter().map(|(name, pool)| (name.clone(), pool.policy.clone()));
        let first = Generation(1);
        let seed = u64::try_from(clock::wall().as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
        let (readings, readings_out) = Readings::new();
        tracing::info!(name = config.name, pid = std::process::id(), "starting");
        let daemon = Daemon {
            machine: Supervisor::new(now, seed ^ u64::from(std::process::id()), policies.collect()),
            started: now,
            time: CountedTime::new(now),
            inbox: VecDeque::new(),
            waiting_starts: VecDeque::new(),
            ended: None,
            source: self.source,
            source_number: 0,
            output: config.log.workers,
            generations: BTreeMap::from([(first, self.record)]),
            committed: first,
            readings,
            runtime: self.runtime,
            serving,
            program: self.program,
            surroundings: self.surroundings,
            helper: self.helper,
            closer,
            table: Table::default(),
            watcher,
            is_subreaper: self.is_subreaper,
            strangers: None,
            orphans_may_hide: false,
            waiting_ends: VecDeque::new(),
            reports,
            datagram_buffer: Rc::new(vec![0; DATAGRAM_MAX + 1].into()),
            channel_buffer: Rc::new(vec![0; channel::CHUNK].into()),
            in_hand: Pot::of_all(open_files()),
            outgoing: Rc::default(),
            stored: Store::default(),
            put_away: Pot::of_stored(open_files()),
            barriers: Vec::new(),
            slots_may_be_gone: false,
            unheard: VecDeque::new(),
            deadlines: Deadlines::default(),
            grants: Grants::default(),
            messages_refused: 0,
            notifications_dropped: 0,
            drift_is_possible: false,
            drifts: BTreeMap::new(),
            last_request: 0,
            waiting: BTreeMap::new(),
            deliveries: Vec::new(),
            traffic,
            chronicle: Chronicle::new(),
            failed_rollout: None,
            manager: Manager::new(self.service, self.watchdog, now),
            writer: self.writer,
            unwritten: Unwritten::default(),
            log: self.log,
            limits: Limits::default(),
        };
        (daemon, readings_out)
    }
}

impl Daemon {
    /// Lets clients, the manager and the log have what is still on its way; those that do not take it share
    /// one time, and then the log has as much again.
    async fn say_last_words(&mut self) {
        let deliveries = std::mem::take(&mut self.deliveries);
        let (manager, unwritten) = (&self.manager, &self.unwritten);
        let all = async {
            tokio::join!(
                async {
                    for delivery in deliveries {
                        delivery.done().await;
                    }
                },
                unwritten.written(),
                manager.flushed(),
            )
        };
        let _ = tokio::time::timeout(LAST_WORDS, all).await;
        self.writer.flush(LAST_WORDS);
    }

    /// What others may have changed or filled is closed while there is somebody to do it.
    fn let_go_of_sockets(&mut self) {
        self.generations.clear();
        self.grants = Grants::default();
        self.stored = Store::default();
        self.barriers.clear();
        self.unheard.clear();
    }

    pub(in crate::daemon) fn write_pid_file(&self) {
        if let Err(error) = self.runtime.write_pid_file() {
            tracing::warn!(%error, "pid file not written");
        }
    }
}

/// Takes over what was passed, binds the rest, and looks for all else that belongs to the first generation. Also says which
/// sockets are closed, because nobody wants them (`unused_sockets = "close"`).
pub(in crate::daemon) fn record(
    config: Config,
    inherited: Vec<Inherited>,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<(Record, Vec<String>), RunError> {
    let (listeners, closed) = hold(&config, inherited)?;
    let path = environment.get(OsStr::new("PATH")).cloned();
    let found = in_time(move |step| inputs::look(config, None, path.as_deref(), step));
    let found = found.map_err(|reason| RunError::EnvironmentFiles(vec![reason]))?;
    if !found.faults.is_empty() {
        return Err(RunError::EnvironmentFiles(found.faults));
    }
    Ok((Record::first(found.config, found.pools, listeners), closed))
}

/// Takes over what was passed, and binds the rest. Also says which sockets are closed.
fn hold(config: &Config, inherited: Vec<Inherited>) -> Result<(Listeners, Vec<String>), RunError> {
    let offers: Vec<_> = inherited.iter().map(|inherited| inherited.offer.clone()).collect();
    let plan = plan(&config.listeners, &offers, config.unused_sockets).map_err(RunError::Misfits)?;
    let mut passed: Vec<Option<Inherited>> = inherited.into_iter().map(Some).collect();
    let closed = plan.unused.iter().map(|position| offers[*position].describe()).collect();
    let mut held = BTreeMap::new();
    let mut faults = Vec::new();
    for (name, choice) in plan.choices {
        let Some(listener) = config.listeners.get(&name) else { continue };
        let made = match (choice, &listener.address) {
            (Choice::Adopt(positions), _) => {
                let sockets = positions.iter().filter_map(|position| passed[*position].take()).collect();
                Held::adopt(listener, sockets)
            }
            (Choice::Bind, Some(address)) => Held::bind(address, &listener.options),
            (Choice::Bind, None) => continue,
        };
        match made {
            Ok(made) => drop(held.insert(name, Rc::new(made))),
            Err(error) => faults.push((name, error)),
        }
    }
    if faults.is_empty() { Ok((held, closed)) } else { Err(RunError::Listeners(faults)) }
}

/// How many files this process may have open.
fn open_files() -> u64 {
    let limit = limits::Limit::of_this_process(limits::Resource::NoFile);
    limit.ok().and_then(|limit| limit.soft).unwrap_or(u64::MAX)
}

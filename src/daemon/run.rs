//! The order of starting and ending.
//!
//! What can refuse comes before what others can see: the configuration, then the sockets, then the control
//! socket, then the workers. What was taken is given back in reverse.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::allowance::Pot;
use super::channel::{self, Deadlines, Grants};
use super::chronicle::Chronicle;
use super::found::Found;
use super::generation::{Listeners, Record};
use super::manager::Manager;
use super::reading::{Finished, Readings, Step};
use super::runtime::{Runtime, RuntimeError};
use super::serving::Serving;
use super::source::{Refused, Source};
use super::start::Surroundings;
use super::stored::Store;
use super::table::Table;
use super::turn::Inputs;
use super::unwritten::Unwritten;
use super::{Daemon, attendant, found};
use crate::config::model::{Config, GroupId};
use crate::control::server::Traffic;
use crate::control::{Access, paths};
use crate::id::{Generation, ListenerName};
use crate::listeners::launchd::{self, LaunchdError};
use crate::listeners::plan::{Choice, Misfit, plan};
use crate::listeners::systemd::{self, ActivationError};
use crate::listeners::{BindError, Held, Inherited};
use crate::notify::ServiceManager;
use crate::notify::parse::DATAGRAM_MAX;
use crate::observe::{Destination, Journal, Limits, Log, Writer};
use crate::os::clock::{self, Clock};
use crate::os::environment::Environment;
use crate::os::hangup::Hangups;
use crate::os::limits;
use crate::os::process::become_subreaper;
use crate::os::signal::{self, Signals};
use crate::os::spawn::Helper;
use crate::supervisor::Supervisor;
use crate::time::Monotonic;

/// Reports of workers that may wait for the loop.
const REPORTS_MAX: usize = 1024;
/// Requests of clients that may wait for the loop.
const CALLS_MAX: usize = 64;
/// At the end, how long others may take to hear our last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the daemon is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the configuration comes from.
    pub source: Source,
    /// Where to put the control socket instead of the usual place; its directory must exist.
    pub socket: Option<PathBuf>,
}

/// The daemon did not start, or ended because of a failure; for a person.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is refused.
    #[error(transparent)]
    Configuration(#[from] Refused),
    /// What the service manager passed cannot be used.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// What launchd has cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Launchd(Vec<LaunchdError>),
    /// What was passed does not fit the configuration.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Misfits(Vec<Misfit>),
    /// Listeners cannot be bound.
    #[error("{}", .0.iter().map(|(name, error)| format!("listener {name}: {error}")).collect::<Vec<_>>().join("\n"))]
    Listeners(Vec<(ListenerName, BindError)>),
    /// Environment files.
    #[error("{}", .0.join("\n"))]
    EnvironmentFiles(Vec<String>),
    /// The runtime directory or the control socket.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is no place for the control socket.
    #[error(
        "no place for the control socket: neither RUNTIME_DIRECTORY nor {own} is set\nhint: give one with --socket",
        own = if cfg!(target_os = "macos") { "TMPDIR" } else { "XDG_RUNTIME_DIR" }
    )]
    NoPlace,
    /// Sockets are missing, and some were passed to another process than this one.
    #[error(
        "{error}\nhint: sockets were passed to process {receiver} (LISTEN_PID={receiver}), and this is process {}: where a \
         shell or another program starts handover, let it do so with exec",
        std::process::id()
    )]
    Astray {
        /// Who has them.
        receiver: u32,
        /// What is wrong without them.
        error: Box<RunError>,
    },
    /// Something of the system.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// It ran, and a failure ended it.
    #[error("{0}")]
    Failed(String),
}

/// Runs the daemon until it ends.
///
/// Call it from `main`, before any thread is started: the sockets that the service manager passed can only
/// be taken then.
///
/// # Errors
/// [`RunError`]; what went wrong while it ran was logged as well.
pub fn run(options: Options) -> Result<(), RunError> {
    let environment = Environment::read();
    signal::settle().map_err(|error| RunError::System("signals", error))?;
    let config = options.source.read(false)?;
    let mut inherited =
        systemd::take(&environment.activation, std::process::id(), crate::os::process::own_inode())?;
    let from_launchd = launchd::take(config.listeners.keys(), &crate::os::launchd::activate);
    inherited.extend(from_launchd.map_err(RunError::Launchd)?);
    crate::os::fd::close_on_exec_all().map_err(|error| RunError::System("inherited fds", error))?;
    // First of all the name: who runs a second daemon by mistake is to hear of that, not of its ports.
    let runtime = take_runtime(&options, &environment, &config)?;
    let astray = systemd::receiver(&environment.activation)?.filter(|pid| *pid != std::process::id());
    let held = hold(&config, inherited);
    let (listeners, closed) = held.map_err(|error| match astray {
        Some(receiver) => RunError::Astray { receiver, error: Box::new(error) },
        None => error,
    })?;
    let path = environment.rest.get(OsStr::new("PATH")).map(OsString::as_os_str);
    let found = found::look(config, None, path, &Step::default());
    if !found.faults.is_empty() {
        return Err(RunError::EnvironmentFiles(found.faults));
    }
    let record = Record::first(found.config, found.pools, listeners);
    let open_files = limits::raise_open_files().ok();
    let is_subreaper = become_subreaper().is_ok();
    let surroundings = Surroundings {
        name: record.config.name.clone(),
        environment: environment.rest.into_iter().collect(),
        open_files,
    };
    let helper = Helper::this_executable().map_err(|error| RunError::System("own executable", error))?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.map_err(|error| RunError::System("runtime", error))?;
    let parts = Parts {
        closed,
        helper,
        is_subreaper,
        options,
        record,
        runtime,
        surroundings,
        notify_socket: environment.manager.notify_socket,
        watchdog: watchdog(environment.manager.watchdog_usec, environment.manager.watchdog_pid),
    };
    let failure = tokio::task::LocalSet::new().block_on(&executor, parts.serve())?;
    failure.map_or(Ok(()), |reason| Err(RunError::Failed(reason)))
}

/// What is ready before the runtime is.
struct Parts {
    /// Inherited sockets that nobody wants (`unused_sockets = "close"`).
    closed: Vec<String>,
    helper: Helper,
    is_subreaper: bool,
    options: Options,
    record: Record,
    runtime: Runtime,
    surroundings: Surroundings,
    notify_socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Parts {
    async fn serve(mut self) -> Result<Option<String>, RunError> {
        let system = |what| move |error| RunError::System(what, error);
        let config = self.record.config.clone();
        let writer = Writer::to_stderr(Journal::new(&config.name)).map_err(system("log"))?;
        let variable = |name: &str| std::env::var(name).ok();
        let destination = Destination::of(&io::stderr(), variable);
        let log = Log::start(writer.clone(), destination, clock::wall_time)
            .map_err(|error| RunError::Failed(error.to_string()))?;
        log.configure(config.log.format, config.log.level);
        let (service, fault) = crate::notify::upward::from_environment(self.notify_socket.take());
        if let Some(fault) = fault {
            tracing::warn!(%fault, "service manager not told");
        }
        for socket in &self.closed {
            tracing::warn!(socket, "inherited socket closed: no listener takes it over");
        }
        let signals = Signals::install().map_err(system("signals"))?;
        let control = self.runtime.control_socket().map_err(system("control socket"))?;
        let access = access(&config.control_group)?;
        let traffic = Rc::new(Traffic::default());
        let (calls_in, calls) = mpsc::channel(CALLS_MAX);
        let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
        let serving = Serving::start(control, access, calls_in, traffic.clone());
        let hangups = Rc::new(Hangups::new().map_err(system("epoll"))?);
        let (mut daemon, readings) = self.assemble(log, writer, service, traffic, serving, reports_in);
        daemon.stored = Store::new(hangups.clone());
        let failure = daemon.run(Inputs { signals, calls, reports, readings, hangups }).await;
        daemon.serving.end();
        daemon.say_last_words().await;
        Ok(failure)
    }

    fn assemble(
        self,
        log: Log,
        writer: Writer,
        service: ServiceManager,
        traffic: Rc<Traffic>,
        serving: Serving,
        reports: attendant::Reports,
    ) -> (Daemon, mpsc::UnboundedReceiver<Finished<Found>>) {
        let clock = Clock::start();
        let now = Monotonic::from_origin(clock.now());
        let config = &self.record.config;
        let policies = config.pools.iter().map(|(name, pool)| (name.clone(), pool.policy.clone()));
        let first = Generation(1);
        let seed = u64::try_from(clock::wall().as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
        let (readings, readings_out) = Readings::new();
        tracing::info!(name = config.name, pid = std::process::id(), "starting");
        let daemon = Daemon {
            machine: Supervisor::new(now, seed ^ u64::from(std::process::id()), policies.collect()),
            clock,
            inbox: VecDeque::new(),
            waiting_starts: VecDeque::new(),
            ended: None,
            source: self.options.source,
            output: config.log.workers,
            generations: BTreeMap::from([(first, self.record)]),
            committed: first,
            readings,
            runtime: self.runtime,
            serving,
            surroundings: self.surroundings,
            helper: self.helper,
            table: Table::default(),
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
            manager: Manager::new(service, self.watchdog, now),
            writer,
            unwritten: Unwritten::default(),
            log,
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

    pub(super) fn write_pid_file(&self) {
        if let Err(error) = self.runtime.write_pid_file() {
            tracing::warn!(%error, "pid file not written");
        }
    }
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

fn take_runtime(options: &Options, environment: &Environment, config: &Config) -> Result<Runtime, RunError> {
    let (directory, control) = match &options.socket {
        Some(socket) => (beside(socket), socket.clone()),
        None => {
            let variable = |name: &str| {
                environment.rest.get(&OsString::from(name)).map(|value| value.to_string_lossy().into_owned())
            };
            let root = nix::unistd::geteuid().is_root();
            let surroundings = paths::Surroundings::from_variables(variable, root);
            let directory = surroundings.directory(&config.name).ok_or(RunError::NoPlace)?;
            let control = directory.join(paths::SOCKET);
            (directory, control)
        }
    };
    let group = find_group(&config.control_group)?;
    Ok(Runtime::take(&directory, &control, group.as_ref(), config.pid_file.clone())?)
}

/// The directory for the rest of what a daemon needs, where only its socket's place is given.
fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".d");
    PathBuf::from(name)
}

fn find_group(name: &Option<String>) -> Result<Option<GroupId>, RunError> {
    let Some(name) = name else { return Ok(None) };
    let group = crate::config::Facts::group(&super::ThisMachine, name);
    let missing = || RunError::System("control_group", io::Error::other(format!("no such group: {name}")));
    group.map(Some).ok_or_else(missing)
}

fn access(control_group: &Option<String>) -> Result<Access, RunError> {
    let group = find_group(control_group)?.map(|group| group.gid);
    Ok(Access { owner: nix::unistd::geteuid().as_raw(), group })
}

/// How many files this process may have open.
fn open_files() -> u64 {
    let limit = limits::Limit::of_this_process(limits::Resource::NoFile);
    limit.ok().and_then(|limit| limit.soft).unwrap_or(u64::MAX)
}

/// Within which time the service manager wants to hear from us, if it does (`sd_watchdog_enabled(3)`): zero
/// and endless count as unset, and so does one that is meant for another process.
fn watchdog(usec: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let number = |text: OsString| text.to_str().and_then(|text| text.parse::<u64>().ok());
    let usec = usec.and_then(number).filter(|usec| *usec > 0 && *usec < u64::MAX)?;
    let for_us = pid.is_none_or(|pid| number(pid) == Some(u64::from(std::process::id())));
    for_us.then(|| Duration::from_micros(usec))
}

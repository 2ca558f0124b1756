//! Taking a process over for the daemon: its signals, its environment, its sockets, its log.
//!
//! What can refuse comes before what others can see: the configuration, then the sockets, then the control
//! socket, then the workers. What was taken is given back in reverse. Everything that is the whole process's is settled
//! here, and nothing of that anywhere else in `daemon`: what it needs it is given (`outset`), because it may also be a part of
//! somebody else's program.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::Config;
use crate::daemon::boot::bootstrap::{self, Outset, Wishes};
use crate::daemon::boot::embed_host::Program;
use crate::daemon::boot::location::{Place, without_ours};
use crate::daemon::boot::runtime_dir::RuntimeError;
use crate::daemon::reload::config_source::{Refused, Source};
use crate::daemon::worker::start::Surroundings;
use crate::id::ListenerName;
use crate::listeners::BindError;
use crate::listeners::launchd::{self, LaunchdError};
use crate::listeners::plan::Misfit;
use crate::listeners::systemd::{self, ActivationError};
use crate::observe::{Destination, Journal, Log, Writer};
use crate::os::clock;
use crate::os::environment::Environment;
use crate::os::limits;
use crate::os::process::become_subreaper;
use crate::os::signal::{self, Signals};
use crate::os::spawn::Helper;

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
    /// The exec helper of a program that we are a part of.
    #[error("{0}")]
    Helper(String),
    /// The program that we are a part of is told nothing of how its children end.
    #[error(
        "{0}, so nothing would be known of how workers end\nhint: leave SIGCHLD at its default, or give it a handler; a \
         program that wants no zombies waits for its children, each by its pid"
    )]
    ChildrenVanish(&'static str),
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
    // Taken first of all, because reading needs a thread; judged where its turn is.
    let inherited =
        systemd::take(&environment.activation, std::process::id(), crate::os::process::own_inode());
    let config = options.source.read(false)?;
    let mut inherited = inherited?;
    let from_launchd = launchd::take(config.listeners.keys(), &crate::os::launchd::activate);
    inherited.extend(from_launchd.map_err(RunError::Launchd)?);
    crate::os::fd::close_on_exec_all().map_err(|error| RunError::System("inherited fds", error))?;
    // First of all the name: who runs a second daemon by mistake is to hear of that, not of its ports.
    let place = options.socket.map_or(Place::Usual, Place::Socket);
    let runtime = place.take(&environment.rest, &config)?;
    let astray = systemd::receiver(&environment.activation)?.filter(|pid| *pid != std::process::id());
    let (record, closed) =
        bootstrap::record(config, inherited, &environment.rest).map_err(|error| match (error, astray) {
            (error @ (RunError::Misfits(_) | RunError::Listeners(_)), Some(receiver)) => {
                RunError::Astray { receiver, error: Box::new(error) }
            }
            (error, _) => error,
        })?;
    let open_files = limits::raise_open_files().ok();
    let is_subreaper = become_subreaper().is_ok();
    let surroundings = Surroundings {
        name: record.config.name.clone(),
        environment: without_ours(environment.rest, &runtime).into_iter().collect(),
        open_files,
    };
    let helper = Helper::this_executable().map_err(|error| RunError::System("own executable", error))?;
    let watchdog = watchdog(environment.manager.watchdog_usec, environment.manager.watchdog_pid);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.map_err(|error| RunError::System("runtime", error))?;
    let serve = async {
        let (log, writer) = start_log(&record.config)?;
        let (service, fault) = crate::notify::upward::from_environment(environment.manager.notify_socket);
        if let Some(fault) = fault {
            tracing::warn!(%fault, "service manager not told");
        }
        for socket in &closed {
            tracing::warn!(socket, "inherited socket closed: no listener takes it over");
        }
        let ignored = signal::ignored();
        if !ignored.is_empty() {
            tracing::info!(signals = ignored.join(", "), "signals ignored, as they were at the start");
        }
        let signals = Signals::install().map_err(|error| RunError::System("signals", error))?;
        let outset = Outset {
            helper,
            is_subreaper,
            log: Some(log),
            record,
            runtime,
            service,
            signals: Some(signals),
            source: options.source,
            surroundings,
            watchdog,
            writer,
            wishes: Wishes::new(),
            program: Program::default(),
        };
        outset.serve().await
    };
    let failure = tokio::task::LocalSet::new().block_on(&executor, serve)?;
    failure.map_or(Ok(()), |reason| Err(RunError::Failed(reason)))
}

/// The log of this process, and the way out for everything.
fn start_log(config: &Config) -> Result<(Log, Writer), RunError> {
    let writer = Writer::to_stderr(Journal::new(&config.name));
    let writer = writer.map_err(|error| RunError::System("log", error))?;
    let variable = |name: &str| std::env::var(name).ok();
    let destination = Destination::of(&io::stderr(), variable);
    let log = Log::start(writer.clone(), destination, clock::wall_time)
        .map_err(|error| RunError::Failed(error.to_string()))?;
    log.configure(config.log.format, config.log.level);
    Ok((log, writer))
}

/// Within which time the service manager wants to hear from us, if it does (`sd_watchdog_enabled(3)`): zero
/// and endless count as unset, and so does one that is meant for another process.
pub(in crate::daemon) fn watchdog(usec: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let number = |text: OsString| text.to_str().and_then(|text| text.parse::<u64>().ok());
    let usec = usec.and_then(number).filter(|usec| *usec > 0 && *usec < u64::MAX)?;
    let for_us = pid.is_none_or(|pid| number(pid) == Some(u64::from(std::process::id())));
    for_us.then(|| Duration::from_micros(usec))
}

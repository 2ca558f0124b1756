//! The daemon as a part of another program: what that program brings, and how it is begun on a thread of its own.
//!
//! Nothing that is the whole process's is touched here: no signal, no limit, no subscriber of its log, no fd that is not ours. What
//! the process's surroundings must be like is looked at, and refused where it cannot work.

mod helper;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::config::is_reserved_variable;
use crate::control::What;
use crate::daemon::Daemon;
use crate::daemon::boot::bootstrap::{self, CALLS_MAX, Outset, Wishes};
use crate::daemon::boot::location::{Place, without_ours};
use crate::daemon::boot::run::{RunError, watchdog};
use crate::daemon::clients::command::Wish;
use crate::daemon::core::projection::who;
use crate::daemon::reload::config_source::Source;
use crate::daemon::worker::start::Surroundings;
use crate::id::WorkerId;
use crate::listeners::{Inherited, systemd};
use crate::notify::upward::from_environment;
use crate::observe::{Line, Origin, Writer};
use crate::os::environment::Environment;
use crate::os::foreign::Foreign;
use crate::os::signal;
use crate::os::spawn::{Helper, StartSpec};
use crate::supervisor::{self, StartFailure};
use crate::wire::Payload;

/// Messages that the program has not taken, at most.
pub(crate) const MESSAGES_MAX: usize = 256;
/// Their bytes; one is always taken in.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Fds that came with them; those of one are always taken in.
const MESSAGE_FDS_MAX: usize = 128;

/// Takes lines of workers; on a thread of their own, where it may block.
pub(crate) type TakeLine = Box<dyn FnMut(SystemTime, &Origin, &Line) + Send>;
/// Is called before each start.
pub(crate) type SpawnHook = Box<dyn FnMut(&Start) -> Result<Extra, String> + Send>;

/// A start of a worker that is about to be made.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::embed::{Builder, Extra};
///
/// let builder = Builder::from_file("myapp.toml").on_spawn(|start| match start.worker {
///     0..1000 => Ok(Extra::default().variable("SEED", start.worker.to_string())),
///     _ => Err("a thousand workers are enough".to_owned()),
/// });
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Start {
    /// The pool.
    pub pool: String,
    /// The slot, from 0.
    pub slot: u32,
    /// The generation, from 1.
    pub generation: u64,
    /// The worker's number, never used again.
    pub worker: u64,
}

/// What a start gets beside its configuration; `Extra::default()` is nothing.
///
/// ```
/// use handover::embed::Extra;
///
/// let extra = Extra::default().variable("TOKEN", "a secret").argument("--verbose");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    variables: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
}

impl Extra {
    /// An environment variable, in place of one of that name in the configuration. Those that handover sets itself (`LISTEN_…`,
    /// `NOTIFY_SOCKET`, `HANDOVER_…`) cannot be given: the start fails.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// One more argument, after those of the configuration.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// What the program that we are a part of wants of the daemon; nothing, for a daemon that is a process of its own.
#[derive(Default)]
pub(in crate::daemon) struct Program {
    pub(in crate::daemon) hook: Option<SpawnHook>,
    pub(in crate::daemon) audience: Option<Audience>,
    /// Is told when the daemon is up.
    pub(in crate::daemon) is_up: Option<oneshot::Sender<()>>,
    /// Ends when the program does not want the daemon any more.
    pub(in crate::daemon) released: Option<oneshot::Receiver<()>>,
}

impl Program {
    /// Adds to a start what the program wants. A panic in there is a failed start, and not the end of all workers.
    pub(in crate::daemon) fn add_to(
        &mut self,
        spec: &mut StartSpec,
        worker: WorkerId,
        at: &supervisor::Place,
    ) -> Result<(), StartFailure> {
        let Some(hook) = &mut self.hook else { return Ok(()) };
        let start = Start {
            pool: at.pool.to_string(),
            slot: at.slot.0,
            generation: at.generation.0,
            worker: worker.0,
        };
        let refused =
            |reason: String| StartFailure { stage: "hook".to_owned(), reason, program_changed: false };
        let said = catch_unwind(AssertUnwindSafe(|| hook(&start)));
        let extra = said.map_err(|panic| refused(format!("it panicked: {}", text_of(panic.as_ref()))))?;
        let Extra { variables, arguments } = extra.map_err(refused)?;
        for (name, value) in variables {
            if name.to_str().is_some_and(is_reserved_variable) {
                return Err(refused(format!("{} is set by handover itself", name.display())));
            }
            spec.environment.retain(|(known, _)| *known != name);
            spec.environment.push((name, value));
        }
        spec.arguments.extend(arguments);
        Ok(())
    }
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// Where messages of workers to handover go.
pub(crate) struct Audience {
    queue: mpsc::Sender<FromWorker>,
    waiting: Arc<Waiting>,
}

/// What waits for the program, all messages together.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    fds: AtomicUsize,
}

impl Audience {
    /// With the end at which the program takes them.
    pub(crate) fn new() -> (Self, mpsc::Receiver<FromWorker>) {
        let (queue, receiver) = mpsc::channel(MESSAGES_MAX);
        (Self { queue, waiting: Arc::default() }, receiver)
    }

    /// Gives it to the program, or says why not.
    pub(in crate::daemon) fn give(&self, mut message: FromWorker) -> Result<(), &'static str> {
        let (bytes, fds) = (message.data.size(), message.fds.len());
        let bytes_before = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fds_before = self.waiting.fds.fetch_add(fds, Ordering::Relaxed);
        message.weight = Weight { of: self.waiting.clone(), bytes, fds };
        let too_many = |before, more, most| before > 0 && more > 0 && before + more > most;
        if too_many(bytes_before, bytes, MESSAGE_BYTES_MAX) || too_many(fds_before, fds, MESSAGE_FDS_MAX) {
            return Err("the program that runs the workers does not take its messages");
        }
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                "the program that runs the workers does not take its messages"
            }
            mpsc::error::TrySendError::Closed(_) => {
                "the program that runs the workers takes no messages any more"
            }
        })
    }
}

/// What one message is of that, until this is dropped.
#[derive(Debug, Default)]
struct Weight {
    of: Arc<Waiting>,
    bytes: usize,
    fds: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.fds.fetch_sub(self.fds, Ordering::Relaxed);
    }
}

/// A message of a worker to the program that runs it.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// let mut messages = supervisor.messages().ok_or("somebody else takes them")?;
/// while let Some(message) = messages.next().await {
///     println!("worker {} in slot {} of {}: {}", message.worker(), message.slot(), message.pool(), message.data());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct FromWorker {
    worker: u64,
    pool: String,
    slot: u32,
    data: Payload,
    fds: Vec<Foreign>,
    answer: Option<oneshot::Sender<Payload>>,
    weight: Weight,
}

impl FromWorker {
    pub(in crate::daemon) fn new(
        worker: WorkerId,
        at: &supervisor::Place,
        data: Payload,
        fds: Vec<OwnedFd>,
        answer: Option<oneshot::Sender<Payload>>,
    ) -> Self {
        let (pool, slot) = (at.pool.to_string(), at.slot.0);
        let fds = fds.into_iter().map(Foreign::new).collect();
        Self { worker: worker.0, pool, slot, data, fds, answer, weight: Weight::default() }
    }

    /// The worker's number.
    pub fn worker(&self) -> u64 {
        self.worker
    }

    /// Its pool.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Its slot, from 0.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// What it says.
    pub fn data(&self) -> &Payload {
        &self.data
    }

    /// The fds that came with it, close-on-exec; those that nobody takes are closed with the message.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.fds.drain(..).filter_map(Foreign::into_owned).collect()
    }

    /// The worker waits for an answer.
    pub fn is_question(&self) -> bool {
        self.answer.is_some()
    }

    /// Answers it. A question that is dropped without an answer is refused to the worker.
    ///
    /// # Errors
    /// [`TooLate`]: it was no question, its time is over, or the supervisor has ended.
    pub fn reply(self, data: Payload) -> Result<(), TooLate> {
        let answer = self.answer.ok_or(TooLate)?;
        answer.send(data).map_err(|_| TooLate)
    }
}

/// Nobody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for this answer")]
pub struct TooLate;

/// A worker gave no answer.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use handover::embed::{Error, Target};
///
/// match supervisor.question(Target::Worker(7), "how many?", Duration::from_secs(1)).await {
///     Err(Error::NotAnswered(no)) => println!("{}: {}", no.error, no.reason),
///     answer => println!("{}", answer?),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotAnswered {
    /// Why, in a word of the channel's protocol (`gone`, `queue_full`, `timeout`, …), or one of the worker's own.
    pub error: String,
    /// Why, for a person.
    pub reason: String,
}

/// Everything that a program brings that hosts a daemon.
pub(crate) struct Hosting {
    pub(crate) source: Source,
    pub(crate) place: Place,
    /// `None`: this very program.
    pub(crate) helper: Option<Helper>,
    /// Sockets by name.
    pub(crate) sockets: Vec<(String, OwnedFd)>,
    /// `NOTIFY_SOCKET` of the program is told how the daemon is.
    pub(crate) tells_manager: bool,
    pub(crate) hook: Option<SpawnHook>,
    pub(crate) audience: Option<Audience>,
    pub(crate) take_line: TakeLine,
    pub(crate) wishes: (mpsc::Sender<Wish>, mpsc::Receiver<Wish>),
    pub(crate) released: oneshot::Receiver<()>,
    /// Is told when the daemon is up; dropped without that where it does not begin.
    pub(crate) is_up: oneshot::Sender<()>,
}

/// The sockets that were passed to this process, by name. While it has one thread.
pub(crate) fn inherited_sockets() -> Result<Vec<(String, OwnedFd)>, RunError> {
    let activation = Environment::read().activation;
    let taken = systemd::take(&activation, std::process::id(), crate::os::process::own_inode())?;
    Ok(taken.into_iter().map(|inherited| (inherited.offer.name, inherited.socket)).collect())
}

/// The queue for wishes of the program.
pub(crate) fn wishes() -> (mpsc::Sender<Wish>, mpsc::Receiver<Wish>) {
    mpsc::channel(CALLS_MAX)
}

/// Runs a daemon to its end, on a thread that does nothing else: workers get their parent-death signal when it ends. Gives the
/// failure that ended it, if one did, or why it did not begin.
pub(crate) fn host(hosting: Hosting) -> Result<Option<String>, RunError> {
    let system = |what| move |error| RunError::System(what, error);
    signal::leave_to_others().map_err(system("signal mask"))?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.map_err(system("runtime"))?;
    tokio::task::LocalSet::new().block_on(&executor, begin(hosting))
}

async fn begin(hosting: Hosting) -> Result<Option<String>, RunError> {
    let system = |what| move |error| RunError::System(what, error);
    if let Some(why) = signal::children_vanish().map_err(system("SIGCHLD"))? {
        return Err(RunError::ChildrenVanish(why));
    }
    let helper = helper::find(hosting.helper)?;
    let environment = Environment::read();
    let config = hosting.source.read(false)?;
    helper::ask(&helper).await?;
    let sockets = hosting.sockets.into_iter().map(|(name, socket)| {
        let fault = |error| RunError::Listeners(vec![(crate::id::ListenerName::new(name.clone()), error)]);
        Inherited::given(name.clone(), socket).map_err(fault)
    });
    let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
    let runtime = hosting.place.take(&environment.rest, &config)?;
    let (record, closed) = bootstrap::record(config, sockets, &environment.rest)?;
    for socket in closed {
        tracing::warn!(socket, "given socket closed: no listener takes it over");
    }
    let writer = Writer::to_function(hosting.take_line).map_err(system("output"))?;
    let manager = if hosting.tells_manager { environment.manager } else { Default::default() };
    let (service, fault) = from_environment(manager.notify_socket);
    if let Some(fault) = fault {
        tracing::warn!(%fault, "service manager not told");
    }
    let surroundings = Surroundings {
        name: record.config.name.clone(),
        environment: without_ours(environment.rest, &runtime).into_iter().collect(),
        open_files: None,
    };
    let (entrance, queue) = hosting.wishes;
    let outset = Outset {
        helper,
        is_subreaper: false,
        log: None,
        record,
        runtime,
        service,
        signals: None,
        source: hosting.source,
        surroundings,
        watchdog: watchdog(manager.watchdog_usec, manager.watchdog_pid),
        writer,
        wishes: Wishes { entrance, queue },
        program: Program {
            hook: hosting.hook,
            audience: hosting.audience,
            is_up: Some(hosting.is_up),
            released: Some(hosting.released),
        },
    };
    outset.serve().await
}

impl Daemon {
    /// Somebody else has taken the exit status of a worker. Each of them is told to readers of events, and the first ones are
    /// warned of.
    pub(in crate::daemon) fn say_status_lost(&mut self, worker: WorkerId) {
        let Some(entry) = self.table.get(worker) else { return };
        let (place, pid) = (entry.place.clone(), entry.process.pid());
        let reason = match signal::children_vanish() {
            Ok(Some(why)) => format!("{why}, so the kernel tells nobody"),
            _ => "another part of this program took its exit status (waitpid for any child)".to_owned(),
        };
        if let Some(held_back) = self.limits.pass("exit status", self.now()) {
            tracing::warn!(
                pool = %place.pool, slot = place.slot.0, worker = worker.0, pid, reason, held_back,
                "exit status of a worker lost"
            );
        }
        let who = who(worker, &place, &self.table);
        self.happened(What::WorkerStatusLost { who, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, PoolName, SlotIndex};

    #[test]
    fn a_program_that_takes_no_messages_is_not_given_fds_without_end() {
        let (audience, mut messages) = Audience::new();
        let at =
            supervisor::Place { pool: PoolName::new("web"), slot: SlotIndex(0), generation: Generation(1) };
        let message = |fds: usize| {
            let fds = (0..fds).map(|_| std::io::pipe().unwrap().0.into()).collect();
            FromWorker::new(WorkerId(1), &at, Payload::of(&1).unwrap(), fds, None)
        };
        let given = (0..10).filter(|_| audience.give(message(64)).is_ok()).count();
        assert_eq!(given, MESSAGE_FDS_MAX / 64);
        assert!(audience.give(message(0)).is_ok(), "one without fds");
        drop(messages.try_recv().unwrap());
        assert!(audience.give(message(64)).is_ok());
    }
}

//! What a supervisor begins with.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::{oneshot, watch};

use super::error::StartError;
use super::handle::Supervisor;
use super::output::{OutputLine, trace};
use super::settings::Settings;
use super::thread::{self, Log};
use super::wait::block_on;
use crate::daemon::{
    Audience, Extra, Hosting, Place, RunError, Source, SpawnHook, Spawning, TakeLine, inherited_sockets,
    wishes,
};
use crate::os::spawn::Helper;

/// Where a configuration comes from.
///
/// ```
/// use handover::embed::Configuration;
///
/// let file = Configuration::file("/etc/handover/myapp.toml");
/// let text = Configuration::toml("myapp", "[pool.web]\ncommand = ['/usr/bin/myapp']\n");
/// ```
#[derive(Clone, Debug)]
pub struct Configuration(pub(super) Source);

impl Configuration {
    /// A file, read at the start and again at each reload. A relative path is one from the working directory of this moment.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self(Source::File(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())))
    }

    /// TOML text; `name` is the name of the supervisor where the text has none, and stands before each fault.
    pub fn toml(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self(Source::Text { name: name.into(), text: text.into() })
    }
}

impl From<&Settings> for Configuration {
    fn from(settings: &Settings) -> Self {
        Self(Source::Code { name: settings.name().to_owned(), text: settings.to_toml() })
    }
}

/// What a supervisor begins with. Nothing happens before [`start`](Self::start).
///
/// ```no_run
/// # async fn example() -> Result<(), handover::embed::StartError> {
/// use handover::embed::Builder;
///
/// let supervisor = Builder::from_file("/etc/handover/myapp.toml").start().await?;
/// # Ok(()) }
/// ```
#[must_use]
pub struct Builder {
    configuration: Configuration,
    place: Place,
    helper: Option<PathBuf>,
    sockets: Vec<(String, OwnedFd)>,
    tells_manager: bool,
    takes_messages: bool,
    hook: Option<SpawnHook>,
    take_line: Option<Box<dyn FnMut(OutputLine) + Send>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { configuration, place, helper, .. } = self;
        f.debug_struct("Builder")
            .field("configuration", configuration)
            .field("place", place)
            .field("helper", helper)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// With this configuration.
    ///
    /// ```
    /// use handover::embed::{Builder, Configuration};
    ///
    /// let builder = Builder::new(Configuration::file("/etc/handover/myapp.toml"));
    /// ```
    pub fn new(configuration: impl Into<Configuration>) -> Self {
        Self {
            configuration: configuration.into(),
            place: Place::Private,
            helper: None,
            sockets: Vec::new(),
            tells_manager: false,
            takes_messages: false,
            hook: None,
            take_line: None,
        }
    }

    /// With a file, read at the start and again at each reload.
    pub fn from_file(path: impl AsRef<Path>) -> Self {
        Self::new(Configuration::file(path))
    }

    /// With TOML text; see [`Configuration::toml`].
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_toml("myapp.toml", "[pool.jobs]\ncommand = ['/usr/bin/jobs']\n");
    /// ```
    pub fn from_toml(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Configuration::toml(name, text))
    }

    /// With a configuration in code.
    pub fn from_settings(settings: &Settings) -> Self {
        Self::new(settings)
    }

    /// Starts workers through this `handover` program instead of through this very program, whose `main` then need not call
    /// [`helper_main`](super::helper_main). It must be of the same version as this library.
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").helper("/usr/bin/handover");
    /// ```
    pub fn helper(mut self, path: impl Into<PathBuf>) -> Self {
        self.helper = Some(path.into());
        self
    }

    /// Gives a socket that the program has for the listener of this name, as if it were inherited from a service manager: it is
    /// taken as it is, and closed when the supervisor ends. A listener that is not in the configuration is an error, unless that
    /// has `unused_sockets = "close"`.
    ///
    /// ```no_run
    /// # use handover::embed::{Builder, Listener, Pool, Settings};
    /// let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let settings = Settings::new("myapp")
    ///     .listener(Listener::given("http"))
    ///     .pool(Pool::new("web", ["/usr/bin/myapp"]).listener("http"));
    /// let builder = Builder::from_settings(&settings).socket("http", socket);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn socket(mut self, name: impl Into<String>, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push((name.into(), socket.into()));
        self
    }

    /// Takes the sockets that a service manager has passed to this process (`LISTEN_FDS`, `sd_listen_fds(3)`), now: call it in
    /// `main`, before the first thread is started. They are matched with the listeners as `handover run` does it, and the variables
    /// that name them are removed. Without this they are left to the program.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), handover::embed::StartError> {
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").inherit_sockets()?;
    /// let runtime = tokio::runtime::Runtime::new();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StartError::Listeners`]: other threads run already, or what was passed cannot be used.
    pub fn inherit_sockets(mut self) -> Result<Self, StartError> {
        self.sockets.extend(inherited_sockets().map_err(StartError::of)?);
        Ok(self)
    }

    /// Puts a control socket here, so that `handover status --socket PATH` and its like work; its directory must exist. Without
    /// this and [`usual_control_socket`](Self::usual_control_socket) there is none.
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").control_socket("/run/myapp/control.sock");
    /// ```
    pub fn control_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Socket(path.into());
        self
    }

    /// Puts a control socket where `handover status --name NAME` finds it. A second supervisor or daemon of that name is refused.
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").usual_control_socket();
    /// ```
    pub fn usual_control_socket(mut self) -> Self {
        self.place = Place::Usual;
        self
    }

    /// Puts the notify sockets of workers here, and no control socket. Without this they are in a directory of their own with a
    /// name that nobody can guess, in `/run` (root), `$XDG_RUNTIME_DIR` or the temporary directory; it is removed at the end.
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").runtime_directory("/run/myapp");
    /// ```
    pub fn runtime_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Directory(path.into());
        self
    }

    /// Tells the service manager of this process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`) how the supervisor is, as `handover run` does.
    /// Without this the program's own socket is left to the program.
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// // A unit with Type=notify: READY=1 when the workers are ready.
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").tell_service_manager();
    /// ```
    pub fn tell_service_manager(mut self) -> Self {
        self.tells_manager = true;
        self
    }

    /// Messages that workers send to handover, and their questions, are for this program:
    /// [`Supervisor::messages`] gives them. Without this, messages are only seen as events, and questions are refused.
    ///
    /// ```
    /// # async fn f() -> Result<(), handover::embed::StartError> {
    /// # use handover::embed::Builder;
    /// let supervisor = Builder::from_file("/etc/handover/myapp.toml").take_messages().start().await?;
    /// let messages = supervisor.messages().expect("they were asked for, and are given once");
    /// # Ok(()) }
    /// ```
    pub fn take_messages(mut self) -> Self {
        self.takes_messages = true;
        self
    }

    /// Is called before each start of a worker, and may add to its environment and arguments, or refuse the start: then that has
    /// failed at the stage `hook`, with this reason. A panic in it is such a failure, too.
    ///
    /// It is called on the supervisor's own thread, so it must not block: all workers wait for it.
    ///
    /// ```
    /// # use handover::embed::{Builder, Extra};
    /// let builder = Builder::from_file("/etc/handover/myapp.toml").on_spawn(|start| match start.pool.as_str() {
    ///     "web" => Ok(Extra::default().variable("SHARD", start.slot.to_string())),
    ///     _ => Ok(Extra::default()),
    /// });
    /// ```
    pub fn on_spawn(mut self, hook: impl FnMut(&Spawning) -> Result<Extra, String> + Send + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Takes the lines that workers write, and records of their channels. Without this they are events of `tracing` with the
    /// target `handover::output`.
    ///
    /// It is called on a thread of its own, and may block: workers that write more than it takes are then slowed by their own full
    /// pipes, and nothing is lost (1 MiB may wait).
    ///
    /// ```
    /// # use handover::embed::Builder;
    /// let builder = Builder::from_file("/etc/handover/myapp.toml")
    ///     .on_output(|line| println!("{}[{}]: {}", line.pool, line.slot, line.text));
    /// ```
    pub fn on_output(mut self, take: impl FnMut(OutputLine) + Send + 'static) -> Self {
        self.take_line = Some(Box::new(take));
        self
    }

    /// Starts the supervisor on a thread of its own. Returns when it holds its sockets and begins to start workers; that they are
    /// ready, [`Supervisor::ready`] tells. Dropping the future ends what was begun.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left then.
    pub async fn start(self) -> Result<Supervisor, StartError> {
        let log = Log::of_this_thread();
        let (is_up, up) = oneshot::channel();
        let (released, release) = oneshot::channel();
        let (failed, failure) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let (audience, messages) = Audience::new();
        let (entrance, queue) = wishes();
        let hosting = Hosting {
            source: self.configuration.0,
            place: self.place,
            helper: self.helper.map(Helper::at),
            sockets: self.sockets,
            tells_manager: self.tells_manager,
            hook: self.hook,
            audience: self.takes_messages.then_some(audience),
            take_line: line_taker(self.take_line, log.clone()),
            wishes: (entrance.clone(), queue),
            released: release,
            is_up,
        };
        let thread = thread::start(hosting, log, failed, end);
        let thread =
            thread.map_err(|error| StartError::Failed(format!("thread: {}", crate::os::words(&error))))?;
        let messages = self.takes_messages.then_some(messages);
        if up.await.is_ok() {
            return Ok(Supervisor::new(entrance, released, ended, thread, Mutex::new(messages)));
        }
        let error = failure.await.unwrap_or_else(|_| RunError::Failed("the supervisor is gone".to_owned()));
        // It has nothing left to do but to end.
        let _ = thread.join();
        Err(StartError::of(error))
    }

    /// The same for programs without a runtime: waits on this thread.
    ///
    /// ```no_run
    /// # use handover::embed::{Builder, block_on};
    /// let supervisor = Builder::from_file("/etc/handover/myapp.toml").start_blocking()?;
    /// block_on(supervisor.ready()).expect("all are ready");
    /// # Ok::<_, handover::embed::StartError>(())
    /// ```
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_blocking(self) -> Result<Supervisor, StartError> {
        block_on(self.start())
    }
}

fn line_taker(take: Option<Box<dyn FnMut(OutputLine) + Send>>, log: Log) -> TakeLine {
    match take {
        Some(mut take) => Box::new(move |time, origin, line| take(OutputLine::new(time, origin, line))),
        None => Box::new(move |_, origin, line| log.within(|| trace(origin, line))),
    }
}

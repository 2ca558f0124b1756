//! [`Worker`]: what a program says about itself, and what it asks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::drain::{Drain, Draining};
use super::error::Error;
use super::inherited::Inherited;
use super::listener::Request;
use super::notify;
use super::options::Options;
use super::pulse::Pulse;
use super::surroundings::Identity;
use super::thread;
use super::waiting::Waiting;
use crate::os::clock;
use crate::os::interrupt;
use crate::wire::{Capability, ToHandover, limits};

/// This process as a worker: under handover, under plain socket activation, or alone.
///
/// A handle: clones are the same worker, and every method may be called from any thread. [The module](super) shows whole programs.
///
/// ```no_run
/// use handover::worker::Worker;
///
/// # fn main() -> Result<(), handover::worker::Error> {
/// let worker = Worker::connect()?;
/// let http = worker.listener("http").or_bind("tcp://127.0.0.1:8080")?;
/// worker.ready();
/// for connection in http.incoming()? {
///     let connection = connection?;
///     std::thread::spawn(move || drop(connection));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Worker {
    pub(super) core: Arc<Core>,
    pub(super) inherited: Arc<Inherited>,
    identity: Option<Identity>,
    watchdog: Option<Duration>,
}

impl Worker {
    pub(super) const fn new(
        core: Arc<Core>,
        inherited: Arc<Inherited>,
        identity: Option<Identity>,
        watchdog: Option<Duration>,
    ) -> Self {
        Self { core, inherited, identity, watchdog }
    }

    /// Connects with the default [`Options`].
    ///
    /// ```
    /// use handover::worker::{Error, Worker};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let worker = Worker::connect()?;
    /// assert!(matches!(Worker::connect(), Err(Error::ConnectedBefore)));
    /// # let _ = worker; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Options::connect`].
    pub fn connect() -> Result<Self, Error> {
        Options::default().connect()
    }

    /// Connects otherwise.
    pub fn options() -> Options {
        Options::default()
    }

    /// Whether there is a channel to handover now.
    ///
    /// ```
    /// use handover::worker::{Capability, Worker};
    ///
    /// # fn main() -> Result<(), handover::worker::Error> {
    /// let worker = Worker::options().messages(true).connect()?;
    /// if worker.is_connected() && worker.can(Capability::Messages) {
    ///     println!("{:?} may talk to the others", worker.identity());
    /// } else if let Some(why) = worker.lost() {
    ///     eprintln!("{why}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn is_connected(&self) -> bool {
        self.core.lock().session.is_open()
    }

    /// Why the channel ended, where one side broke its rules; `None` while it is there, where there never was one, and when handover is gone.
    /// The program goes on as a plain worker, and handover replaces it.
    pub fn lost(&self) -> Option<String> {
        self.core.lock().lost.clone()
    }

    /// Whether there is a channel, and handover named this capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.core.lock().session.can(capability)
    }

    /// Which worker this is; `None` without handover.
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The listening sockets of this name. What it takes to get them is in [`Request`].
    pub fn listener(&self, name: impl Into<String>) -> Request<'_> {
        Request::new(self, name.into())
    }

    /// Fds that the start brought under this name: those that [`store_fd`](Self::store_fd) put away, or sockets of a kind that
    /// [`Listener`](super::Listener) does not know. Each is given once.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// let sessions = worker.take_fds("sessions").pop().map(std::fs::File::from);
    /// assert!(sessions.is_none(), "nobody stored one");
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn take_fds(&self, name: &str) -> Vec<OwnedFd> {
        self.inherited.take(name)
    }

    /// It can serve: `READY=1`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let worker = handover::worker::Worker::connect()?;
    /// worker.extend_timeout(Duration::from_secs(20)); // reading the cache takes its time
    /// worker.status("reading the cache");
    /// worker.ready();
    /// worker.status("42 clients");
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn ready(&self) {
        self.core.say(&ToHandover::Ready, "READY=1", false);
    }

    /// What it does, for people: `STATUS=`. At most 1,024 bytes; the rest is cut.
    pub fn status(&self, text: &str) {
        let text = limits::cut(text.to_owned(), limits::TEXT_MAX);
        let fields = format!("STATUS={}", notify::value(&text));
        self.core.say(&ToHandover::Status { text }, &fields, true);
    }

    /// It turns: `WATCHDOG=1`. To be called from where the program works, or see [`feed_watchdog`](Self::feed_watchdog).
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// # fn work() -> bool { false }
    /// if !worker.feed_watchdog()? {
    ///     // There is no watchdog, or the program says it by itself:
    ///     while work() {
    ///         worker.heartbeat();
    ///     }
    /// }
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn heartbeat(&self) {
        self.core.say(&ToHandover::Heartbeat, "WATCHDOG=1", true);
    }

    /// It needs so much more time for its start or its end, counted from now: `EXTEND_TIMEOUT_USEC=`.
    pub fn extend_timeout(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX).min(limits::NUMBER_MAX);
        let fields = format!("EXTEND_TIMEOUT_USEC={}", by.as_micros().min(u128::from(u64::MAX)));
        self.core.say(&ToHandover::ExtendTimeout { ms }, &fields, false);
    }

    /// It ends by itself now, and wishes to be followed: `STOPPING=1`. Then exit with 0. Before it has been ready for
    /// `stable_after` that is a failed start.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let worker = handover::worker::Worker::connect()?;
    /// worker.stopping();
    /// worker.flush(Duration::from_secs(1));
    /// worker.close();
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn stopping(&self) {
        self.core.say(&ToHandover::Stopping, "STOPPING=1", false);
    }

    /// It wishes to be replaced, and serves until its successor is ready and it is told to drain. `reason` is for people, at most 1,024
    /// bytes. Before it has been ready for `stable_after` it counts as failed, and its successor is started after `backoff`.
    /// Whether anybody heard that: without handover nobody does.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// if !worker.replace("memory is fragmented") {
    ///     // Nobody will follow this one: it goes on.
    /// }
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn replace(&self, reason: &str) -> bool {
        let mut state = self.core.lock();
        if !state.session.is_open() {
            return false;
        }
        let said = state.session.say(&ToHandover::Replace { reason: Some(reason.to_owned()) });
        self.core.publish(state);
        said.is_ok()
    }

    /// Whether it is time to finish.
    pub fn is_draining(&self) -> bool {
        self.core.lock().is_draining()
    }

    /// Waits until it is time to finish: handover says so, is gone, a [signal](Self::drain_on_signals) came, or the program
    /// [itself](Self::begin_drain) decided. Where nobody can say so, alone and without signals, it waits for ever.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// worker.on_drain(|drain| eprintln!("draining: {}", drain.reason()))?;
    /// assert!(!worker.is_draining());
    /// worker.begin_drain("nothing to do");
    /// let drain = worker.wait_for_drain();
    /// assert_eq!((drain.reason(), drain.time_left()), ("nothing to do", None));
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn wait_for_drain(&self) -> Drain {
        self.core.wait(|state| state.drain.clone())
    }

    /// As [`wait_for_drain`](Self::wait_for_drain), up to `timeout`; `None` where it is not time yet. For a program that looks for work from
    /// time to time.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn look_for_work() {}
    /// # fn f(worker: handover::worker::Worker) {
    /// while worker.wait_for_drain_within(Duration::from_secs(1)).is_none() {
    ///     look_for_work();
    /// }
    /// # }
    /// ```
    pub fn wait_for_drain_within(&self, timeout: Duration) -> Option<Drain> {
        self.core.wait_for(timeout, |state| state.drain.clone())
    }

    /// As [`wait_for_drain`](Self::wait_for_drain), as a future: for `with_graceful_shutdown` and the like.
    ///
    /// ```no_run
    /// # async fn serve() {}
    /// # async fn f(worker: handover::worker::Worker) {
    /// tokio::select! {
    ///     () = serve() => {}
    ///     drain = worker.drained() => println!("{}", drain.reason()),
    /// }
    /// # }
    /// ```
    pub fn drained(&self) -> Draining {
        Draining(Waiting::new(Arc::clone(&self.core)))
    }

    /// Runs `callback` on a thread of its own when it is time to finish; at once, if it is.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn on_drain(&self, callback: impl FnOnce(Drain) + Send + 'static) -> Result<(), Error> {
        let worker = self.clone();
        let name = "handover-drain".to_owned();
        std::thread::Builder::new().name(name).spawn(move || callback(worker.wait_for_drain()))?;
        Ok(())
    }

    /// An fd that is readable from the moment when it is time to finish, for a loop of your own (`poll(2)`, mio). Do not read from it.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    ///
    /// # let worker = handover::worker::Worker::connect()?;
    /// let number = worker.drain_fd().as_raw_fd(); // for an interest in readability
    /// # let _ = number;
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn drain_fd(&self) -> BorrowedFd<'_> {
        self.core.bell.as_fd()
    }

    /// Begins to finish, as if handover had asked.
    pub fn begin_drain(&self, reason: &str) {
        self.core.begin_drain(reason, None);
    }

    /// From now on `SIGTERM` and `SIGINT` begin to drain, so that the same program ends well without handover. The second of a kind
    /// ends the process at once.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// worker.drain_on_signals()?;
    /// assert!(worker.drain_on_signals().is_err(), "once");
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the process has no fds or threads left, or this was done before.
    pub fn drain_on_signals(&self) -> Result<(), Error> {
        self.core.lock().signals = Some(Arc::new(interrupt::termination()?));
        Ok(thread::start(&self.core)?)
    }

    /// Waits until a listener that this worker may have is no longer wanted, and gives its name; each is given once. `None` when the channel has ended.
    /// [`Incoming`](super::Incoming) ends by itself then.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// std::thread::spawn(move || {
    ///     while let Some(name) = worker.wait_for_removed_listener() {
    ///         eprintln!("{name} is gone");
    ///     }
    /// });
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn wait_for_removed_listener(&self) -> Option<String> {
        self.core.wait(|state| match state.news_of_removal.pop_front() {
            None if state.session.is_open() => None,
            news => Some(news),
        })
    }

    /// A new [`Pulse`]: one more part of the program that must turn.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// let pulse = worker.pulse()?;
    /// pulse.beat();
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the process has no fds left.
    pub fn pulse(&self) -> Result<Pulse, Error> {
        Ok(Pulse::new(Arc::clone(&self.core), true)?)
    }

    /// Sends heartbeats at half the interval of the pool's `watchdog` (`WATCHDOG_USEC`) from now on, each when every [`Pulse`] has beaten.
    /// Whether there is a watchdog; without one nothing happens.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn feed_watchdog(&self) -> Result<bool, Error> {
        let Some(interval) = self.watchdog else { return Ok(false) };
        let half = interval / 2;
        self.core.lock().watchdog = Some((half, clock::monotonic()));
        thread::start(&self.core)?;
        Ok(true)
    }

    /// Waits up to `timeout` until all that was said is written; whether it is. Before the process ends, for records and messages: what the socket took at
    /// once, which is nearly everything, is written already.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.core.wait_written(0, Some(timeout))
    }

    /// Writes what waits, sees that fds of replies arrive (each for at most a second), and closes the channel. For the end of a program that drains or said
    /// [`stopping`](Self::stopping); before that, handover takes it for lost and replaces the worker. The end of the process does it, too.
    pub fn close(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.flush(PATIENCE);
        self.core.wait_for(PATIENCE, |state| (!state.session.awaits_arrival()).then_some(()));
        let mut state = self.core.lock();
        state.session.close();
        self.core.publish(state);
        self.core.wake();
    }
}

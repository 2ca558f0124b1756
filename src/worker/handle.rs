//! [`Worker`]: what a program says about itself, and what it asks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::asking::Asking;
use super::core::{Core, QUEUE_MAX};
use super::drain::{Drain, Draining};
use super::error::Error;
use super::inherited::Inherited;
use super::listener::Request;
use super::message::Messages;
use super::notify;
use super::options::Options;
use super::pulse::Pulse;
use super::session::Wish;
use super::surroundings::Identity;
use super::thread;
use crate::os::interrupt;
use crate::wire::limits::QUESTIONS_MAX;
use crate::wire::{
    Capability, ErrorCode, Id, Level, Payload, Record, Target, ToHandover, Unsendable, Wanted,
};

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
    pub fn take_fds(&self, name: &str) -> Vec<OwnedFd> {
        self.inherited.take(name)
    }

    /// It can serve: `READY=1`.
    pub fn ready(&self) {
        self.core.say(&ToHandover::Ready, "READY=1", false);
    }

    /// What it does, for people: `STATUS=`. At most 1,024 bytes; the rest is cut.
    pub fn status(&self, text: &str) {
        let fields = format!("STATUS={}", notify::value(text));
        self.core.say(&ToHandover::Status { text: text.to_owned() }, &fields, true);
    }

    /// It turns: `WATCHDOG=1`. To be called from where the program works, or see [`feed_watchdog`](Self::feed_watchdog).
    pub fn heartbeat(&self) {
        self.core.say(&ToHandover::Heartbeat, "WATCHDOG=1", true);
    }

    /// It needs so much more time for its start or its end, counted from now: `EXTEND_TIMEOUT_USEC=`.
    pub fn extend_timeout(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX).min(crate::wire::limits::NUMBER_MAX);
        let fields = format!("EXTEND_TIMEOUT_USEC={}", by.as_micros().min(u128::from(u64::MAX)));
        self.core.say(&ToHandover::ExtendTimeout { ms }, &fields, false);
    }

    /// It ends by itself now, and wishes to be followed: `STOPPING=1`. Then exit with 0.
    pub fn stopping(&self) {
        self.core.say(&ToHandover::Stopping, "STOPPING=1", false);
    }

    /// It wishes to be replaced, and serves until its successor is ready and it is told to drain. `reason` is for people, at most 1,024
    /// bytes. Whether anybody heard that: without handover nobody does.
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
    /// [itself](Self::begin_drain) decided.
    pub fn wait_for_drain(&self) -> Drain {
        self.core.wait(|state| state.drain.clone())
    }

    /// As [`wait_for_drain`](Self::wait_for_drain), as a future: for `with_graceful_shutdown` and the like.
    pub fn drained(&self) -> Draining {
        Draining(Arc::clone(&self.core))
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
    /// # Errors
    /// Where the process has no fds or threads left, or this was done before.
    pub fn drain_on_signals(&self) -> Result<(), Error> {
        self.core.lock().signals = Some(Arc::new(interrupt::termination()?));
        Ok(thread::start(&self.core)?)
    }

    /// Waits until a listener that this worker may have is no longer wanted, and gives its name; each is given once. `None` when the channel has ended.
    /// [`Incoming`](super::Incoming) ends by itself then.
    pub fn wait_for_removed_listener(&self) -> Option<String> {
        self.core.wait(|state| match state.news_of_removal.pop_front() {
            None if state.session.is_open() => None,
            news => Some(news),
        })
    }

    /// A new [`Pulse`]: one more part of the program that must turn.
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
        self.core.lock().watchdog = Some((half, self.core.clock.now()));
        thread::start(&self.core)?;
        Ok(true)
    }

    /// Sends a message without asking what becomes of it. Waits while 1 MiB waits to be written. Without a channel it goes nowhere.
    ///
    /// ```no_run
    /// # use handover::worker::{PoolName, Target, Worker};
    /// # fn main() -> Result<(), handover::worker::Error> {
    /// # let worker = Worker::connect()?;
    /// worker.send(Target::All, "the cache is cold")?;
    /// worker.send(Target::Pool(PoolName::new("web")), &vec![1, 2, 3])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Json`]; [`Error::Unsendable`] where it is more than a message may be (1,000,000 bytes).
    pub fn send<T: Serialize + ?Sized>(&self, to: Target, data: &T) -> Result<(), Error> {
        let data = Payload::of(data)?;
        self.core
            .wait(|state| (state.session.pending() < QUEUE_MAX || !state.session.is_open()).then_some(()));
        self.send_now(to, data)
    }

    /// As [`send`](Self::send), and does not wait.
    ///
    /// # Errors
    /// As there, and [`Error::Full`].
    pub fn try_send<T: Serialize + ?Sized>(&self, to: Target, data: &T) -> Result<(), Error> {
        if self.core.lock().session.pending() >= QUEUE_MAX {
            return Err(Error::Full);
        }
        self.send_now(to, Payload::of(data)?)
    }

    fn send_now(&self, to: Target, data: Payload) -> Result<(), Error> {
        let mut state = self.core.lock();
        if !state.session.can(Capability::Messages) {
            return Ok(());
        }
        state.session.message(to, data, Wish::Nothing, Vec::new())?;
        self.core.publish(state);
        Ok(())
    }

    /// Sends a message, with fds if there are any, and gives what became of it: [`Sent`](super::Sent).
    ///
    /// Fds (at most 64, to one receiver) are duplicated. When the answer is there the receiver has them, and the caller closes its own;
    /// after an error it still has them.
    ///
    /// ```no_run
    /// # use std::os::fd::AsFd;
    /// # use handover::worker::{SlotIndex, PoolName, Target, Worker};
    /// # fn f(worker: &Worker, stream: std::net::TcpStream) -> Result<(), handover::worker::Error> {
    /// let to = Target::Slot(PoolName::new("web"), SlotIndex(2));
    /// worker.deliver(to, "yours", &[stream.as_fd()])?.wait()?;
    /// drop(stream);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::Full`], and as [`send`](Self::send). The answer may be [`Error::Refused`] or [`Error::Lost`].
    pub fn deliver<T: Serialize + ?Sized>(
        &self,
        to: Target,
        data: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Asking<super::Sent>, Error> {
        self.begin(to, data, Wish::Sent, fds).map(|id| Asking::new(Arc::clone(&self.core), id))
    }

    /// Asks one receiver, and gives its [`Reply`](super::Reply). handover gives up after `timeout` (at most an hour).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use handover::worker::{Target, Worker, WorkerId};
    /// # fn f(worker: &Worker) -> Result<(), handover::worker::Error> {
    /// let reply = worker.ask(Target::Worker(WorkerId(18)), "how many?", Duration::from_secs(2))?.wait()?;
    /// let clients: u64 = reply.to()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    pub fn ask<T: Serialize + ?Sized>(
        &self,
        to: Target,
        data: &T,
        timeout: Duration,
    ) -> Result<Asking<super::Reply>, Error> {
        self.ask_with_fds(to, data, timeout, &[])
    }

    /// As [`ask`](Self::ask), with fds as in [`deliver`](Self::deliver).
    ///
    /// # Errors
    /// As there.
    pub fn ask_with_fds<T: Serialize + ?Sized>(
        &self,
        to: Target,
        data: &T,
        timeout: Duration,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Asking<super::Reply>, Error> {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let wish = Wish::Reply(Some(ms.min(crate::wire::limits::REPLY_TIMEOUT_MS_MAX)));
        self.begin(to, data, wish, fds).map(|id| Asking::new(Arc::clone(&self.core), id))
    }

    fn begin<T: Serialize + ?Sized>(
        &self,
        to: Target,
        data: &T,
        wish: Wish,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Id, Error> {
        let data = Payload::of(data)?;
        let fds = copies(fds)?;
        self.question(Capability::Messages, |session| session.message(to, data, wish, fds))
    }

    /// Begins a question, if there is room for it.
    pub(super) fn question(
        &self,
        needs: Capability,
        ask: impl FnOnce(&mut super::session::Session<OwnedFd>) -> Result<Option<Id>, Unsendable>,
    ) -> Result<Id, Error> {
        let mut state = self.core.lock();
        if !state.session.can(needs) {
            return Err(Error::NotConnected);
        }
        if state.session.questions() >= QUESTIONS_MAX || state.session.pending() >= 8 * QUEUE_MAX {
            return Err(Error::Full);
        }
        let id = ask(&mut state.session)?.ok_or(Error::NotConnected)?;
        state.asked.insert(id, None);
        self.core.publish(state);
        Ok(id)
    }

    /// Asks handover for a listener once more, or for an address.
    pub(super) fn ask_listener(&self, what: Wanted) -> Result<Asking<super::asking::Grant>, Error> {
        let id = self.question(Capability::Listen, |session| session.listen(what))?;
        Ok(Asking::new(Arc::clone(&self.core), id))
    }

    /// Messages that come, if [`Options::messages`] said that they may. All handles and all of these share one queue, in which at most 1,024 messages and
    /// 8 MiB wait; what comes then is refused.
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.core))
    }

    /// Runs `callback` for each message, one after the other, on one thread of their own, until draining has begun and none is left.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn on_message(&self, callback: impl FnMut(super::Message) + Send + 'static) -> Result<(), Error> {
        let messages = self.messages();
        let name = "handover-messages".to_owned();
        std::thread::Builder::new().name(name).spawn(move || messages.for_each(callback))?;
        Ok(())
    }

    /// Gives a record to handover, which keeps level, target and fields to the end. Whether it was taken: without a channel, and while 1 MiB waits to be
    /// written, it is not.
    ///
    /// A `target` has at most 256 bytes, a record at most 64 fields and 64 KiB as a line: a longer message is cut, and the last fields are left out. With the feature `tracing` there is a layer for it.
    ///
    /// ```no_run
    /// # use handover::worker::{Level, Payload, Worker};
    /// # fn f(worker: &Worker) -> Result<(), handover::worker::Error> {
    /// worker.log(Level::Warn, "app::db", "slow query", vec![("ms".to_owned(), Payload::of(&1200)?)]);
    /// # Ok(()) }
    /// ```
    pub fn log(&self, level: Level, target: &str, message: &str, fields: Vec<(String, Payload)>) -> bool {
        let target = (!target.is_empty()).then(|| target.to_owned());
        let mut record = Record { level, message: message.to_owned(), target, fields };
        let mut state = self.core.lock();
        if !state.session.can(Capability::Log) || state.session.pending() >= QUEUE_MAX {
            return false;
        }
        let said = loop {
            match state.session.say(&ToHandover::Log(record.clone())) {
                Err(Unsendable::TooLong { .. }) if shorten(&mut record) => {}
                said => break said,
            }
        };
        self.core.publish(state);
        said.is_ok()
    }

    /// Puts an fd away under a name (`FDSTORE=1` through `NOTIFY_SOCKET`), for the next worker in this slot, or the next start of
    /// the service: [`take_fds`](Self::take_fds) finds it. Whether there is somebody to keep it. The name is no listener's, without colons, at most 255 bytes.
    ///
    /// systemd keeps fds where `FileDescriptorStoreMax=` says so. handover does not keep them yet.
    ///
    /// ```no_run
    /// # use std::os::fd::AsFd;
    /// # fn f(worker: &handover::worker::Worker, file: std::fs::File) -> Result<(), handover::worker::Error> {
    /// worker.store_fd("sessions", file.as_fd())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]: `InvalidInput` for such a name, or what `sendmsg(2)` says.
    pub fn store_fd(&self, name: &str, fd: BorrowedFd<'_>) -> Result<bool, Error> {
        self.fd_store("FDSTORE=1", name, &[fd])
    }

    /// Lets go of all fds that were put away under a name (`FDSTOREREMOVE=1`).
    ///
    /// # Errors
    /// As [`store_fd`](Self::store_fd).
    pub fn remove_stored_fds(&self, name: &str) -> Result<bool, Error> {
        self.fd_store("FDSTOREREMOVE=1", name, &[])
    }

    fn fd_store(&self, what: &str, name: &str, fds: &[BorrowedFd<'_>]) -> Result<bool, Error> {
        let is_good = (1..=255).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_good {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let Some(notify) = &self.core.notify else { return Ok(false) };
        notify.send(&format!("{what}\nFDNAME={name}"), fds)?;
        Ok(true)
    }

    /// Waits up to `timeout` until all that was said is written; whether it is. Before the process ends, for records and messages: what the socket took at
    /// once, which is nearly everything, is written already.
    pub fn flush(&self, timeout: Duration) -> bool {
        let is_written = |state: &mut super::core::State| (state.session.pending() == 0).then_some(());
        self.core.wait_for(timeout, is_written).is_some()
    }

    /// Writes what waits, for at most a second, and closes the channel. For the end of a program that drains or said
    /// [`stopping`](Self::stopping); before that, handover takes it for lost and replaces the worker. The end of the process does it, too.
    pub fn close(&self) {
        self.flush(Duration::from_secs(1));
        let mut state = self.core.lock();
        state.session.close();
        self.core.publish(state);
        self.core.wake();
    }

    /// Answers a message; used by [`Message`](super::Message).
    pub(super) fn refuse(core: &Core, re: Id, error: ErrorCode, reason: &str) {
        let mut state = core.lock();
        state.session.refuse(re, error, reason);
        core.publish(state);
    }
}

/// Makes a record that is too long shorter; whether there was something to cut.
fn shorten(record: &mut Record) -> bool {
    const SHORT: usize = 4_096;
    let half = record.message.len() / 2;
    if record.message.len() <= SHORT {
        return record.fields.pop().is_some();
    }
    let boundary = (0..=half).rev().find(|at| record.message.is_char_boundary(*at));
    record.message.truncate(boundary.unwrap_or(0));
    record.message.push('…');
    true
}

/// Duplicates, close-on-exec.
pub(super) fn copies(fds: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
    fds.iter().map(BorrowedFd::try_clone_to_owned).collect()
}

//! What a worker says to handover and to other workers, beyond itself: messages, questions, records.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::asking::{Asking, Grant, Reply, Sent};
use super::core::{Core, QUEUE_MAX};
use super::error::Error;
use super::handle::Worker;
use super::message::{Message, Messages};
use super::session::{Session, Wish};
use crate::wire::limits::{QUESTIONS_MAX, REPLY_TIMEOUT_MS_MAX};
use crate::wire::{
    Capability, ErrorCode, Id, Level, Payload, Record, Target, ToHandover, Unsendable, Wanted,
};

impl Worker {
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
        self.core.wait_written(QUEUE_MAX - 1, None);
        self.send_now(to, data)
    }

    /// As [`send`](Self::send), and does not wait.
    ///
    /// ```
    /// use handover::worker::{Error, Target};
    ///
    /// # let worker = handover::worker::Worker::connect()?;
    /// match worker.try_send(Target::All, "a hint that may be lost") {
    ///     Ok(()) | Err(Error::Full) => {}
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Sends a message, with fds if there are any, and gives what became of it: [`Sent`].
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
    ) -> Result<Asking<Sent>, Error> {
        self.begin(to, data, Wish::Sent, fds).map(|id| Asking::new(Arc::clone(&self.core), id))
    }

    /// Asks one receiver, and gives its [`Reply`]. handover gives up after `timeout` (at most an hour).
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
    ) -> Result<Asking<Reply>, Error> {
        self.ask_with_fds(to, data, timeout, &[])
    }

    /// As [`ask`](Self::ask), with fds as in [`deliver`](Self::deliver).
    ///
    /// ```no_run
    /// # use std::os::fd::AsFd;
    /// # use std::time::Duration;
    /// # use handover::worker::{Error, Target, Worker, WorkerId};
    /// # fn f(worker: &Worker, log: std::fs::File) -> Result<(), Error> {
    /// let asking = worker.ask_with_fds(Target::Worker(WorkerId(18)), "write here", Duration::from_secs(2), &[log.as_fd()])?;
    /// println!("{}", asking.wait_for(Duration::from_secs(1))?.data);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn ask_with_fds<T: Serialize + ?Sized>(
        &self,
        to: Target,
        data: &T,
        timeout: Duration,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Asking<Reply>, Error> {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let wish = Wish::Reply(Some(ms.min(REPLY_TIMEOUT_MS_MAX)));
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
        check_fds(&self.core, fds)?;
        let fds = copies(fds)?;
        self.question(Capability::Messages, |session| session.message(to, data, wish, fds))
    }

    /// Begins a question, if there is room for it.
    pub(super) fn question(
        &self,
        needs: Capability,
        ask: impl FnOnce(&mut Session<OwnedFd>) -> Result<Option<Id>, Unsendable>,
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
    pub(super) fn ask_listener(&self, what: Wanted) -> Result<Asking<Grant>, Error> {
        let id = self.question(Capability::Listen, |session| session.listen(what))?;
        Ok(Asking::new(Arc::clone(&self.core), id))
    }

    /// Messages that come, if [`Options::messages`](super::Options::messages) said that they may. All handles and all of these share one queue, in which at most 1,024 messages and
    /// 8 MiB wait; what comes then is refused.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// assert_eq!(worker.messages().count(), 0, "alone there are none to wait for");
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.core))
    }

    /// Runs `callback` for each message, one after the other, on one thread of their own, until draining has begun and none is left.
    ///
    /// ```
    /// use handover::worker::Worker;
    ///
    /// # fn main() -> Result<(), handover::worker::Error> {
    /// let worker = Worker::options().messages(true).connect()?;
    /// worker.on_message(|mut message| message.refuse("unsupported", "nothing is asked for"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn on_message(&self, callback: impl FnMut(Message) + Send + 'static) -> Result<(), Error> {
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

    /// Answers a message; used by [`Message`].
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

/// Fds go only to a handover that takes them.
pub(super) fn check_fds(core: &Core, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let state = core.lock();
    if fds.is_empty() || !state.session.is_open() || state.session.can(Capability::Fds) {
        return Ok(());
    }
    Err(Error::Refused { error: ErrorCode::Unsupported, reason: "this handover takes no fds".to_owned() })
}

/// Duplicates, close-on-exec.
pub(super) fn copies(fds: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
    fds.iter().map(BorrowedFd::try_clone_to_owned).collect()
}

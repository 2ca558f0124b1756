//! Messages that come: an iterator for threads, a future for tasks.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::{Core, Inbound, State};
use super::error::Error;
use super::handle::Worker;
use super::pulse::Pulse;
use super::talk::{check_fds, copies};
use super::waiting::Waiting;
use crate::wire::{ErrorCode, Id, Payload, Sender};

/// A message from another worker, or from handover.
///
/// One that wants a reply and is dropped without one is refused, so that its sender does not wait.
///
/// ```no_run
/// # use handover::worker::{Error, Worker};
/// # fn main() -> Result<(), Error> {
/// let worker = Worker::options().messages(true).connect()?;
/// for mut message in worker.messages() {
///     match message.to::<String>() {
///         Ok(text) if text == "are you well?" => message.reply("very well")?,
///         _ => message.refuse("unsupported", "I do not know that"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Message {
    core: Arc<Core>,
    reply: Option<Id>,
    from: Sender,
    data: Payload,
    fds: Vec<OwnedFd>,
}

impl Message {
    fn new(core: &Arc<Core>, inbound: Inbound) -> Self {
        let Inbound { reply, from, data, fds } = inbound;
        Self { core: Arc::clone(core), reply, from, data, fds }
    }

    /// Who sent it.
    ///
    /// ```no_run
    /// # use handover::worker::{Error, Sender, Worker};
    /// # fn f(worker: &Worker) -> Result<(), Error> {
    /// for mut message in worker.messages() {
    ///     if let Sender::Worker { worker, .. } = message.from() {
    ///         println!("worker {worker} says {}", message.data());
    ///     }
    ///     if message.wants_reply() {
    ///         let count: u64 = message.to()?;
    ///         let fds = message.take_fds();
    ///         let with: Vec<_> = fds.iter().map(std::os::fd::AsFd::as_fd).collect();
    ///         message.reply_with_fds(&(count + 1), &with)?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub const fn from(&self) -> &Sender {
        &self.from
    }

    /// What it says, as it was written.
    pub const fn data(&self) -> &Payload {
        &self.data
    }

    /// Reads what it says as a value of the program.
    ///
    /// # Errors
    /// [`Error::Json`] where it is another value than `T` has.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(self.data.to()?)
    }

    /// What came with it; the caller's from now on. What nobody takes is closed with the message.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Whether its sender waits for a reply.
    pub const fn wants_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Replies. Nothing happens where nobody waits for it, or not any more.
    ///
    /// # Errors
    /// As [`Worker::send`]; the reply is still owed then.
    pub fn reply<T: Serialize + ?Sized>(&mut self, data: &T) -> Result<(), Error> {
        self.reply_with_fds(data, &[])
    }

    /// Replies with fds, which are duplicated.
    ///
    /// # Errors
    /// As [`reply`](Self::reply), and [`Error::Io`] where the process has no fds left.
    pub fn reply_with_fds<T: Serialize + ?Sized>(
        &mut self,
        data: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let Some(re) = self.reply else { return Ok(()) };
        check_fds(&self.core, fds)?;
        let (data, fds) = (Payload::of(data)?, copies(fds)?);
        let mut state = self.core.lock();
        state.session.reply(re, data, fds)?;
        self.core.publish(state);
        self.reply = None;
        Ok(())
    }

    /// Refuses, with an error for programs (one of [`ErrorCode`]'s words, or one of your own) and a reason for people, of
    /// which 1,024 bytes each are sent.
    pub fn refuse(&mut self, error: &str, reason: &str) {
        if let Some(re) = self.reply.take() {
            Worker::refuse(&self.core, re, ErrorCode::from(error.to_owned()), reason);
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.refuse("failed", "the worker did not reply");
    }
}

/// Messages as they come: from [`Worker::messages`].
///
/// As an iterator it waits for the next one, has a [`Pulse`] while it is in use, and ends when draining has begun, or the
/// channel has ended, and none is left. What comes later is there for [`try_next`](Self::try_next); a program that serves others
/// until it ends, such as a chat with its open connections, takes messages [while it drains](Self::while_draining).
///
/// ```no_run
/// # use std::time::Duration;
/// # fn f(worker: &handover::worker::Worker) {
/// let messages = worker.messages();
/// while let Some(message) = messages.next_within(Duration::from_millis(100)) {
///     println!("{}", message.data());
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Messages {
    core: Arc<Core>,
    pulse: Option<Pulse>,
    /// Whether draining is no reason to stop.
    while_draining: bool,
}

impl Messages {
    pub(super) const fn new(core: Arc<Core>) -> Self {
        Self { core, pulse: None, while_draining: false }
    }

    /// The same, but it does not end when draining begins: handover passes messages on until the worker is gone. It ends with the channel
    /// only ([`Worker::close`], handover's end), so run it beside what decides that the worker has finished.
    ///
    /// ```no_run
    /// # async fn f(worker: handover::worker::Worker, tracker: handover::worker::Tracker) {
    /// let messages = worker.messages().while_draining();
    /// // On your runtime: it is dropped with the runtime, when the last connection is gone.
    /// let passing_on = async move {
    ///     while let Some(message) = messages.received().await {
    ///         println!("{}", message.data());
    ///     }
    /// };
    /// # let _ = passing_on; }
    /// ```
    #[must_use]
    pub const fn while_draining(mut self) -> Self {
        self.while_draining = true;
        self
    }

    /// The next one that is there.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// assert!(worker.messages().try_next().is_none());
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn try_next(&self) -> Option<Message> {
        self.core.lock().next_message().map(|inbound| Message::new(&self.core, inbound))
    }

    /// Waits for the next one, up to `timeout`.
    pub fn next_within(&self, timeout: Duration) -> Option<Message> {
        let inbound = self.core.wait_for(timeout, self.next_or_end())??;
        Some(Message::new(&self.core, inbound))
    }

    /// The next one, as a future for any runtime; `None` as at the end of the iterator.
    ///
    /// ```no_run
    /// # async fn f(worker: handover::worker::Worker) {
    /// let messages = worker.messages();
    /// while let Some(message) = messages.received().await {
    ///     println!("{}", message.data());
    /// }
    /// # }
    /// ```
    pub async fn received(&self) -> Option<Message> {
        let mut waiting = Waiting::new(Arc::clone(&self.core));
        let inbound = std::future::poll_fn(|context| waiting.poll(context, self.next_or_end())).await?;
        Some(Message::new(&self.core, inbound))
    }

    /// Finds a message; `Some(None)` where no more is to be waited for.
    fn next_or_end(&self) -> impl Fn(&mut State) -> Option<Option<Inbound>> + use<> {
        let while_draining = self.while_draining;
        move |state| match state.next_message() {
            None if !state.session.is_open() || (state.is_draining() && !while_draining) => Some(None),
            inbound => inbound.map(Some),
        }
    }
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.pulse.is_none() {
            // Waits for the state itself, so it needs no fds.
            self.pulse = Pulse::new(Arc::clone(&self.core), false).ok();
        }
        loop {
            if let Some(pulse) = &self.pulse {
                pulse.beat();
            }
            let id = self.pulse.as_ref().map(Pulse::id);
            let next = self.next_or_end();
            let found = self.core.wait(|state| match next(state) {
                None if id.is_some_and(|id| Pulse::is_due(state, id)) => Some(None),
                found => found.map(Some),
            });
            if let Some(inbound) = found {
                if inbound.is_none() {
                    self.pulse = None;
                }
                return inbound.map(|inbound| Message::new(&self.core, inbound));
            }
        }
    }
}

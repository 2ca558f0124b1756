//! Messages to workers and from them.

use std::sync::PoisonError;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::error::Error;
use super::handle::Supervisor;
use crate::control::Sent;
use crate::control::answer::Verdict;
use crate::control::protocol::{DATA_MAX, Request, Send};
use crate::daemon::{FromWorker, Question, Wish};
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::wire::{self, Payload};

/// To whom a message goes.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// use handover::embed::Target;
///
/// supervisor.send(Target::Slot("web".to_owned(), 0), "to whoever serves there").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Every worker that takes messages.
    All,
    /// Those of this pool.
    Pool(String),
    /// The one that serves in this slot of a pool.
    Slot(String, u32),
    /// This one.
    Worker(u64),
}

impl Supervisor {
    /// What workers say to handover, where [`Builder::take_messages`](super::Builder::take_messages) was asked for; `None` where
    /// it was not, or somebody has it already. 256 messages or 4 MiB may wait; what comes then is refused to its sender.
    ///
    /// ```no_run
    /// # use handover::embed::{Payload, Supervisor};
    /// # async fn example(supervisor: Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut messages = supervisor.messages().expect("asked for, and nobody else has it");
    /// while let Some(message) = messages.next().await {
    ///     println!("worker {}: {}", message.worker(), message.data());
    ///     if message.is_question() {
    ///         message.reply(Payload::of("noted")?)?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn messages(&self) -> Option<Messages> {
        self.0.messages.lock().unwrap_or_else(PoisonError::into_inner).take().map(Messages)
    }

    /// Sends a message to workers. Done if at least one has it in its queue; who has not, and why, is in [`Sent::refused`].
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
    /// use handover::embed::Target;
    ///
    /// let sent = supervisor.send(Target::Pool("web".to_owned()), &["flush", "cache"]).await?;
    /// println!("{} workers have it", sent.receivers);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotSent`], [`Error::Refused`] (there is no such pool), [`Error::Unsendable`], [`Error::Ended`].
    pub async fn send(&self, to: Target, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        let data = payload(data)?;
        let send = |pool: Option<String>, slot: Option<u32>, worker: Option<u64>| Send {
            pool: pool.map(PoolName::new),
            slot: slot.map(SlotIndex),
            worker: worker.map(WorkerId),
            data,
        };
        let send = match to {
            Target::All => send(None, None, None),
            Target::Pool(pool) => send(Some(pool), None, None),
            Target::Slot(pool, slot) => send(Some(pool), Some(slot), None),
            Target::Worker(worker) => send(None, None, Some(worker)),
        };
        let finish = self.finish(Request::Send(send)).await?;
        match (finish.result, finish.sent) {
            (Verdict::Done, sent) => Ok(sent.unwrap_or_default()),
            (Verdict::Refused, _) => Err(Error::Refused(finish.message)),
            (_, sent) => Err(Error::NotSent { message: finish.message, sent: sent.unwrap_or_default() }),
        }
    }

    /// Sends a message to every worker that takes messages.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.broadcast("flush the cache").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn broadcast(&self, data: &(impl Serialize + ?Sized)) -> Result<Sent, Error> {
        self.send(Target::All, data).await
    }

    /// Asks one worker, and waits for its answer, at most for `within` (and at most for an hour).
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use handover::embed::Target;
    ///
    /// let answer = supervisor.question(Target::Slot("web".to_owned(), 0), "how many?", Duration::from_secs(5)).await?;
    /// let number: u64 = answer.to()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAnswered`] with the worker's own refusal, or because it is gone, takes no messages, or is late;
    /// [`Error::Refused`] for a target that is not one worker; [`Error::Unsendable`], [`Error::Ended`].
    pub async fn question(
        &self,
        to: Target,
        data: &(impl Serialize + ?Sized),
        within: Duration,
    ) -> Result<Payload, Error> {
        let to = match to {
            Target::Worker(worker) => wire::Target::Worker(WorkerId(worker)),
            Target::Slot(pool, slot) => wire::Target::Slot(PoolName::new(pool), SlotIndex(slot)),
            Target::All | Target::Pool(_) => {
                return Err(Error::Refused("only one worker can be asked: name it, or its slot".to_owned()));
            }
        };
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Ask(Question { to, data: payload(data)?, within, answer })).await?;
        Ok(answered.await.map_err(|_| Error::Ended)??)
    }
}

fn payload(data: &(impl Serialize + ?Sized)) -> Result<Payload, Error> {
    let data = Payload::of(data).map_err(|error| Error::Unsendable(error.to_string()))?;
    match data.size() {
        0..=DATA_MAX => Ok(data),
        size => Err(Error::Unsendable(format!("{size} bytes are more than {DATA_MAX}"))),
    }
}

/// What workers say; see [`Supervisor::messages`].
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// let mut messages = supervisor.messages().ok_or("somebody else takes them")?;
/// while let Some(message) = messages.next().await {
///     println!("{}", message.data());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Messages(mpsc::Receiver<FromWorker>);

impl Messages {
    /// The next message; `None`: the supervisor has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<FromWorker> {
        self.0.recv().await
    }
}

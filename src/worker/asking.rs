//! Questions that wait for their answers: to be waited for by a thread, or awaited.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::core::{Core, State};
use super::error::Error;
use super::session::Answer;
use super::waiting::Waiting;
use crate::wire::{ErrorCode, Id, NotReached, Payload, Sender};

/// What became of a message that was delivered.
///
/// ```no_run
/// # use handover::worker::{Error, Target, Worker};
/// # fn f(worker: &Worker) -> Result<(), Error> {
/// let sent = worker.deliver(Target::All, "hello", &[])?.wait()?;
/// println!("{} workers have it, {} do not", sent.receivers, sent.refused.len());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Into how many queues it was put.
    pub receivers: u64,
    /// Who did not get it, and why; the first 1,000.
    pub refused: Vec<NotReached>,
}

/// What a worker replied.
///
/// ```no_run
/// # use handover::worker::{Error, Reply};
/// fn clients(reply: &Reply) -> Result<u64, Error> {
///     println!("{:?} says {}", reply.from, reply.data);
///     reply.to()
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Who.
    pub from: Sender,
    /// What.
    pub data: Payload,
    /// What came with it: the caller's now.
    pub fds: Vec<OwnedFd>,
}

impl Reply {
    /// Reads the data as a value of the program.
    ///
    /// # Errors
    /// [`Error::Json`] where it is another value than `T` has.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(self.data.to()?)
    }
}

/// Sockets that handover gave.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) fds: Vec<OwnedFd>,
}

/// What can be the answer to a question.
pub(super) trait FromAnswer: Sized {
    fn from_answer(answer: Answer<OwnedFd>) -> Option<Self>;
}

impl FromAnswer for Sent {
    fn from_answer(answer: Answer<OwnedFd>) -> Option<Self> {
        let Answer::Sent { receivers, refused } = answer else { return None };
        Some(Self { receivers, refused })
    }
}

impl FromAnswer for Reply {
    fn from_answer(answer: Answer<OwnedFd>) -> Option<Self> {
        let Answer::Reply { from, data, fds } = answer else { return None };
        Some(Self { from, data, fds })
    }
}

impl FromAnswer for Grant {
    fn from_answer(answer: Answer<OwnedFd>) -> Option<Self> {
        let Answer::Granted { name, address, fds } = answer else { return None };
        Some(Self { name, address, fds })
    }
}

/// A question that was asked: [`wait`](Self::wait) for its answer, or await it (with any runtime). Dropped, nobody wants to know any more.
///
/// ```no_run
/// # use std::time::Duration;
/// # use handover::worker::{Target, Worker};
/// # async fn f(worker: &Worker) -> Result<(), handover::worker::Error> {
/// let all_well = worker.ask(Target::Handover, "are you well?", Duration::from_secs(1))?.await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropped, the answer is lost"]
pub struct Asking<T> {
    waiting: Waiting,
    id: Id,
    wanted: PhantomData<fn() -> T>,
}

impl<T> Asking<T> {
    pub(super) const fn new(core: Arc<Core>, id: Id) -> Self {
        Self { waiting: Waiting::new(core), id, wanted: PhantomData }
    }
}

#[expect(private_bounds, reason = "which answers there are is this module's business")]
impl<T: FromAnswer> Asking<T> {
    /// Waits for the answer. handover always gives one.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Lost`].
    pub fn wait(self) -> Result<T, Error> {
        self.waiting.core.wait(|state| take(state, self.id))
    }

    /// As [`wait`](Self::wait), for so long; then [`Error::Refused`] with `timeout`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use handover::worker::{Error, Target, Worker};
    /// # fn f(worker: &Worker) -> Result<(), Error> {
    /// let asking = worker.ask(Target::Handover, "are you well?", Duration::from_secs(30))?;
    /// let reply = asking.wait_for(Duration::from_secs(1))?; // this one has less patience than handover
    /// # drop(reply); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn wait_for(self, timeout: Duration) -> Result<T, Error> {
        self.waiting.core.wait_for(timeout, |state| take(state, self.id)).unwrap_or_else(|| {
            Err(Error::Refused { error: ErrorCode::Timeout, reason: "no answer in time".to_owned() })
        })
    }
}

impl<T: FromAnswer> Future for Asking<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        self.waiting.poll(context, |state| take(state, id))
    }
}

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        let mut state = self.waiting.core.lock();
        state.asked.remove(&self.id);
        state.session.abandon(self.id);
    }
}

fn take<T: FromAnswer>(state: &mut State, id: Id) -> Option<Result<T, Error>> {
    // Taken before, or never asked: nothing will come.
    let Some(answer) = state.asked.get_mut(&id) else { return Some(Err(Error::Lost)) };
    let answer = answer.take()?;
    state.asked.remove(&id);
    Some(match answer {
        Answer::Refused(refused) => Err(Error::refused(refused)),
        Answer::Lost => Err(Error::Lost),
        // The session has looked that it is an answer to this question.
        answer => T::from_answer(answer).ok_or(Error::Lost),
    })
}

//! Draining: why, until when, and waiting for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::waiting::Waiting;
use crate::os::clock::monotonic;

/// That the worker should finish what it has, take nothing new, and exit.
///
/// ```no_run
/// # fn main() -> Result<(), handover::worker::Error> {
/// let worker = handover::worker::Worker::connect()?;
/// let drain = worker.wait_for_drain();
/// eprintln!("draining: {} (time left: {:?})", drain.reason(), drain.time_left());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Drain {
    reason: String,
    until: Option<Duration>,
}

impl Drain {
    pub(super) fn new(reason: &str, deadline: Option<Duration>) -> Self {
        let until = deadline.map(|deadline| monotonic().saturating_add(deadline));
        Self { reason: reason.to_owned(), until }
    }

    /// Why, for people. A worker treats all alike.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// How long it is until the stop signal comes; zero when that is past, `None` where nobody said.
    pub fn time_left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_sub(monotonic()))
    }
}

/// Ready when the worker should drain: from [`Worker::drained`](super::Worker::drained). Needs no particular runtime.
///
/// ```no_run
/// # async fn f(worker: handover::worker::Worker) {
/// let drain = worker.drained().await;
/// println!("{}", drain.reason());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Draining(pub(super) Waiting);

impl Future for Draining {
    type Output = Drain;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Drain> {
        self.0.poll(context, |state| state.drain.clone())
    }
}

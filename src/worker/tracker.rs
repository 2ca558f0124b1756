//! What a worker still has in hand when it is told to finish.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::Core;
use super::handle::Worker;
use super::waiting::Waiting;
use crate::os::stream::shut_down;

/// How long idle connections may still bring a request after draining began.
const GRACE: Duration = Duration::from_millis(500);

/// Counts connections in hand, closes idle ones, and waits for the rest: from [`Worker::tracker`].
///
/// ```no_run
/// # use handover::worker::{Connection, Guard, Worker};
/// # fn answer(_: &mut Connection, last: bool) -> std::io::Result<bool> { Ok(!last) }
/// # fn main() -> Result<(), handover::worker::Error> {
/// let worker = Worker::options().drain_on_signals(true).connect()?;
/// let http = worker.listener("http").or_bind("tcp://127.0.0.1:8080")?;
/// let tracker = worker.tracker();
/// worker.ready();
/// for connection in http.incoming()? {
///     let (mut connection, guard) = (connection?, tracker.enter());
///     std::thread::spawn(move || {
///         // Between two requests an idle connection may be closed; from draining on, answer with "Connection: close".
///         while guard.idle(&connection, |c| wait_for_request(c)) {
///             if !answer(&mut connection, guard.is_draining()).unwrap_or(false) {
///                 break;
///             }
///         }
///     });
/// }
/// drop(http);
/// let left = tracker.finish(None);
/// eprintln!("{left} connections were cut");
/// # Ok(()) }
/// # fn wait_for_request(_: &Connection) -> bool { false }
/// ```
#[derive(Clone, Debug)]
pub struct Tracker {
    core: Arc<Core>,
    held: Arc<Mutex<Held>>,
}

/// What is in hand.
#[derive(Debug, Default)]
struct Held {
    count: usize,
    next: u64,
    /// Duplicates of idle connections.
    idle: BTreeMap<u64, OwnedFd>,
    closes_idle: bool,
    /// How many wait for room, so that every end of a guard is to be told.
    waiting: usize,
}

impl Worker {
    /// A new [`Tracker`].
    pub fn tracker(&self) -> Tracker {
        Tracker { core: Arc::clone(&self.core), held: Arc::default() }
    }
}

impl Tracker {
    /// One more in hand, until the guard is dropped.
    pub fn enter(&self) -> Guard {
        self.lock().count += 1;
        Guard { tracker: self.clone() }
    }

    /// How many are in hand.
    pub fn count(&self) -> usize {
        self.lock().count
    }

    /// Waits until fewer than `max` are in hand, or it is time to finish: so many connections at once, and the next one
    /// stays in the socket's queue, where a sibling may take it. For one thread that accepts.
    ///
    /// ```no_run
    /// # use handover::worker::{Error, Listener, Tracker};
    /// # fn serve(_: handover::worker::Connection, _: handover::worker::Guard) {}
    /// fn accept(http: &Listener, tracker: &Tracker) -> Result<(), Error> {
    ///     let mut incoming = http.incoming()?;
    ///     loop {
    ///         // To be full is not to hang.
    ///         incoming.pulse().rest(|| tracker.wait_for_room(100));
    ///         let Some(connection) = incoming.next() else { return Ok(()) };
    ///         let (connection, guard) = (connection?, tracker.enter());
    ///         std::thread::spawn(move || serve(connection, guard));
    ///     }
    /// }
    /// ```
    pub fn wait_for_room(&self, max: usize) {
        self.lock().waiting += 1;
        self.core.wait(|state| (state.is_draining() || self.count() < max).then_some(()));
        self.lock().waiting -= 1;
    }

    /// Waits until nothing is in hand, up to `deadline` from now, and gives how many are left. `None`: a tenth before the stop signal comes, or
    /// without end where nobody said when that is. Connections that are [idle](Guard::idle) are closed half a second after this call began (at half of a deadline below a second): what a
    /// client sends until then is answered.
    pub fn finish(&self, deadline: Option<Duration>) -> usize {
        let drain = self.core.lock().drain.clone();
        let deadline =
            deadline.or_else(|| drain.and_then(|drain| drain.time_left()).map(|left| left / 10 * 9));
        let grace = deadline.map_or(GRACE, |deadline| (deadline / 2).min(GRACE));
        if self.wait(Some(grace)) {
            return 0;
        }
        self.close_idle();
        self.wait(deadline.map(|deadline| deadline.saturating_sub(grace)));
        self.count()
    }

    /// As [`finish`](Self::finish), as a future for any runtime: idle connections are closed at once, and the deadline is the caller's.
    pub fn finished(&self) -> Finished {
        self.close_idle();
        Finished(Waiting::new(Arc::clone(&self.core)), self.clone())
    }

    /// Closes the connections that are idle now, and those that become so.
    fn close_idle(&self) {
        let mut held = self.lock();
        held.closes_idle = true;
        for connection in std::mem::take(&mut held.idle).into_values() {
            // Its thread reads the end of the file. What had come before that is read first.
            let _ = shut_down(connection.as_fd(), Shutdown::Read);
        }
    }

    /// Whether nothing is in hand, within `timeout`.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let is_done = |_: &mut super::core::State| (self.count() == 0).then_some(());
        match timeout {
            Some(timeout) => self.core.wait_for(timeout, is_done).is_some(),
            None => {
                self.core.wait(is_done);
                true
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, or one piece of work, in hand: from [`Tracker::enter`].
///
/// ```no_run
/// # fn f(worker: &handover::worker::Worker) {
/// let tracker = worker.tracker();
/// let guard = tracker.enter();
/// assert_eq!(tracker.count(), 1);
/// drop(guard);
/// assert_eq!(tracker.count(), 0);
/// # }
/// ```
#[derive(Debug)]
pub struct Guard {
    tracker: Tracker,
}

impl Guard {
    /// Whether it is time to finish: answer with `Connection: close`, take nothing new.
    pub fn is_draining(&self) -> bool {
        self.tracker.core.lock().is_draining()
    }

    /// Runs `wait`, in which the connection is idle: it waits for the next request, and may be closed when it is time to finish
    /// (`wait` then reads the end of the file).
    pub fn idle<C: AsFd, T>(&self, connection: &C, wait: impl FnOnce(&C) -> T) -> T {
        let mut held = self.tracker.lock();
        let key = held.next;
        held.next += 1;
        if held.closes_idle {
            let _ = shut_down(connection.as_fd(), Shutdown::Read);
        } else if let Ok(copy) = connection.as_fd().try_clone_to_owned() {
            held.idle.insert(key, copy);
        }
        drop(held);
        let _idle = Idle { tracker: &self.tracker, key };
        wait(connection)
    }
}

/// While it is there, a connection is idle; a panic ends that, too.
struct Idle<'tracker> {
    tracker: &'tracker Tracker,
    key: u64,
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.tracker.lock().idle.remove(&self.key);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut held = self.tracker.lock();
        held.count -= 1;
        let is_news = held.count == 0 || held.waiting > 0;
        drop(held);
        if is_news {
            self.tracker.core.tell();
        }
    }
}

/// Ready when nothing is in hand: from [`Tracker::finished`].
///
/// ```no_run
/// # async fn f(worker: handover::worker::Worker, tracker: handover::worker::Tracker) {
/// worker.drained().await;
/// tracker.finished().await;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Finished(Waiting, Tracker);

impl Future for Finished {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self(waiting, tracker) = self.get_mut();
        waiting.poll(context, |_| (tracker.count() == 0).then_some(()))
    }
}

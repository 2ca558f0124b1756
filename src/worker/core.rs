//! What all handles of a worker share, behind one lock: the session, what came from it, and who waits for it.
//!
//! Whoever says something writes it at once, as far as the socket takes it; a thread of its own ([`super::thread`]) reads, and writes
//! the rest. Nothing in here waits with the lock held, and no code of the program runs under it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::drain::Drain;
use super::incoming::is_exhaustion;
use super::notify::Notify;
use super::pulse::Pulses;
use super::session::{Answer, End, Event, Session};
use crate::os::clock::monotonic;
use crate::os::passing;
use crate::wire::{Id, Payload, Sender, ToHandover};

/// So many bytes may wait to be written; beyond that senders wait, and logs are left out.
pub(super) const QUEUE_MAX: usize = 1 << 20;
/// So many messages may wait to be taken, and so many bytes and fds in them; beyond that, messages are refused.
const INBOX_MAX: usize = 1_024;
const INBOX_BYTES_MAX: usize = 8 << 20;
const INBOX_FDS_MAX: usize = 256;
/// More names than a pool has listeners.
const REMOVED_MAX: usize = 65_536;

/// A message that came.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) reply: Option<Id>,
    pub(super) from: Sender,
    pub(super) data: Payload,
    pub(super) fds: Vec<OwnedFd>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session<OwnedFd>,
    /// `None` from the end of the channel on, and where there never was one.
    pub(super) channel: Option<Arc<UnixStream>>,
    /// Why the channel ended, where that was not in order.
    pub(super) lost: Option<String>,
    /// Whether the socket takes nothing now, though it is writable (`ETOOMANYREFS`, `ENOBUFS`).
    pub(super) is_stalled: bool,
    pub(super) inbox: VecDeque<Inbound>,
    inbox_bytes: usize,
    inbox_fds: usize,
    /// Questions that somebody waits for, with their answers.
    pub(super) asked: BTreeMap<Id, Option<Answer<OwnedFd>>>,
    pub(super) drain: Option<Drain>,
    /// Dropped when draining begins, which makes the other end readable.
    bell: Option<PipeWriter>,
    pub(super) removed: BTreeSet<String>,
    /// Removed, and not told to the program.
    pub(super) news_of_removal: VecDeque<String>,
    pub(super) pulses: Pulses,
    /// The time between two heartbeats, and when the next is due.
    pub(super) watchdog: Option<(Duration, Duration)>,
    pub(super) signals: Option<Arc<PipeReader>>,
    pub(super) has_thread: bool,
    /// A heartbeat is to go to `NOTIFY_SOCKET`.
    notifies_heartbeat: bool,
    /// Something has happened for which somebody may wait.
    has_news: bool,
    /// Threads that wait until something is written.
    wait_for_room: usize,
    /// Tasks that wait, by their places.
    pub(super) wakers: BTreeMap<u64, Waker>,
    next_place: u64,
}

/// Shared by all handles of a worker.
#[derive(Debug)]
pub(super) struct Core {
    state: Mutex<State>,
    changed: Condvar,
    pub(super) notify: Option<Notify>,
    /// Readable from the moment when draining begins.
    pub(super) bell: PipeReader,
    /// A byte in it makes the thread look at the state.
    wake: PipeWriter,
    pub(super) woken: PipeReader,
    /// Whether a task of a runtime beats for it.
    #[cfg(feature = "tokio")]
    pub(super) has_async_pulse: std::sync::atomic::AtomicBool,
}

impl Core {
    pub(super) fn new(
        session: Session<OwnedFd>,
        channel: Option<UnixStream>,
        notify: Option<Notify>,
    ) -> io::Result<Arc<Self>> {
        let (bell, rope) = io::pipe()?;
        let (woken, wake) = io::pipe()?;
        let state = State {
            session,
            channel: channel.map(Arc::new),
            lost: None,
            is_stalled: false,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            inbox_fds: 0,
            asked: BTreeMap::new(),
            drain: None,
            bell: Some(rope),
            removed: BTreeSet::new(),
            news_of_removal: VecDeque::new(),
            pulses: Pulses::default(),
            watchdog: None,
            signals: None,
            has_thread: false,
            notifies_heartbeat: false,
            has_news: false,
            wait_for_room: 0,
            wakers: BTreeMap::new(),
            next_place: 0,
        };
        Ok(Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            notify,
            bell,
            wake,
            woken,
            #[cfg(feature = "tokio")]
            has_async_pulse: std::sync::atomic::AtomicBool::new(false),
        }))
    }

    /// What another thread left behind in a panic is whole: nothing in here panics half way.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what can be written, takes what has happened, and tells those who wait for it. After every change.
    pub(super) fn publish(&self, mut state: MutexGuard<'_, State>) {
        state.flush();
        state.take_events();
        // Answers to what has just happened.
        state.flush();
        let needs_thread = state.has_thread && state.session.pending() > 0;
        let has_news = std::mem::take(&mut state.has_news);
        let wakers = if has_news { std::mem::take(&mut state.wakers) } else { BTreeMap::new() };
        let wakes_threads = has_news || state.wait_for_room > 0;
        let heartbeat = std::mem::replace(&mut state.notifies_heartbeat, false);
        drop(state);
        if wakes_threads {
            self.changed.notify_all();
        }
        wakers.into_values().for_each(Waker::wake);
        if needs_thread {
            self.wake();
        }
        if heartbeat {
            self.notify("WATCHDOG=1");
        }
    }

    fn notify(&self, fields: &str) {
        if let Some(notify) = &self.notify {
            // A service manager that is gone, or does not read, is no reason to stop working.
            let _ = notify.send(fields, &[]);
        }
    }

    /// Makes the thread look at the state.
    pub(super) fn wake(&self) {
        // The thread empties it; a pipe has room for thousands of bytes, and each is soon read.
        let _ = (&self.wake).write(&[0]);
    }

    /// Waits until `find` finds something.
    pub(super) fn wait<T>(&self, mut find: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&mut state) {
                return found;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`wait`](Self::wait), for so long.
    pub(super) fn wait_for<T>(
        &self,
        timeout: Duration,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let until = monotonic().saturating_add(timeout);
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&mut state) {
                return Some(found);
            }
            let left = until.checked_sub(monotonic()).filter(|left| !left.is_zero())?;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until no more than so many bytes wait to be written; up to `timeout`.
    pub(super) fn wait_written(&self, left: usize, timeout: Option<Duration>) -> bool {
        let is_written = |state: &mut State| (state.session.pending() <= left).then_some(true);
        if is_written(&mut self.lock()).is_some() {
            return true;
        }
        self.lock().wait_for_room += 1;
        let found = match timeout {
            Some(timeout) => self.wait_for(timeout, is_written),
            None => Some(self.wait(is_written)),
        };
        self.lock().wait_for_room -= 1;
        found.unwrap_or(false)
    }

    /// As [`publish`](Self::publish), where something has happened outside of the state.
    pub(super) fn tell(&self) {
        let mut state = self.lock();
        state.has_news = true;
        self.publish(state);
    }

    /// Says a line where there is a channel, else fields where there is a service manager.
    pub(super) fn say(&self, line: &ToHandover, fields: &str, may_be_left_out: bool) {
        let mut state = self.lock();
        if state.session.is_open() {
            if may_be_left_out && state.session.pending() >= QUEUE_MAX {
                return;
            }
            // The texts of these lines are cut where they are too long.
            let _ = state.session.say(line);
            self.publish(state);
        } else {
            drop(state);
            self.notify(fields);
        }
    }

    /// Begins to drain, once.
    pub(super) fn begin_drain(&self, reason: &str, deadline: Option<Duration>) {
        let mut state = self.lock();
        state.begin_drain(reason, deadline);
        self.publish(state);
    }
}

impl State {
    pub(super) const fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    fn begin_drain(&mut self, reason: &str, deadline: Option<Duration>) {
        if self.drain.is_none() {
            self.has_news = true;
            self.drain = Some(Drain::new(reason, deadline));
            self.bell = None;
            self.pulses.ring();
        }
    }

    /// A place among those that wait, which nobody else has.
    pub(super) const fn next_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) {
        let Some(channel) = self.channel.clone() else { return };
        while let Some(sent) = self.write_once(&channel) {
            match sent {
                Ok(count) => self.session.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if passing::waits_for_receivers(&error) => {
                    self.is_stalled = true;
                    return;
                }
                Err(error) if is_exhaustion(&error) => {
                    self.is_stalled = true;
                    return;
                }
                Err(error) if is_gone(&error) => return self.unwritable(),
                Err(error) if self.session.give_up_next(&error.to_string()) => {}
                Err(_) => return self.unwritable(),
            }
        }
    }

    fn write_once(&self, channel: &UnixStream) -> Option<io::Result<usize>> {
        let (bytes, fds) = self.session.next_write()?;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        Some(passing::send_now(channel.as_fd(), bytes, &fds))
    }

    /// The other end is closed for writing: nothing waits for it any more. Whatever was said before is read first.
    fn unwritable(&mut self) {
        while let Some((bytes, _)) = self.session.next_write() {
            let count = bytes.len();
            self.session.wrote(count);
        }
    }

    /// Takes what the session has to say.
    pub(super) fn take_events(&mut self) {
        while let Some(event) = self.session.next_event() {
            self.has_news = true;
            match event {
                Event::Hello => {}
                Event::Drain { reason, deadline_ms } => {
                    self.begin_drain(&reason, deadline_ms.map(Duration::from_millis));
                }
                Event::Ping(id) => {
                    self.pulses.pings.push(id);
                    self.pulses.begin_round();
                }
                Event::ListenerRemoved(name) => {
                    if self.news_of_removal.len() < REMOVED_MAX && self.removed.len() < REMOVED_MAX {
                        self.removed.insert(name.clone());
                        self.news_of_removal.push_back(name);
                    }
                    self.pulses.ring();
                }
                Event::Message { reply, from, data, fds } => {
                    self.inbox_bytes += data.size();
                    self.inbox_fds += fds.len();
                    self.inbox.push_back(Inbound { reply, from, data, fds });
                    self.set_takes_messages();
                }
                Event::Answer(id, answer) => {
                    if let Answer::Granted { name, .. } = &answer {
                        // A later reload has brought it back.
                        self.removed.remove(name);
                    }
                    if let Some(asked) = self.asked.get_mut(&id) {
                        *asked = Some(answer);
                    }
                }
                Event::Closed(end) => self.closed(&end),
            }
        }
        self.settle_pulses();
    }

    /// The next message.
    pub(super) fn next_message(&mut self) -> Option<Inbound> {
        let message = self.inbox.pop_front()?;
        self.inbox_bytes -= message.data.size();
        self.inbox_fds -= message.fds.len();
        self.set_takes_messages();
        Some(message)
    }

    fn set_takes_messages(&mut self) {
        let has_room = self.inbox.len() < INBOX_MAX
            && self.inbox_bytes < INBOX_BYTES_MAX
            && self.inbox_fds < INBOX_FDS_MAX;
        self.session.set_takes_messages(has_room);
    }

    /// Answers pings, and sends the heartbeat that is due, if everything that must turn has turned. Whether it has; then publish.
    pub(super) fn settle_pulses(&mut self) -> bool {
        if !self.pulses.is_round_over() {
            return false;
        }
        for id in std::mem::take(&mut self.pulses.pings) {
            self.session.pong(id);
        }
        if std::mem::replace(&mut self.pulses.heartbeat, false) {
            if self.session.is_open() {
                let _ = self.session.say(&ToHandover::Heartbeat);
            } else {
                self.notifies_heartbeat = true;
            }
        }
        true
    }

    fn closed(&mut self, end: &End) {
        // The last line, which says what was wrong.
        self.flush();
        if let Some(channel) = self.channel.take() {
            // The thread may be waiting for it, and keeps it until it has woken up.
            let _ = channel.shutdown(std::net::Shutdown::Both);
        }
        // What the socket did not take waits for nothing any more.
        self.unwritable();
        self.lost = match end {
            // What ends without a word was no channel, so nobody is gone.
            End::Gone if self.session.hello().is_none() => None,
            End::Gone => {
                self.begin_drain("handover is gone", None);
                None
            }
            End::Closed => None,
            End::Fault(fault) => Some(fault.to_string()),
            End::Refused(refused) => {
                Some(format!("handover refused the channel: {}: {}", refused.error, refused.reason))
            }
            End::TooNew { oldest } => {
                Some(format!("handover speaks versions of the channel from {oldest} on, which is too new"))
            }
        };
    }
}

/// That the other end is closed.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

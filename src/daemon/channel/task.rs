//! Reads and writes one channel, beside the loop, and writes the records of its worker.
//!
//! What the worker says goes to the loop one line at a time, through the queue that all reports share; what handover has to
//! say comes out of the link. When the worker has ended, what lies in the socket is taken first, so that the report of the
//! end comes after it.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as Socket;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::heard::Told;
use super::link::SharedLink;
use crate::daemon::fds::closer::Closer;
use crate::daemon::fds::intake::{self, Fds, Seen};
use crate::daemon::fds::quota::{Allowance, Fd, Pot};
use crate::daemon::worker::line_queue::{Backlog, Way};
use crate::daemon::worker::monitor::{Report, Reports};
use crate::observe::{Line, Said};
use crate::os::foreign::Guarded;
use crate::os::passing;
use crate::wire::{Fault, Heard, Level, Record, Refused, ToHandover, ToWorker};

/// Read in one go. All channels share the buffer.
pub(in crate::daemon) const CHUNK: usize = 64 * 1024;
/// What is taken of a channel whose worker has ended, before that is reported: more than a socket holds.
const LAST_WORDS_MAX: usize = 8 * 1024 * 1024;
/// A task answers at once; one that does not must not hold up the report of an exit.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// How long it takes until fds are sent again after the kernel had too many of them on the way (`unix(7)`).
const AGAIN: Duration = Duration::from_millis(50);

/// The buffer into which all channels read.
pub(in crate::daemon) type Buffer = Rc<RefCell<Vec<u8>>>;

/// What a channel's task is made of, beside its socket.
pub(in crate::daemon) struct Means {
    pub(in crate::daemon) link: SharedLink,
    pub(in crate::daemon) reports: Reports,
    pub(in crate::daemon) buffer: Buffer,
    pub(in crate::daemon) all: Rc<Pot>,
    pub(in crate::daemon) closer: Closer,
    /// Where the worker's records go.
    pub(in crate::daemon) way: Way,
}

/// The other end of a channel's task.
pub(in crate::daemon) struct Channel {
    drain: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

impl Channel {
    /// Starts a task that carries lines both ways until the worker has ended, or the channel.
    ///
    /// # Errors
    /// Where the runtime cannot watch the socket.
    pub(in crate::daemon) fn start(socket: Socket, means: Means) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (drain, mut drained) = oneshot::channel();
        let mut task = Task {
            socket: Some(Guarded::new(UnixStream::from_std(socket)?)),
            closer: means.closer,
            allowance: Allowance::new(means.all),
            link: means.link,
            reports: means.reports,
            buffer: means.buffer,
            records: Backlog::new(means.way),
            is_gone: false,
        };
        tokio::task::spawn_local(async move { task.run(&mut drained).await });
        Ok(Self { drain: Some(drain) })
    }

    /// Returns when all that the worker said has been told. Once: the worker has ended.
    pub(in crate::daemon) async fn drain(&mut self) {
        let (done, taken) = oneshot::channel();
        if self.drain.take().is_some_and(|drain| drain.send(done).is_ok()) {
            let _ = tokio::time::timeout(DRAIN_DEADLINE, taken).await;
        }
    }
}

struct Task {
    /// `None`: the channel has ended.
    socket: Option<Guarded<UnixStream>>,
    closer: Closer,
    link: SharedLink,
    reports: Reports,
    buffer: Buffer,
    allowance: Allowance,
    records: Backlog,
    /// That was told. Once: whatever else comes to light behind it is its consequence.
    is_gone: bool,
}

/// What a task woke up for.
enum Woken {
    /// The socket can be read or written.
    Ready,
    /// There is more to write, more may be read, or it is to be tried again.
    Look,
    /// The worker has ended.
    Drain(Option<oneshot::Sender<()>>),
}

impl Task {
    /// By reference: a future that owned it would have room for it twice, for every channel.
    async fn run(&mut self, drain: &mut oneshot::Receiver<oneshot::Sender<()>>) {
        let mut again = false;
        let mut ended = false;
        while self.socket.is_some() || !self.records.is_empty() {
            let next = self.records.next();
            let woken = tokio::select! {
                biased;
                order = &mut *drain, if !ended => Woken::Drain(order.ok()),
                room = self.records.way.writer.room(next.unwrap_or_default()), if next.is_some() => {
                    self.records.write(room);
                    continue;
                }
                () = self.link.wake.notified() => Woken::Look,
                () = self.allowance.freed(), if self.allowance.is_used_up() => Woken::Look,
                () = tokio::time::sleep(AGAIN), if again => Woken::Look,
                () = ready(self.socket.as_deref(), self.interest(again)) => Woken::Ready,
            };
            again = false;
            match woken {
                Woken::Look if self.link.is_closed() && self.socket.is_some() => self.socket = None,
                Woken::Look => {}
                Woken::Ready => {
                    self.read().await;
                    again = self.write().await;
                }
                Woken::Drain(done) => {
                    ended = true;
                    self.take_last_words().await;
                    self.records.lose_what_is_too_much();
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    /// What the socket is watched for now.
    fn interest(&self, again: bool) -> Option<Interest> {
        let write = (!again && self.link.has_output()).then_some(Interest::WRITABLE);
        // While its records wait, or it has too much in our hands, the worker waits as well.
        let may_read = self.records.is_empty() && !self.allowance.is_used_up() && !self.link.is_choked();
        let read = may_read.then_some(Interest::READABLE);
        match (read, write) {
            (Some(read), Some(write)) => Some(read.add(write)),
            (read, write) => read.or(write),
        }
    }

    /// Reads once, and tells all that is whole.
    async fn read(&mut self) {
        if !self.interest(true).is_some_and(Interest::is_readable) {
            return;
        }
        let Some(socket) = &self.socket else { return };
        let looked = {
            let mut buffer = self.buffer.borrow_mut();
            socket.try_io(Interest::READABLE, || intake::look(socket.as_fd(), &mut buffer, false))
        };
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(seen) if seen.length > 0 => {
                if self.take(seen).await.is_ok() {
                    self.tell().await;
                }
            }
            _ => self.hang_up().await,
        }
    }

    /// Takes what was seen, which is in the buffer, into the link. Fds that are not to be had count as lost on the way.
    async fn take(&mut self, seen: Seen) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let taken = if seen.has_fds {
            // While something is awaited, others read into the buffer. On the heap, because it is rare.
            let bytes = self.buffer.borrow()[..seen.length].to_vec();
            let taken = Box::pin(intake::take(socket.as_fd(), seen, true, &self.closer)).await;
            taken.map(|Fds { fds, lost }| {
                let fds = fds.into_iter().map(|fd| self.allowance.carry(fd)).collect();
                self.link.push(&bytes, fds, lost);
            })
        } else {
            let bytes = &mut self.buffer.borrow_mut()[..seen.length];
            intake::take_plain(socket.as_fd(), bytes).map(|()| self.link.push(bytes, Vec::new(), false))
        };
        if taken.is_err() {
            // Nobody knows where the next line begins.
            self.hang_up().await;
        }
        taken
    }

    /// Tells the loop what the worker said, line by line.
    async fn tell(&mut self) {
        loop {
            let told = match self.link.hear() {
                Ok(None) => return,
                Err(fault) => return self.break_off(fault).await,
                Ok(Some(Heard::Nothing | Heard::Refuse(_))) => continue,
                Ok(Some(Heard::Hello)) => Told::Opened,
                Ok(Some(Heard::Arrived(_))) => continue,
                Ok(Some(Heard::Said(ToHandover::Log(record), _))) => {
                    self.records.keep([line(record)]);
                    continue;
                }
                Ok(Some(Heard::Said(line, fds))) => Told::Said(line, fds),
                Ok(Some(Heard::Answer(open, line, fds))) => Told::Answered(open, line, fds),
            };
            self.report(told).await;
        }
    }

    async fn report(&self, told: Told) {
        let receipt = self.allowance.weigh(told.bytes());
        let report = Report::Channel(Box::new((told, receipt)));
        // The loop outlives the tasks; when it is gone there is nobody to tell.
        let _ = self.reports.send((self.link.worker, report)).await;
    }

    /// Writes what can be written now; true: the kernel has too many fds on the way, and it is to be tried later.
    async fn write(&mut self) -> bool {
        loop {
            let Some(socket) = &self.socket else { return false };
            let written = self.link.write_next(|bytes, fds| {
                let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd: &Fd| fd.as_fd()).collect();
                socket.try_io(Interest::WRITABLE, || passing::send_now(socket.as_fd(), bytes, &fds))
            });
            match written {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if passing::waits_for_receivers(&error) => return true,
                Err(_) => {
                    // What it said before it closed its end may still be there.
                    self.take_last_words().await;
                    // It may have broken the rules with that.
                    self.tell_of_end(Told::Closed).await;
                    return false;
                }
            }
        }
    }

    /// The worker closed its end.
    async fn hang_up(&mut self) {
        if self.socket.take().is_some() {
            self.tell_of_end(Told::Closed).await;
        }
    }

    /// Takes all that lies in the socket, and ends the channel.
    async fn take_last_words(&mut self) {
        let mut taken = 0;
        while taken < LAST_WORDS_MAX
            && let Some(socket) = &self.socket
        {
            // Whatever the runtime knows: it may not have noticed yet what came last.
            let seen = intake::look(socket.as_fd(), &mut self.buffer.borrow_mut(), false);
            let Some(seen) = seen.ok().filter(|seen| seen.length > 0) else { break };
            taken += seen.length;
            if self.take(seen).await.is_err() {
                break;
            }
            self.tell().await;
        }
        self.socket = None;
    }

    /// The worker broke the rules: that is the channel's end, and it is told why if that can be written at once.
    async fn break_off(&mut self, fault: Fault) {
        let Some(socket) = self.socket.take() else { return };
        let refused = Refused { re: None, error: fault.code(), reason: fault.to_string() };
        let _ = self.link.say(&ToWorker::Refused(refused), Vec::new());
        let write = |bytes: &[u8], fds: &[Fd]| {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
            passing::send_now(socket.as_fd(), bytes, &fds)
        };
        while self.link.write_next(write).unwrap_or(false) {}
        drop(socket);
        self.tell_of_end(Told::Lost(fault)).await;
    }

    async fn tell_of_end(&mut self, told: Told) {
        if !std::mem::replace(&mut self.is_gone, true) {
            self.report(told).await;
        }
    }
}

/// Waits until the socket is ready for what it is watched for; for nothing, for ever.
async fn ready(socket: Option<&UnixStream>, interest: Option<Interest>) {
    match (socket, interest) {
        (Some(socket), Some(interest)) => drop(socket.ready(interest).await),
        _ => std::future::pending().await,
    }
}

/// A record as a line of the worker's output.
fn line(record: Record) -> Line {
    let priority = match record.level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let fields = record.fields.into_iter().map(|(name, value)| (name, plain(&value))).collect();
    let said = Said { target: record.target, fields };
    Line { text: record.message, priority: Some(priority), said: Some(Box::new(said)), ..Line::default() }
}

/// The value of a field: what is neither text, number, truth nor nothing is kept as its JSON.
fn plain(value: &crate::wire::Payload) -> serde_json::Value {
    match value.to() {
        Ok(serde_json::Value::Array(_) | serde_json::Value::Object(_)) | Err(_) => value.json().into(),
        Ok(value) => value,
    }
}

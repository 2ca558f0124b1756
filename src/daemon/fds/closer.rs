//! Runs the closer: a process that closes fds whose closing can block. It is started on demand and ends when idle.
//!
//! Fds that others sent, and sockets of ours that others can fill, come here through the thread's `Outbox` and wait in a `Parking`
//! until that process takes them. It also looks at fds before they become ours, since even a close that is not the last one waits
//! for a FUSE server (decision 0020). All that is awaited here is its answer, with a limit. One that gives none is killed; one that
//! cannot be killed is left behind, and said so, and there is a bound for those: then nothing is looked at any more, and fds
//! of others are discarded unseen.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::os::foreign::{Outbox, Parking};
use crate::os::process::Pidfd;
use crate::os::spawn::{Answer, Ask, Closer as Process, Helper};

/// How long an answer may take. Nothing that is asked for has to wait for anybody, but for the closing of flocked files.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long one that was killed may take to end before it counts as stuck.
const DEATH: Duration = Duration::from_secs(1);
/// A process that was of no use for so long is ended.
const IDLE: Duration = Duration::from_secs(10);
/// The pause after a failed start, for want of fds or processes.
const AGAIN: Duration = Duration::from_secs(1);
/// The pause where nothing at all could be parked.
const CROWDED: Duration = Duration::from_millis(50);
/// From so many stuck processes on nobody looks at fds any more.
const STUCK_MAX: usize = 8;
/// From so many on, none is started until one of them has ended.
const STUCK_LIMIT: usize = 2 * STUCK_MAX;
/// At the end: what is to be closed still, all together.
const LAST: Duration = Duration::from_secs(1);

/// What those that read from others ask for.
#[cfg_attr(
    target_os = "macos",
    allow(dead_code, reason = "nothing can be looked at there before it is taken")
)]
enum Order {
    Look(OwnedFd, usize, oneshot::Sender<bool>),
    Discard(OwnedFd, usize, oneshot::Sender<bool>),
    Finish(oneshot::Sender<()>),
}

/// The shell's end of it.
#[derive(Clone)]
pub(in crate::daemon) struct Closer {
    orders: mpsc::UnboundedSender<Order>,
    facts: Rc<Facts>,
}

/// What there is to know of it.
struct Facts {
    outbox: Outbox,
    /// Processes that could not be ended.
    stuck: Cell<usize>,
    /// Those that live, stuck ones included.
    pids: RefCell<BTreeSet<u32>>,
    /// One of them has ended.
    ended: Notify,
}

impl Closer {
    /// Takes what is dropped on this thread from now on. No process is started before there is a need.
    ///
    /// # Errors
    /// Any of `socketpair(2)`.
    pub(in crate::daemon) fn start(helper: Helper) -> io::Result<Self> {
        let (orders, queue) = mpsc::unbounded_channel();
        let none = Facts {
            outbox: Outbox::default(),
            stuck: Cell::default(),
            pids: RefCell::default(),
            ended: Notify::new(),
        };
        // Elsewhere what is dropped is closed at once.
        if cfg!(target_os = "macos") {
            return Ok(Self { orders, facts: Rc::new(none) });
        }
        let parking = Parking::new()?;
        let facts = Rc::new(Facts { outbox: Outbox::of_this_thread(), ..none });
        let task = Task { helper, parking, queue, facts: facts.clone(), process: None, is_unfinished: false };
        tokio::task::spawn_local(task.run());
        Ok(Self { orders, facts })
    }

    /// Can the fds of what stands first in this socket, so many bytes of it, be taken without harm?
    #[cfg_attr(
        target_os = "macos",
        allow(dead_code, reason = "nothing can be looked at there before it is taken")
    )]
    pub(in crate::daemon) async fn look(&self, socket: BorrowedFd<'_>, bytes: usize) -> bool {
        self.order(socket, |socket, answer| Order::Look(socket, bytes, answer)).await
    }

    /// Takes what stands first in this socket, so many bytes of it, and closes its fds. False: nobody knows whether that was
    /// done.
    #[cfg_attr(
        target_os = "macos",
        allow(dead_code, reason = "nothing can be looked at there before it is taken")
    )]
    pub(in crate::daemon) async fn discard(&self, socket: BorrowedFd<'_>, bytes: usize) -> bool {
        self.order(socket, |socket, answer| Order::Discard(socket, bytes, answer)).await
    }

    #[cfg_attr(
        target_os = "macos",
        allow(dead_code, reason = "nothing can be looked at there before it is taken")
    )]
    async fn order(
        &self,
        socket: BorrowedFd<'_>,
        order: impl FnOnce(OwnedFd, oneshot::Sender<bool>) -> Order,
    ) -> bool {
        let Ok(socket) = socket.try_clone_to_owned() else {
            // For want of fds, which may come back.
            sleep(AGAIN).await;
            return false;
        };
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(socket, answer)).is_ok() && answered.await.unwrap_or(false)
    }

    /// Waits until all is closed that was to be, at most for a moment. `ends_process`: what comes after that is left to the end of
    /// this process, in which nothing lingers; else it is closed where it is dropped.
    pub(in crate::daemon) async fn finish(&self, ends_process: bool) {
        if !self.facts.outbox.is_empty() {
            let (done, finished) = oneshot::channel();
            if self.orders.send(Order::Finish(done)).is_ok() {
                let _ = timeout(LAST, finished).await;
            }
        }
        if !ends_process {
            drop(self.facts.outbox.close());
        }
    }

    /// Is this process one of its own?
    pub(in crate::daemon) fn has_pid(&self, pid: u32) -> bool {
        self.facts.pids.borrow().contains(&pid)
    }

    /// Processes that could not be ended, and fds that nobody has closed yet.
    pub(in crate::daemon) fn counts(&self) -> (u64, u64) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (count(self.facts.stuck.get()), count(self.facts.outbox.len()))
    }
}

struct Task {
    helper: Helper,
    parking: Parking,
    queue: mpsc::UnboundedReceiver<Order>,
    facts: Rc<Facts>,
    process: Option<Process>,
    /// Something is still to be closed.
    is_unfinished: bool,
}

impl Task {
    async fn run(mut self) {
        let outbox = self.facts.outbox.clone();
        loop {
            tokio::select! {
                biased;
                order = self.queue.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => return,
                },
                () = outbox.filled() => self.empty().await,
                () = std::future::ready(()), if self.is_unfinished => self.empty().await,
                () = sleep(IDLE), if self.process.is_some() => {
                    if let Some(process) = self.process.take() {
                        self.leave(process, Fault::Idle);
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        // Who asked may be gone: then nobody waits.
        match order {
            Order::Look(socket, bytes, answer) => {
                let _ = answer.send(self.look(&socket, bytes).await);
            }
            Order::Discard(socket, bytes, answer) => {
                let _ = answer.send(self.ask(Ask::Discard(socket.as_fd(), bytes)).await.is_some());
            }
            Order::Finish(done) => {
                while !self.facts.outbox.is_empty() || self.is_unfinished {
                    self.empty().await;
                }
                let _ = done.send(());
            }
        }
    }

    async fn look(&mut self, socket: &OwnedFd, bytes: usize) -> bool {
        if self.facts.stuck.get() >= STUCK_MAX {
            return false;
        }
        match self.ask(Ask::Look(socket.as_fd(), bytes)).await {
            Some(Answer::Done) => true,
            // It closes them now, which may be for ever. What comes next is another's.
            Some(Answer::Harmful) => {
                if let Some(process) = self.process.take() {
                    self.leave(process, Fault::Closing);
                }
                false
            }
            None => false,
        }
    }

    /// Has all that was dropped closed, or as much as there is room for.
    async fn empty(&mut self) {
        let dropped = self.facts.outbox.take();
        let before = dropped.len();
        let back = self.parking.put(dropped);
        let is_stuck = before > 0 && back.len() == before;
        self.facts.outbox.put_back(back);
        let answer = self.ask(Ask::Empty).await;
        self.is_unfinished = answer.is_none() || !self.facts.outbox.is_empty();
        if self.is_unfinished && is_stuck {
            // This user has too many fds on the way (`unix(7)`): nothing tells when that changes.
            sleep(CROWDED).await;
        }
    }

    /// `None`: there was no answer in time, and whoever was asked does nothing any more.
    async fn ask(&mut self, ask: Ask<'_>) -> Option<Answer> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.begin().await,
        };
        if let Ok(Some(answer)) = timeout(PATIENCE, process.ask(ask)).await {
            self.process = Some(process);
            return Some(answer);
        }
        let gone = self.leave(process, Fault::Silent);
        let _ = timeout(DEATH, gone).await;
        None
    }

    /// Starts one, as soon as there can be one.
    async fn begin(&self) -> Process {
        loop {
            if self.facts.stuck.get() >= STUCK_LIMIT {
                self.facts.ended.notified().await;
                continue;
            }
            match Process::start(&self.helper, self.parking.exit()) {
                Ok(process) => {
                    self.facts.pids.borrow_mut().insert(process.pid());
                    return process;
                }
                Err(error) => {
                    tracing::warn!(%error, "closer process not started: fds of others wait");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Has nothing more to do with it. What is returned ends with it.
    fn leave(&self, process: Process, fault: Fault) -> oneshot::Receiver<()> {
        let (ended, end) = oneshot::channel();
        tokio::task::spawn_local(see_off(process.into_process(), fault, self.facts.clone(), ended));
        end
    }
}

/// Why a process is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// There is nothing to do for it.
    Idle,
    /// It closes fds that nobody should wait for.
    Closing,
    /// It gave no answer.
    Silent,
}

/// Waits until a process has ended, and reaps it.
async fn see_off(process: Pidfd, fault: Fault, facts: Rc<Facts>, ended: oneshot::Sender<()>) {
    let pid = process.pid();
    if fault == Fault::Silent {
        let _ = process.send_signal(libc::SIGKILL);
    }
    let is_stuck = timeout(DEATH, process.exited()).await.is_err();
    if is_stuck {
        facts.stuck.set(facts.stuck.get() + 1);
        let stuck = facts.stuck.get();
        let _ = process.send_signal(libc::SIGKILL);
        tracing::warn!(
            pid,
            stuck,
            "closer process stuck: an fd that a worker or a stranger sent cannot be closed (a file system that does not answer?)"
        );
        let _ = process.exited().await;
        facts.stuck.set(facts.stuck.get() - 1);
        tracing::info!(pid, stuck = facts.stuck.get(), "closer process ended after all");
        facts.ended.notify_waiters();
    }
    // One that somebody else reaped is gone, too.
    let _ = process.reap();
    facts.pids.borrow_mut().remove(&pid);
    drop(ended);
}

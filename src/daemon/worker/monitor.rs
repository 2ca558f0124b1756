//! One task a worker: it watches the worker from its start until nothing of it is left, and reports.
//!
//! What a worker said before it ended is reported before its end is: the datagrams that lie in its notify
//! socket, the newline in its ready pipe and the lines in its output pipes are taken first. A pipe that
//! others still hold open never delays that.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::config::model::Signal;
use crate::daemon::channel::{Channel, Told};
use crate::daemon::fds::closer::Closer;
use crate::daemon::fds::intake::{self, Fds, Seen};
use crate::daemon::fds::quota::{Allowance, Fd, Receipt};
use crate::daemon::worker::output::Pump;
use crate::daemon::worker::pace::{self, Pace};
use crate::daemon::worker::process::Process;
use crate::id::WorkerId;
use crate::notify::{self, Group, Message, Sender, Verdict, WorkerProcess};
use crate::os::clock;
use crate::os::foreign::Guarded;
use crate::os::passing;
use crate::os::process::{Exit, group_empty, group_members};
use crate::os::spawn::{Handshake, StartFault};
use crate::os::words;
use crate::supervisor::ExitStatus;

/// Datagrams that are taken after the main process has ended; more than the kernel queues
/// (`net.unix.max_dgram_qlen`, 512 under systemd).
const LAST_DATAGRAMS_MAX: usize = 1024;

/// Where the rest of a group cannot be watched, it is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is to be done about the rest of a worker's process group.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) enum GroupOrder {
    /// Send it a signal and wait until it is empty.
    End(Signal),
    /// Nothing: it is empty.
    NothingLeft,
}

/// What an attendant tells the loop.
#[derive(Debug)]
pub(in crate::daemon) enum Report {
    /// The program was executed.
    Executed,
    /// It was not, and nothing is left.
    StartFailed(StartFault),
    /// It wrote a newline to its ready fd.
    ReadyByFd,
    /// It closed its ready fd without one.
    ReadyFdClosed,
    /// It said this to its notify socket.
    Said(Message, Brought),
    /// Something in its notify socket was dropped.
    Dropped {
        /// For one of a few reasons.
        why: String,
        /// Who sent it, as far as that is known.
        sender: Option<u32>,
        /// It was dropped because of who that is.
        stranger: Option<Stray>,
    },
    /// For so long its notify socket is not read, or was not, and neither it nor its group is to blame.
    NotHeard(Duration),
    /// What came through its channel.
    Channel(Box<(Told, Receipt)>),
    /// Its main process ended.
    Exited(ExitStatus),
    /// Nothing of its process group is left.
    GroupEnded,
}

/// A datagram from somebody who may not speak for the worker.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) struct Stray {
    pub(in crate::daemon) pid: i32,
    pub(in crate::daemon) uid: u32,
    pub(in crate::daemon) says_ready: bool,
}

/// Fds that came with what a worker said to its notify socket: for `FDSTORE=1` and `BARRIER=1` only.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Brought {
    pub(in crate::daemon) fds: Vec<Fd>,
    /// So many more were let go of, because there is no room for them.
    pub(in crate::daemon) closed: usize,
    /// They are not ours: we could not take all of them, or some of them may not be taken.
    pub(in crate::daemon) lost: bool,
}

/// The sending end that attendants share.
pub(in crate::daemon) type Reports = mpsc::Sender<(WorkerId, Report)>;

/// The buffer into which all attendants receive, one datagram at a time.
pub(in crate::daemon) type DatagramBuffer = Rc<RefCell<Vec<u8>>>;

/// See the module.
pub(in crate::daemon) struct Attendant {
    pub(in crate::daemon) worker: WorkerId,
    pub(in crate::daemon) process: Rc<Process>,
    /// The user that it is started as; a helper of it that is gone already is believed if it had this one.
    pub(in crate::daemon) uid: u32,
    /// Until it is over: its fd would else be kept, and copied at each later start, as long as the worker lives.
    pub(in crate::daemon) handshake: Option<Box<Handshake>>,
    pub(in crate::daemon) notify: Guarded<UnixDatagram>,
    pub(in crate::daemon) closer: Closer,
    pub(in crate::daemon) buffer: DatagramBuffer,
    pub(in crate::daemon) pace: Pace,
    pub(in crate::daemon) ready: Option<pipe::Receiver>,
    pub(in crate::daemon) output: Vec<Pump>,
    pub(in crate::daemon) channel: Option<Channel>,
    /// What of its fds we may keep.
    pub(in crate::daemon) allowance: Allowance,
    /// What to do about the rest of the group, once the main process has ended.
    pub(in crate::daemon) end_group: oneshot::Receiver<GroupOrder>,
    pub(in crate::daemon) reports: Reports,
}

impl Attendant {
    /// Attends the worker to its end. By reference: a future that owned it would have room for it twice, for every worker.
    pub(in crate::daemon) async fn attend(&mut self) {
        if let Some(mut handshake) = self.handshake.take()
            && let Err(fault) = handshake.finished().await
        {
            // On the heap, because it is rare.
            return Box::pin(self.give_up_start(fault)).await;
        }
        self.report(Report::Executed).await;
        self.listen_until_exit().await;
        self.take_last_words().await;
        let status = self.process.pidfd().peek().ok().flatten().map_or(ExitStatus::Unknown, exit_status);
        self.report(Report::Exited(status)).await;
        self.end_group().await;
        self.reap();
        self.report(Report::GroupEnded).await;
    }

    async fn report(&self, report: Report) {
        // The loop outlives its attendants; when it is gone there is nobody to tell.
        let _ = self.reports.send((self.worker, report)).await;
    }

    async fn give_up_start(&mut self, fault: StartFault) {
        // A helper that reported a fault ends by itself; one that broke off may not.
        let _ = self.process.signal(9);
        let _ = self.process.pidfd().exited().await;
        self.take_last_words().await;
        self.reap();
        self.report(Report::StartFailed(fault)).await;
    }

    async fn listen_until_exit(&mut self) {
        enum Heard {
            Datagram,
            ReadyFd { newline: bool },
            PauseOver,
        }
        let mut paused_until: Option<Duration> = None;
        loop {
            let heard = tokio::select! {
                biased;
                _ = self.process.pidfd().exited() => return,
                Ok(()) = self.notify.readable(), if paused_until.is_none() => Heard::Datagram,
                () = sleep_until(paused_until) => Heard::PauseOver,
                newline = newline(self.ready.as_mut()) => Heard::ReadyFd { newline },
            };
            match heard {
                Heard::Datagram => paused_until = self.take_datagram_in_time().await,
                Heard::PauseOver => paused_until = None,
                Heard::ReadyFd { newline } => {
                    self.ready = None;
                    self.report(if newline { Report::ReadyByFd } else { Report::ReadyFdClosed }).await;
                }
            }
        }
    }

    /// Takes one datagram, if there is one, and says until when none is to be taken.
    async fn take_datagram_in_time(&mut self) -> Option<Duration> {
        let before = clock::monotonic();
        let from = self.take_datagram().await;
        let took = clock::monotonic().saturating_sub(before);
        let pause = from.and_then(|from| self.pace.count(from, clock::monotonic()));
        // A look at fds took long. Nothing else was read from this socket meanwhile.
        let mut not_heard = if took > pace::WINDOW { took } else { Duration::ZERO };
        if let Some((pause, pace::From::Stranger)) = pause {
            not_heard += pause;
        }
        if not_heard > Duration::ZERO {
            self.report(Report::NotHeard(not_heard)).await;
        }
        pause.map(|(pause, _)| clock::monotonic() + pause)
    }

    /// Takes one datagram, and says whose it is; `None`: there was none, or it stays where it is.
    async fn take_datagram(&mut self) -> Option<pace::From> {
        let seen = {
            let mut buffer = self.buffer.borrow_mut();
            let look = || intake::look(self.notify.as_fd(), &mut buffer, passing::SENDERS_ARE_KNOWN);
            let seen = self.notify.try_io(Interest::READABLE, look);
            seen.map(|seen| {
                let verdict = self.judge(&seen);
                (verdict, self.read(verdict, &buffer[..seen.length], &seen), seen)
            })
        };
        let mut from = pace::From::Own;
        let reports = match seen {
            Ok((verdict, mut said, seen)) => {
                if verdict != Verdict::Believed {
                    from = pace::From::Stranger;
                }
                let wanted = said.iter_mut().find_map(wants_fds);
                let socket = self.notify.as_fd();
                let taken = match seen.has_fds {
                    // On the heap, because it is rare.
                    true => Box::pin(intake::take(socket, seen, wanted.is_some(), &self.closer)).await,
                    false => {
                        let bytes = &mut self.buffer.borrow_mut()[..seen.length];
                        intake::take_plain(socket, bytes).map(|()| Fds::default())
                    }
                };
                // What nobody knows of is looked at once more, if it is still there.
                let Ok(came) = taken else { return None };
                if let Some(brought) = wanted {
                    self.bring(brought, came);
                }
                said
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => {
                let why = format!("notification not received: {}", words(&error));
                vec![Report::Dropped { why, sender: None, stranger: None }]
            }
        };
        for report in reports {
            self.report(report).await;
        }
        Some(from)
    }

    /// Puts the fds that came beside what they came for.
    fn bring(&self, brought: &mut Brought, came: Fds) {
        let count = came.fds.len();
        brought.fds = came.fds.into_iter().filter_map(|fd| self.allowance.try_carry(fd)).collect();
        brought.closed = count - brought.fds.len();
        brought.lost = came.lost;
    }

    /// Is its sender authorised? Judged before anything is parsed.
    fn judge(&self, seen: &Seen) -> Verdict {
        let credentials = seen.credentials.map(|credentials| Sender {
            pid: i32::try_from(credentials.pid).unwrap_or(0),
            uid: credentials.uid,
        });
        let pid = i32::try_from(self.process.pid()).unwrap_or(0);
        let worker = WorkerProcess { pid, uid: self.uid };
        // Without the kernel's word it counts that the socket's path is the worker's secret.
        match passing::SENDERS_ARE_KNOWN {
            true => notify::judge(credentials, worker, group_of),
            false => Verdict::Believed,
        }
    }

    /// What a datagram says.
    fn read(&self, verdict: Verdict, datagram: &[u8], seen: &Seen) -> Vec<Report> {
        let sender = seen.credentials.map(|credentials| credentials.pid);
        let drop_for = |why: String| Report::Dropped { why, sender, stranger: None };
        let dropped = |why: &str| vec![drop_for(why.to_owned())];
        match verdict {
            Verdict::Dropped(why) => {
                let says_ready = datagram.split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
                let stranger = seen.credentials.map(|by| Stray {
                    pid: i32::try_from(by.pid).unwrap_or(0),
                    uid: by.uid,
                    says_ready,
                });
                vec![Report::Dropped { why: why.as_str().to_owned(), sender, stranger }]
            }
            Verdict::Believed if seen.truncated => dropped("notification too long"),
            Verdict::Believed => match notify::parse(datagram) {
                Err(refused) => dropped(&refused.to_string()),
                Ok(notification) => {
                    let faults = notification.faults.iter().map(|fault| drop_for(fault.to_string()));
                    let said = |message| Report::Said(message, Brought::default());
                    faults.chain(notification.messages.into_iter().map(said)).collect()
                }
            },
        }
    }

    async fn take_last_words(&mut self) {
        for pump in &mut self.output {
            pump.drain().await;
        }
        if let Some(channel) = &mut self.channel {
            channel.drain().await;
        }
        // What others send meanwhile could go on for ever.
        let mut most = LAST_DATAGRAMS_MAX;
        while most > 0 && self.take_datagram().await.is_some() {
            most -= 1;
        }
        if let Some(ready) = &self.ready
            && ready.try_read(&mut [0; 64]).is_ok_and(|length| length > 0)
        {
            self.report(Report::ReadyByFd).await;
        }
    }

    /// Waits for the order to end what is left of the group, gives it, and waits until nothing is.
    async fn end_group(&mut self) {
        let Ok(GroupOrder::End(signal)) = (&mut self.end_group).await else { return };
        let pid = self.process.pid();
        if self.process.has_no_group() || group_members(pid).is_ok_and(|members| members.is_empty()) {
            return;
        }
        // Members that may not be signalled, or end meanwhile, are waited for all the same.
        let _ = self.process.signal_group(signal.0);
        while let Err(error) = group_empty(pid).await {
            // For want of fds, most likely. The machine has a deadline for the group; until then it is looked
            // again now and then.
            tracing::warn!(worker = self.worker.0, pid, %error, "process group not watched");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn reap(&self) {
        // It has ended, so there is nothing to wait for; and a child that somebody else reaped is gone, too.
        let _ = self.process.reap();
    }
}

async fn sleep_until(moment: Option<Duration>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}

/// Where the fds of a message go, if it is one that has some.
fn wants_fds(report: &mut Report) -> Option<&mut Brought> {
    match report {
        Report::Said(Message::FdStore { .. } | Message::Barrier, brought) => Some(brought),
        _ => None,
    }
}

/// Waits for a newline; false: the pipe is closed and there will be none.
async fn newline(pipe: Option<&mut pipe::Receiver>) -> bool {
    let Some(pipe) = pipe else { return std::future::pending().await };
    loop {
        if pipe.readable().await.is_err() {
            return false;
        }
        let mut buffer = [0; 64];
        match pipe.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) if buffer[..length].contains(&b'\n') => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

fn group_of(pid: i32) -> Group {
    match getpgid(Some(Pid::from_raw(pid))) {
        Ok(group) => Group::Is(group.as_raw()),
        Err(Errno::ESRCH) => Group::Gone,
        Err(_) => Group::Unknown,
    }
}

fn exit_status(exit: Exit) -> ExitStatus {
    match exit {
        Exit::Code(code) => ExitStatus::Code(code),
        Exit::Signal { signal, core } => ExitStatus::Signal { signal, core },
        Exit::Unknown => ExitStatus::Unknown,
    }
}

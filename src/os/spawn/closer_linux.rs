//! A process that closes fds for us, and looks at those that others sent before we take them.
//!
//! What it may have to wait for is known of nobody: a socket that lingers, the server of a FUSE file system, which is told of
//! each `close(2)` and not only of the last one. So it may hang, be killed, or stay behind: all that we wait for is one byte,
//! with a limit. It is the exec helper with another order, and ends when we do.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::Interest;

use super::harmless::are_harmless;
use super::parent::Helper;
use super::spec::{CloserOrder, FDS_BYTE, HELPER_ARGUMENT, VERSION, header};
use crate::os::passing;
use crate::os::process::Pidfd;

/// An order: its kind, and a number of bytes.
const ORDER_BYTES: usize = 5;
/// The closing of one fd that waits is interrupted after so long, in microseconds: the kernel then goes on with it by itself.
const INTERRUPT_US: libc::suseconds_t = 20_000;
/// How long it takes until fds are sent again after the kernel had too many of them on the way (`unix(7)`).
const CROWDED: Duration = Duration::from_millis(20);

/// What a closer can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Take out all that is parked, and close it.
    Empty,
    /// Look at the fds of the first message in this socket, so many bytes of it: can a close that is not the last one block?
    Look(BorrowedFd<'a>, usize),
    /// Take the first message of this socket, so many bytes of it, and close its fds.
    Discard(BorrowedFd<'a>, usize),
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done; of a look: they are harmless.
    Done,
    /// Some of them can block, or that is unknown. The closer may hang when it closes its own copies.
    Harmful,
}

/// Our side of one.
#[derive(Debug)]
pub struct Closer {
    stream: tokio::net::UnixStream,
    pidfd: Pidfd,
}

impl Closer {
    /// Starts one that takes from `parked`. Nothing here waits for it.
    ///
    /// # Errors
    /// No process or fd to be had.
    pub fn start(helper: &Helper, parked: BorrowedFd<'_>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let body = serde_json::to_vec(&CloserOrder { version: VERSION, closer: true })?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        // A few bytes: a new socket has room for them.
        (&ours).write_all(&header(length, 1))?;
        passing::send_now(ours.as_fd(), &[FDS_BYTE], &[parked])?;
        (&ours).write_all(&body)?;
        let mut child = Command::new(helper.path())
            .arg0("handover")
            .arg(HELPER_ARGUMENT)
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pidfd = Pidfd::open(child.id()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self { stream: tokio::net::UnixStream::from_std(ours)?, pidfd })
    }

    /// Asks for one thing, and waits for the answer. `None`: it is gone. Whoever stops waiting cannot ask again.
    pub async fn ask(&self, ask: Ask<'_>) -> Option<Answer> {
        let (kind, bytes, socket) = match ask {
            Ask::Empty => (b'e', 0, None),
            Ask::Look(socket, bytes) => (b'l', u32::try_from(bytes).ok()?, Some(socket)),
            Ask::Discard(socket, bytes) => (b'd', u32::try_from(bytes).ok()?, Some(socket)),
        };
        let mut order = [kind; ORDER_BYTES];
        order[1..].copy_from_slice(&bytes.to_le_bytes());
        let fds: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
        loop {
            self.stream.writable().await.ok()?;
            let send = || passing::send_now(self.stream.as_fd(), &order, &fds);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Ok(ORDER_BYTES) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if passing::waits_for_receivers(&error) => tokio::time::sleep(CROWDED).await,
                _ => return None,
            }
        }
        let mut answer = [0];
        loop {
            self.stream.readable().await.ok()?;
            match self.stream.try_read(&mut answer) {
                Ok(1) if answer == *b"y" => return Some(Answer::Done),
                Ok(1) => return Some(Answer::Harmful),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return None,
            }
        }
    }

    /// Its process. Without the rest of this it ends as soon as it can.
    pub fn into_process(self) -> Pidfd {
        self.pidfd
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pidfd.pid()
    }
}

/// Becomes a closer, until the other end of the channel is closed.
pub(super) fn serve(channel: &mut UnixStream, parked: &OwnedFd) -> io::Result<()> {
    prepare(parked)?;
    loop {
        let mut order = [0; ORDER_BYTES];
        let received = passing::receive(channel.as_fd(), &mut order)?;
        match received.length {
            ORDER_BYTES => {}
            0 => return Ok(()),
            got => channel.read_exact(&mut order[got..])?,
        }
        let bytes = u32::from_le_bytes([order[1], order[2], order[3], order[4]]) as usize;
        let socket = received.fds.first();
        match (order[0], socket) {
            (b'e', _) => {
                interrupted(|| while passing::take_without_fds(parked.as_fd(), &mut [0]).is_ok() {})?;
                channel.write_all(b"y")?;
            }
            (b'd', Some(socket)) => {
                let mut buffer = vec![0; bytes];
                interrupted(|| drop(passing::take_without_fds(socket.as_fd(), &mut buffer)))?;
                channel.write_all(b"y")?;
            }
            (b'l', Some(socket)) => {
                // Our copies are closed after the answer: that may take for ever.
                let seen = passing::peek(socket.as_fd(), &mut vec![0; bytes.max(1)]);
                let harmless = seen.as_ref().is_ok_and(|seen| !seen.fds_lost && are_harmless(&seen.fds));
                channel.write_all(if harmless { b"y" } else { b"n" })?;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Nothing of our parent's but what it gave, no signal of those that are meant for it, and an end with it.
fn prepare(parked: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let kept = u32::try_from(parked.as_raw_fd()).map_err(io::Error::other)?;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: numbers only. Nobody in this process owns an fd but standard input and `parked`. Where the kernel does not know
            // the call (before Linux 5.9), what is not close-on-exec stays.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
    crate::os::linux::set_parent_death_signal(libc::SIGKILL)?;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    std::env::set_current_dir("/")
}

/// Does something during which each wait in the kernel that can be interrupted is.
fn interrupted(what: impl FnOnce()) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let every = |us| {
        let tick = libc::timeval { tv_sec: 0, tv_usec: us };
        let timer = libc::itimerval { it_interval: tick, it_value: tick };
        // SAFETY: the timer is ours and alive; the kernel copies it.
        let done = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the handler does nothing, which is allowed at any moment.
    unsafe { libc::signal(libc::SIGALRM, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    every(INTERRUPT_US)?;
    what();
    every(0)
}

//! One process, by pidfd.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wait::{Exit, waitid};
use crate::os::linux;

/// A handle on one process, which never becomes another's. Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct Pidfd {
    fd: AsyncFd<OwnedFd>,
    pid: u32,
}

impl Pidfd {
    /// A handle on the process that has `pid` now. For a child that is not yet reaped this is no race: its
    /// pid is nobody else's.
    ///
    /// Within a tokio runtime with I/O.
    ///
    /// # Errors
    /// `ESRCH`: there is no such process. `EMFILE`: this process is at its limit of open files.
    pub fn open(pid: u32) -> io::Result<Self> {
        Self::from_fd(linux::pidfd_open(pid)?, pid)
    }

    /// The same for a pidfd that somebody kept.
    ///
    /// # Errors
    /// Any of `epoll_ctl(2)`.
    pub fn from_fd(fd: OwnedFd, pid: u32) -> io::Result<Self> {
        // SAFETY: an OwnedFd keeps its fd, open and under one number, until it is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd, pid })
    }

    /// The pid that it had when the handle was made.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the process has ended (all of its threads). It is not reaped by that. Its orphans have
    /// their new parent by then. Dropping the future loses nothing; afterwards it returns at once.
    ///
    /// # Errors
    /// Where the runtime shuts down.
    pub async fn exited(&self) -> io::Result<()> {
        // The readiness is never cleared: an ended process does not come back.
        self.fd.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// How it ended, if it did; it stays unreaped, so that its number stays its own.
    ///
    /// # Errors
    /// Any of `waitid(2)` but `ECHILD`, which is [`Exit::Unknown`] for a process that has ended.
    pub fn peek(&self) -> io::Result<Option<Exit>> {
        self.wait(libc::WNOWAIT)
    }

    /// How it ended, if it did; its number is free from now on.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        self.wait(0)
    }

    fn wait(&self, more: i32) -> io::Result<Option<Exit>> {
        let id = u32::try_from(self.fd.as_raw_fd()).map_err(|_| Errno::EBADF)?;
        match waitid(libc::P_PIDFD, id, more) {
            Ok(info) => Ok(info.map(|info| Exit::of(&info))),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                Ok(has_ended(self.as_fd())?.then_some(Exit::Unknown))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to the process. False: it has ended.
    ///
    /// # Errors
    /// `EPERM`: it runs as a user that we may not signal. `EINVAL`: no such signal.
    pub fn send_signal(&self, signal: i32) -> io::Result<bool> {
        match linux::pidfd_send_signal(self.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to its process group, if it leads or led one, even when somebody else has reaped it: never to another
    /// one that has got its number since (Linux 6.9). False: nothing is left of the group.
    ///
    /// # Errors
    /// `EPERM`: none of them may be signalled by us. `EINVAL`: no such signal. `Unsupported`: an older kernel, and somebody else
    /// has reaped the process, so that nobody can say whose its number is now.
    pub fn signal_group(&self, signal: i32) -> io::Result<bool> {
        match linux::pidfd_send_group_signal(self.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match self.peek()? {
                Some(Exit::Unknown) => Err(io::ErrorKind::Unsupported.into()),
                _ => super::kill_group(self.pid, signal),
            },
            Err(error) => Err(error),
        }
    }

    /// The inode number of the process where the kernel gives one (Linux 6.9): unlike the pid it is unique
    /// while the machine runs.
    pub fn inode(&self) -> Option<u64> {
        linux::pidfd_inode(self.as_fd())
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

/// The inode number of this process where the kernel gives one: what `LISTEN_PIDFDID` must say.
pub fn own_inode() -> Option<u64> {
    linux::pidfd_inode(linux::pidfd_open(std::process::id()).ok()?.as_fd())
}

/// Whether the process behind a pidfd has ended, all of its threads included. (`/proc` calls a process whose
/// first thread has ended a zombie; this does not.)
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one pollfd, and no wait.
        match Errno::result(unsafe { libc::poll(&raw mut poll, 1, 0) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(count) => return Ok(count > 0),
        }
    }
}

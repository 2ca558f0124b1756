//! One of our children, on macOS: by its number, which is its own until we reap it.
//!
//! Told of by `SIGCHLD`, not by a kqueue: the kernel sends that signal when the child can be waited for, and
//! posts `NOTE_EXIT` some time before. The name is that of the Linux type, which this stands in for.

use std::cell::Cell;
use std::io;

use nix::errno::Errno;
use tokio::signal::unix::{SignalKind, signal};

use super::wait::{Exit, waitid};

/// A handle on one child. Dropping it neither ends nor reaps the process.
///
/// Unlike a pidfd it rests on a rule of this program: nobody else reaps its children.
#[derive(Debug)]
pub struct Pidfd {
    pid: u32,
    /// Its number may be another's by now.
    reaped: Cell<bool>,
}

impl Pidfd {
    /// A handle on our child that has `pid`, and is not reaped.
    ///
    /// # Errors
    /// `ESRCH`: we have no such child.
    pub fn open(pid: u32) -> io::Result<Self> {
        match waitid(libc::P_PID, pid, libc::WNOWAIT) {
            Ok(_) => Ok(Self { pid, reaped: Cell::new(false) }),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Err(Errno::ESRCH.into()),
            Err(error) => Err(error),
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the process has ended. It is not reaped by that. Dropping the future loses nothing;
    /// afterwards it returns at once.
    ///
    /// Within a tokio runtime with I/O, which then handles `SIGCHLD` for good.
    ///
    /// # Errors
    /// Any of `sigaction(2)`, and of [`peek`](Self::peek).
    pub async fn exited(&self) -> io::Result<()> {
        // Before the look: a signal that comes between the two is then not missed.
        let mut children = signal(SignalKind::child())?;
        while self.peek()?.is_none() {
            if children.recv().await.is_none() {
                return Err(io::Error::other("the runtime shuts down"));
            }
        }
        Ok(())
    }

    /// How it ended, if it did; it stays unreaped, so that its number stays its own.
    ///
    /// # Errors
    /// Any of `waitid(2)` but `ECHILD`, which is [`Exit::Unknown`].
    pub fn peek(&self) -> io::Result<Option<Exit>> {
        self.wait(libc::WNOWAIT)
    }

    /// How it ended, if it did; its number is free from now on.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        let exit = self.wait(0)?;
        self.reaped.set(exit.is_some());
        Ok(exit)
    }

    fn wait(&self, more: i32) -> io::Result<Option<Exit>> {
        if self.reaped.get() {
            return Ok(Some(Exit::Unknown));
        }
        match waitid(libc::P_PID, self.pid, more) {
            Ok(info) => Ok(info.map(|info| Exit::of(&info))),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                self.reaped.set(true);
                Ok(Some(Exit::Unknown))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to the process. False: it has ended.
    ///
    /// # Errors
    /// `EPERM`: it runs as a user that we may not signal. `EINVAL`: no such signal.
    pub fn send_signal(&self, signal: i32) -> io::Result<bool> {
        // One that ended keeps its number until we reap it, so nobody else can get the signal.
        if self.peek()?.is_some() {
            return Ok(false);
        }
        let pid = libc::pid_t::try_from(self.pid).map_err(|_| Errno::ESRCH)?;
        // SAFETY: two numbers.
        match Errno::result(unsafe { libc::kill(pid, signal) }) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a signal to its process group. False: nothing is left of it.
    ///
    /// # Errors
    /// As [`send_signal`](Self::send_signal). `Unsupported`: somebody else has reaped the process, so that nobody can say whose
    /// its number is now.
    pub fn signal_group(&self, signal: i32) -> io::Result<bool> {
        match self.peek()? {
            Some(Exit::Unknown) => Err(io::ErrorKind::Unsupported.into()),
            _ => super::kill_group(self.pid, signal),
        }
    }

    /// What identifies the process beside its pid: nothing here.
    pub fn inode(&self) -> Option<u64> {
        None
    }
}

/// What `LISTEN_PIDFDID` must say: nothing here.
pub fn own_inode() -> Option<u64> {
    None
}

//! A process that a test started: waited for with a deadline, and ended when it is dropped.

#![allow(unsafe_code, reason = "no safe call opens a pidfd")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use super::left;

/// A handle on a process: it names this process only, even when the pid is used again.
pub struct Handle(OwnedFd);

impl Handle {
    /// The process that has this pid now; `None` where none has.
    pub fn open(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        // SAFETY: takes numbers; the result is checked, and is a new fd.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            (fd >= 0).then(|| Self(OwnedFd::from_raw_fd(i32::try_from(fd).expect("fds are small"))))
        }
    }

    /// Sends a signal; nothing happens where the process is gone.
    pub fn signal(&self, signal: i32) {
        // SAFETY: an open pidfd, numbers, and no siginfo.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, 0, 0) };
    }

    /// Waits until the process has ended; false where it has not before `deadline`.
    pub fn wait(&self, deadline: Instant) -> bool {
        loop {
            let milliseconds = i32::try_from(left(deadline).as_millis()).unwrap_or(i32::MAX);
            let mut polled = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, and the pointer is to it.
            let result = unsafe { libc::poll(&raw mut polled, 1, milliseconds) };
            if result > 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }
}

/// Signals that whoever runs the tests may have ignored (`nohup`, a shell's `&`) have their default effect; with `on_terminal`,
/// standard input is its controlling terminal, in a session of its own.
pub fn settle(command: &mut Command, on_terminal: bool) {
    let settle = move || {
        // SAFETY: system calls that may be made between fork and exec, with numbers only.
        let done = unsafe {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(signal, libc::SIG_DFL);
            }
            !on_terminal || (libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) >= 0)
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: as above; it allocates nothing.
    unsafe { command.pre_exec(settle) };
}

/// A child process.
pub struct OwnedChild {
    child: Child,
    handle: Handle,
}

impl OwnedChild {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let handle = Handle::open(child.id()).expect("a child that nobody has waited for");
        Self { child, handle }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its pipes.
    pub fn inner(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.handle.signal(signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended; `None` where it has not before `deadline`.
    pub fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        self.handle.wait(deadline).then(|| self.child.wait().expect("our child"))
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

//! A worker's process, as far as signals are concerned.
//!
//! Two parts of the shell hold it: the loop, which signals, and the attendant, which reaps. A pid may only be
//! used while it cannot be another's, so who reaps says so here first.

use std::cell::Cell;
use std::io;

use crate::os::process::Pidfd;

const SIGKILL: i32 = 9;

/// See the module.
#[derive(Debug)]
pub(in crate::daemon) struct Process {
    pidfd: Pidfd,
    reaped: Cell<bool>,
}

impl Process {
    pub(in crate::daemon) fn new(pidfd: Pidfd) -> Self {
        Self { pidfd, reaped: Cell::new(false) }
    }

    pub(in crate::daemon) fn pid(&self) -> u32 {
        self.pidfd.pid()
    }

    pub(in crate::daemon) fn pidfd(&self) -> &Pidfd {
        &self.pidfd
    }

    /// Sends a signal to the main process. One that has ended gets none, and that is no error.
    pub(in crate::daemon) fn signal(&self, signal: i32) -> io::Result<()> {
        self.pidfd.send_signal(signal).map(drop)
    }

    /// Sends a signal to the whole process group.
    pub(in crate::daemon) fn signal_group(&self, signal: i32) -> io::Result<()> {
        if self.reaped.get() {
            return Ok(());
        }
        self.pidfd.signal_group(signal).map(drop)
    }

    /// Is it sure that nothing is left of its process group?
    pub(in crate::daemon) fn has_no_group(&self) -> bool {
        // A number that may be another's by now is not asked about.
        match self.pidfd.signal_group(0) {
            Ok(something) => !something,
            Err(error) => error.kind() == io::ErrorKind::Unsupported,
        }
    }

    /// Kills the whole process group.
    pub(in crate::daemon) fn kill(&self) -> io::Result<()> {
        // A process that left its own group would be missed by the group's signal; and where it may not be killed, its
        // children may be.
        let process = self.signal(SIGKILL);
        let group = self.signal_group(SIGKILL);
        process.and(group)
    }

    /// Gives the pid back.
    pub(in crate::daemon) fn reap(&self) -> io::Result<()> {
        self.reaped.set(true);
        self.pidfd.reap().map(drop)
    }
}

//! There is no process that closes fds for us on macOS: nothing tells there that a message carries fds before they are ours, and
//! no user can mount a file system of his own without an administrator's extension. See docs/macos.md.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::parent::Helper;
use crate::os::process::Pidfd;

/// See the other.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// See the other.
    Empty,
    /// See the other.
    Look(BorrowedFd<'a>, usize),
    /// See the other.
    Discard(BorrowedFd<'a>, usize),
}

/// See the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// See the other.
    Done,
    /// See the other.
    Harmful,
}

/// There is none.
#[derive(Debug)]
pub struct Closer(Pidfd);

impl Closer {
    /// # Errors
    /// Always.
    pub fn start(_helper: &Helper, _parked: BorrowedFd<'_>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives no answer.
    pub async fn ask(&self, _ask: Ask<'_>) -> Option<Answer> {
        None
    }

    /// Its process.
    pub fn into_process(self) -> Pidfd {
        self.0
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

/// Nobody orders this.
pub(super) fn serve(_channel: &mut UnixStream, _parked: &OwnedFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

//! Who waits on a socket: whether a process, or one that descends from it, is seen to take connections from it.
//!
//! On Linux `/proc` tells: the socket is in an epoll (`fdinfo`), a thread is in accept, poll or select with it
//! (`task/*/syscall`), or a connection of it is among the open files. What `/proc` cannot tell is an
//! [`Sight::obstacle`]: an io_uring, or a process whose files or system calls may not be read. macOS has nothing
//! that tells.
//!
//! A look may block for as long as the process that is looked at wants it to: the kernel takes locks of that process
//! (its epolls', its memory's, that of a running `execve`), and what it does with a file system of its own may hold
//! them. So a look belongs on a thread of its own, and is never made by the event loop. Each look is bounded:
//! so many processes, threads, open files and bytes, and no more.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;

use super::socket::{Kind, Local, facts};

#[cfg(target_os = "linux")]
mod calls_linux;
#[cfg(target_os = "linux")]
mod connections_linux;
#[cfg(target_os = "linux")]
mod look_linux;
#[cfg(target_os = "macos")]
mod look_macos;
#[cfg(target_os = "linux")]
mod tree_linux;

#[cfg(target_os = "linux")]
pub use look_linux::Looker;
#[cfg(target_os = "macos")]
pub use look_macos::Looker;

/// A socket that a worker was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Its number, as `/proc/PID/fd` shows it; on macOS 0.
    pub inode: u64,
    /// The file system that this is a number of, as `stat(2)` gives it.
    pub device: u64,
    /// Nobody accepts on a datagram socket: a thread waits in one of the calls that receive.
    pub is_datagram: bool,
    /// Where it is bound, for finding its connections.
    pub local: Local,
}

impl Awaited {
    /// Asks the socket.
    ///
    /// # Errors
    /// `ENOTSOCK`, and any of `fstat(2)` and `getsockname(2)`.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let facts = facts(&socket)?;
        let device = fstat(&socket)?.st_dev;
        Ok(Self {
            inode: facts.inode,
            #[cfg(target_os = "linux")]
            device,
            #[cfg(target_os = "macos")]
            device: u64::from(device.unsigned_abs()),
            is_datagram: facts.kind == Kind::Datagram,
            local: facts.local,
        })
    }
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Target {
    /// The process that was started; it leads its session and its process group.
    pub leader: u32,
    /// What it is to wait on.
    pub sockets: Vec<Awaited>,
    /// Inodes of other sockets that it was started with: connections among them are not its own.
    pub inherited: BTreeSet<u64>,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// For each socket of the target: a process waits on it.
    pub waited_on: Vec<bool>,
    /// Why those that are not seen to be waited on may be all the same; for a person.
    pub obstacle: Option<String>,
}

impl Sight {
    /// Every socket is waited on.
    pub fn is_complete(&self) -> bool {
        self.waited_on.iter().all(|seen| *seen)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

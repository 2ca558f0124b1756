//! Watching an fd from tokio's reactor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers an fd for reading with the current runtime. What it refers to is not made nonblocking.
///
/// # Errors
/// Any of `epoll_ctl(2)`.
///
/// # Panics
/// Outside of a runtime with I/O.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its fd, open and under one number, until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}

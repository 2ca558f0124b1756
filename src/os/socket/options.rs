//! Socket options that no library sets: `tcp(7)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::Backlog;

/// `TCP_DEFER_ACCEPT`: wake the owner when data has come, at most so long (whole seconds, at least one)
/// after the handshake; `None`: off. Linux only.
///
/// # Errors
/// Any of `setsockopt(2)`; `Unsupported` elsewhere.
#[cfg(target_os = "linux")]
pub fn set_defer_accept(socket: impl AsFd, within: Option<Duration>) -> io::Result<()> {
    let seconds = within.map_or(0, |within| i32::try_from(within.as_secs().max(1)).unwrap_or(i32::MAX));
    set_tcp(socket, libc::TCP_DEFER_ACCEPT, seconds)
}

/// See the other.
#[cfg(not(target_os = "linux"))]
pub fn set_defer_accept(_socket: impl AsFd, _within: Option<Duration>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `TCP_FASTOPEN`: the length of the queue of requests.
///
/// # Errors
/// Any of `setsockopt(2)`.
pub fn set_fast_open(socket: impl AsFd, queue: u32) -> io::Result<()> {
    set_tcp(socket, libc::TCP_FASTOPEN, i32::try_from(queue).unwrap_or(i32::MAX))
}

fn set_tcp(socket: impl AsFd, option: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the value is an int and outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    Errno::result(done)?;
    Ok(())
}

/// `listen(2)`; on a socket that listens already it only changes the length of the queue.
///
/// # Errors
/// Any of `listen(2)`.
pub fn listen(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // nix refuses more than SOMAXCONN was at compile time; the kernel itself caps at net.core.somaxconn.
    match Backlog::new(backlog) {
        Ok(backlog) => Ok(nix::sys::socket::listen(&socket, backlog)?),
        // SAFETY: two numbers, the first of an open fd.
        Err(_) => Ok(Errno::result(unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) }).map(drop)?),
    }
}

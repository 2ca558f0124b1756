//! Socket options that no library sets: `tcp(7)`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::Backlog;
use socket2::{Domain, SockRef, Socket};

/// `TCP_DEFER_ACCEPT`: wake the owner when data has come, at most so long (whole seconds, at least one)
/// after the handshake; `None`: off.
///
/// # Errors
/// Any of `setsockopt(2)`; `Unsupported` on macOS, which has no such option.
#[cfg(target_os = "linux")]
pub fn set_defer_accept(socket: impl AsFd, within: Option<Duration>) -> io::Result<()> {
    let seconds = within.map_or(0, |within| i32::try_from(within.as_secs().max(1)).unwrap_or(i32::MAX));
    set_tcp(socket, libc::TCP_DEFER_ACCEPT, seconds)
}

/// See the other.
#[cfg(target_os = "macos")]
pub fn set_defer_accept(_socket: impl AsFd, within: Option<Duration>) -> io::Result<()> {
    within.map_or(Ok(()), |_| Err(io::ErrorKind::Unsupported.into()))
}

/// `TCP_FASTOPEN`: the length of the queue of requests; 0: off. On macOS it is on or off, and
/// `net.inet.tcp.fastopen_backlog` says how long the queue is.
///
/// # Errors
/// Any of `setsockopt(2)`.
pub fn set_fast_open(socket: impl AsFd, queue: u32) -> io::Result<()> {
    let most = if cfg!(target_os = "macos") { 1 } else { i32::MAX };
    set_tcp(socket, libc::TCP_FASTOPEN, i32::try_from(queue).map_or(most, |queue| queue.min(most)))
}

/// What [`set_fast_open`] has set.
/// Has the kernel refuse fds to whoever sends some to this Unix socket, or to a connection that it accepts: `SO_PASSRIGHTS`
/// (Linux 6.16). False: it cannot.
pub fn refuse_fds(socket: impl AsFd) -> bool {
    /// `asm-generic/socket.h`
    #[cfg(target_os = "linux")]
    const SO_PASSRIGHTS: libc::c_int = 83;
    #[cfg(target_os = "linux")]
    {
        let off: libc::c_int = 0;
        let bytes = libc::socklen_t::try_from(size_of_val(&off)).unwrap_or(4);
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the value is ours and alive for the call.
        let done =
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), bytes) };
        done == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        false
    }
}

#[cfg(test)]
pub(crate) fn fast_open(socket: impl AsFd) -> io::Result<i32> {
    let mut value: i32 = 0;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the value is an int, and outlives the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    Errno::result(done)?;
    Ok(value)
}

/// Lets a socket be bound to an address that this machine has not (yet): `IP_FREEBIND`.
///
/// # Errors
/// Any of `setsockopt(2)`; `Unsupported` on macOS, which has no such option.
#[cfg(target_os = "linux")]
pub fn set_free_bind(socket: &Socket, at: SocketAddr) -> io::Result<()> {
    match at {
        SocketAddr::V4(_) => socket.set_freebind_v4(true),
        SocketAddr::V6(_) => socket.set_freebind_v6(true),
    }
}

/// See the other.
#[cfg(target_os = "macos")]
pub fn set_free_bind(_socket: &Socket, _at: SocketAddr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Ties a socket to a network interface: `SO_BINDTODEVICE`, on macOS `IP_BOUND_IF`; `None`: to all of them again.
///
/// # Errors
/// Any of `setsockopt(2)`; `ENODEV`: there is no such interface.
#[cfg(target_os = "linux")]
pub fn set_device(socket: &SockRef<'_>, _family: Domain, device: Option<&str>) -> io::Result<()> {
    socket.bind_device(device.map(str::as_bytes))
}

/// See the other.
#[cfg(target_os = "macos")]
pub fn set_device(socket: &SockRef<'_>, family: Domain, device: Option<&str>) -> io::Result<()> {
    let index = device.map(interface).transpose()?;
    match family {
        Domain::IPV6 => socket.bind_device_by_index_v6(index),
        _ => socket.bind_device_by_index_v4(index),
    }
}

#[cfg(target_os = "macos")]
fn interface(name: &str) -> io::Result<std::num::NonZeroU32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the name ends in a NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    std::num::NonZeroU32::new(index).ok_or_else(|| Errno::ENODEV.into())
}

/// `SO_MARK` of what the socket sends.
///
/// # Errors
/// Any of `setsockopt(2)`; `Unsupported` on macOS, which has no such option.
#[cfg(target_os = "linux")]
pub fn set_mark(socket: &SockRef<'_>, mark: u32) -> io::Result<()> {
    socket.set_mark(mark)
}

/// See the other.
#[cfg(target_os = "macos")]
pub fn set_mark(_socket: &SockRef<'_>, _mark: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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

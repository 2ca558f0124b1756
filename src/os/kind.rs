//! What an fd is, as far as a program has to know before it uses it as a socket: `socket(7)`, `getsockname(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How a socket is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 or IPv6.
    Ip,
    /// Unix.
    Unix,
    /// Something else, `vsock(7)` for instance.
    Other,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A stream of bytes.
    Stream,
    /// Datagrams.
    Datagram,
    /// Packets in their order.
    Seqpacket,
    /// Something else.
    Other,
}

/// What a socket is.
///
/// # Errors
/// `ENOTSOCK` where the fd is no socket.
pub fn kind(fd: BorrowedFd<'_>) -> io::Result<(Family, Type)> {
    let carried = match option(fd, libc::SO_TYPE)? {
        libc::SOCK_STREAM => Type::Stream,
        libc::SOCK_DGRAM => Type::Datagram,
        libc::SOCK_SEQPACKET => Type::Seqpacket,
        _ => Type::Other,
    };
    let family = match family(fd)? {
        libc::AF_INET | libc::AF_INET6 => Family::Ip,
        libc::AF_UNIX => Family::Unix,
        _ => Family::Other,
    };
    Ok((family, carried))
}

/// Whether it listens (`SO_ACCEPTCONN`).
#[cfg(all(feature = "supervisor", target_os = "linux"))]
pub(super) fn listens(fd: BorrowedFd<'_>) -> bool {
    option(fd, libc::SO_ACCEPTCONN).is_ok_and(|value| value != 0)
}

/// `SO_DOMAIN`, which takes no lock: `getsockname(2)` waits for whoever sends through the socket, for as long as the memory that he
/// sends takes to come.
#[cfg(target_os = "linux")]
fn family(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    option(fd, libc::SO_DOMAIN)
}

/// There is no such option.
#[cfg(not(target_os = "linux"))]
fn family(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: all bytes zero are a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the buffer has `bytes` bytes; the kernel writes no more.
    let done = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut bytes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::from(address.ss_family))
}

/// Whether its file description is nonblocking (`O_NONBLOCK`). That belongs to all processes that share the description.
///
/// # Errors
/// Any of `fcntl(2)`.
pub fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETFL only asks.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags & libc::O_NONBLOCK != 0) }
}

fn option(fd: BorrowedFd<'_>, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut bytes = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    // SAFETY: the buffer has `bytes` bytes; the kernel writes no more.
    let done = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut bytes)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn sockets_are_told_from_each_other() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(kind(tcp.as_fd()).unwrap(), (Family::Ip, Type::Stream));
        assert!(!is_nonblocking(tcp.as_fd()).unwrap());
        tcp.set_nonblocking(true).unwrap();
        assert!(is_nonblocking(tcp.as_fd()).unwrap());
        let (unix, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert_eq!(kind(unix.as_fd()).unwrap(), (Family::Unix, Type::Datagram));
        assert_eq!(kind(std::io::stdin().as_fd()).map_err(|_| ()), Err(()));
    }
}

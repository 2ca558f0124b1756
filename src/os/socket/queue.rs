//! How many connections wait to be accepted, and how many may: on Linux `TCP_INFO` of a listener, and
//! `NETLINK_SOCK_DIAG` for Unix sockets (`sock_diag(7)`); on macOS `proc_pidfdinfo` for both.

use std::io;
use std::os::fd::AsFd;

use super::facts::{Facts, Family, Kind};

/// The accept queue of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait.
    pub waiting: u32,
    /// How many may.
    pub limit: u32,
    /// It was shut down: a Unix socket still counts as listening then, and refuses everybody. (A TCP socket
    /// no longer listens.)
    pub shut: bool,
}

/// The accept queue of a listening socket; `None` where there is none, or the kernel does not say.
pub fn accept_queue(socket: impl AsFd, facts: &Facts) -> Option<Queue> {
    if !facts.listening {
        return None;
    }
    match (facts.family, facts.kind) {
        (Family::Inet, Kind::Stream) => imp::tcp(socket).ok(),
        (Family::Unix, _) => imp::unix(socket, facts.inode).ok().flatten(),
        _ => None,
    }
}

#[cfg(target_os = "macos")]
mod imp {
    use super::{AsFd, Queue, io};
    use crate::os::socket::info_macos::info;

    /// From `sys/proc_info.h`.
    const SOI_S_CANTRCVMORE: i16 = 0x20;

    pub(super) fn tcp(socket: impl AsFd) -> io::Result<Queue> {
        let info = info(socket)?;
        let number = |length: i16| u32::from(length.cast_unsigned());
        let waiting = number(info.queued).saturating_sub(number(info.incomplete));
        let shut = info.state & SOI_S_CANTRCVMORE != 0;
        Ok(Queue { waiting, limit: number(info.queue_limit), shut })
    }

    pub(super) fn unix(socket: impl AsFd, _inode: u64) -> io::Result<Option<Queue>> {
        tcp(socket).map(Some)
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;
    use socket2::{Domain, Protocol, Socket, Type};

    use super::{AsFd, Queue, io};

    /// For a listener the kernel puts the queue into two fields that mean something else for connections
    /// (`tcp_get_info` in net/ipv4/tcp.c).
    pub(super) fn tcp(socket: impl AsFd) -> io::Result<Queue> {
        // SAFETY: all bytes zero are a valid tcp_info: it holds numbers only.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = libc::socklen_t::try_from(size_of_val(&info)).map_err(|_| io::ErrorKind::Other)?;
        // SAFETY: the buffer has `length` bytes and outlives the call.
        let done = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        Errno::result(done)?;
        Ok(Queue { waiting: info.tcpi_unacked, limit: info.tcpi_sacked, shut: false })
    }

    // From include/uapi/linux/{netlink,sock_diag,unix_diag}.h.
    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const UDIAG_SHOW_RQLEN: u32 = 0x10;
    const UNIX_DIAG_RQLEN: u16 = 4;
    const UNIX_DIAG_SHUTDOWN: u16 = 6;
    const HEADER: usize = 16;
    const REPLY: usize = 16;

    /// Asks the kernel for one Unix socket by its inode.
    pub(super) fn unix(_socket: impl AsFd, inode: u64) -> io::Result<Option<Queue>> {
        let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidInput)?;
        let protocol = Protocol::from(NETLINK_SOCK_DIAG);
        let mut socket =
            Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW.nonblocking(), Some(protocol))?;
        socket.send(&request(inode))?;
        let mut answer = [0; 512];
        let length = socket.read(&mut answer)?;
        Ok(queue_in(&answer[..length]))
    }

    fn request(inode: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 24);
        bytes.extend(40_u32.to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend(NLM_F_REQUEST.to_ne_bytes());
        bytes.extend([0; 8]);
        // struct unix_diag_req: family, protocol, padding, states, inode, what to show, no cookie.
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(u32::MAX.to_ne_bytes());
        bytes.extend(inode.to_ne_bytes());
        bytes.extend(UDIAG_SHOW_RQLEN.to_ne_bytes());
        bytes.extend([0xff; 8]);
        bytes
    }

    /// Finds the attributes among those that follow the reply.
    fn queue_in(answer: &[u8]) -> Option<Queue> {
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        let mut rest = answer.get(HEADER + REPLY..).filter(|_| kind == SOCK_DIAG_BY_FAMILY)?;
        let (mut lengths, mut shut) = (None, false);
        while rest.len() >= 4 {
            let length = usize::from(u16::from_ne_bytes(rest[..2].try_into().ok()?));
            let name = u16::from_ne_bytes(rest[2..4].try_into().ok()?);
            let value = rest.get(4..length)?;
            let number = |at: usize| Some(u32::from_ne_bytes(value.get(at..at + 4)?.try_into().ok()?));
            match name {
                UNIX_DIAG_RQLEN => lengths = number(0).zip(number(4)),
                UNIX_DIAG_SHUTDOWN => shut = value.first().is_some_and(|how| *how != 0),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        lengths.map(|(waiting, limit)| Queue { waiting, limit, shut })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::super::facts::facts;
    use super::super::options::listen;
    use super::*;

    #[test]
    fn the_queue_of_a_tcp_listener_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listen(&listener, 7).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let queue = accept_queue(&listener, &facts(&listener).unwrap());
        assert_eq!(queue, Some(Queue { waiting: 1, limit: 7, shut: false }));
    }

    #[test]
    fn the_queue_of_a_unix_listener_is_counted() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listen(&listener, 9).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let queue = accept_queue(&listener, &facts(&listener).unwrap());
        assert_eq!(queue, Some(Queue { waiting: 1, limit: 9, shut: false }));
    }

    #[test]
    fn a_datagram_socket_has_no_queue_of_connections() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(accept_queue(&socket, &facts(&socket).unwrap()), None);
    }
}

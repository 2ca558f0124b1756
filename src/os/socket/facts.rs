//! What a socket is: `socket(7)`, `getsockname(2)`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use socket2::{Domain, SockAddr, SockRef, Type};

/// `SO_TYPE`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
    /// `SOCK_SEQPACKET`
    SeqPacket,
    /// Anything else.
    Other,
}

/// `SO_DOMAIN`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 or IPv6.
    Inet,
    /// Unix.
    Unix,
    /// Anything else.
    Other,
}

/// The local address of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Of IPv4 or IPv6.
    Inet(SocketAddr),
    /// A file.
    Path(PathBuf),
    /// A name in the abstract namespace, as bytes, without the NUL in front.
    Abstract(Vec<u8>),
    /// None, or one of another family.
    Other,
}

/// What a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its kind.
    pub kind: Kind,
    /// Its family.
    pub family: Family,
    /// Where it is bound.
    pub local: Local,
    /// It accepts connections (`SO_ACCEPTCONN`).
    pub listening: bool,
    /// An IPv6 socket that takes no IPv4 connections.
    pub v6only: bool,
    /// `O_NONBLOCK` of the description, which all its holders share.
    pub nonblocking: bool,
    /// The number of the socket, as `ss -e` and `/proc/PID/fd` show it; on macOS 0.
    pub inode: u64,
}

/// Asks a socket what it is.
///
/// # Errors
/// `ENOTSOCK` where it is none.
pub fn facts(socket: impl AsFd) -> io::Result<Facts> {
    let asked = SockRef::from(&socket);
    let local = asked.local_addr()?;
    let kind = match asked.r#type()? {
        Type::STREAM => Kind::Stream,
        Type::DGRAM => Kind::Datagram,
        Type::SEQPACKET => Kind::SeqPacket,
        _ => Kind::Other,
    };
    let family = match local.domain() {
        Domain::IPV4 | Domain::IPV6 => Family::Inet,
        Domain::UNIX => Family::Unix,
        _ => Family::Other,
    };
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    Ok(Facts {
        kind,
        family,
        // Datagram sockets do not know the question on every system.
        listening: accepts(&socket).unwrap_or(false),
        v6only: local.is_ipv6() && asked.only_v6()?,
        local: local_of(&local),
        nonblocking: flags.contains(OFlag::O_NONBLOCK),
        inode: nix::sys::stat::fstat(&socket)?.st_ino,
    })
}

/// `SO_ACCEPTCONN`, which socket2 does not ask for on macOS.
fn accepts(socket: impl AsFd) -> io::Result<bool> {
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(4);
    // SAFETY: the buffer has `length` bytes and outlives the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    Errno::result(done)?;
    Ok(value != 0)
}

fn local_of(address: &SockAddr) -> Local {
    if let Some(address) = address.as_socket() {
        Local::Inet(address)
    } else if let Some(path) = address.as_pathname() {
        Local::Path(path.to_owned())
    } else if let Some(name) = address.as_abstract_namespace() {
        Local::Abstract(name.to_owned())
    } else {
        Local::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_says_what_it_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = facts(&listener).unwrap();
        assert_eq!((found.kind, found.family, found.listening), (Kind::Stream, Family::Inet, true));
        assert_eq!(found.local, Local::Inet(listener.local_addr().unwrap()));
        assert!(!found.nonblocking && found.inode > 0);
        listener.set_nonblocking(true).unwrap();
        assert!(facts(&listener).unwrap().nonblocking);
    }

    #[test]
    fn a_file_is_no_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(facts(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }
}

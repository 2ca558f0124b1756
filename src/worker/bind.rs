//! Addresses, and binding them where nobody passed a socket.
//!
//! The forms are those of the configuration (`docs/listeners.md`), so that one line of a program works in each surrounding.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use super::error::Error;

/// An address that can be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(Name),
    UnixDatagram(Name),
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Path(PathBuf),
    Abstract(String),
}

impl Place {
    /// Reads `tcp://`, `udp://`, `unix://`, `unix-dgram://`, `unix:@name` and the like, or `HOST:PORT` for TCP.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Address(text.to_owned());
        let ip = |rest: &str| rest.parse::<SocketAddr>().map_err(|_| wrong());
        if let Some(rest) = text.strip_prefix("tcp://") {
            return ip(rest).map(Self::Tcp);
        }
        if let Some(rest) = text.strip_prefix("udp://") {
            return ip(rest).map(Self::Udp);
        }
        let (kind, rest): (fn(Name) -> Self, _) = match text.split_once(':') {
            Some(("unix", rest)) => (Self::Unix, rest),
            Some(("unix-dgram", rest)) => (Self::UnixDatagram, rest),
            _ => return ip(text).map(Self::Tcp),
        };
        match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => Ok(kind(Name::Path(path.into()))),
            _ => match rest.strip_prefix('@').filter(|name| !name.is_empty()) {
                Some(name) => Ok(kind(Name::Abstract(name.to_owned()))),
                None => Err(wrong()),
            },
        }
    }

    /// Binds it, close-on-exec. A file that a dead program left is replaced, one that answers is left alone.
    pub(super) fn bind(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(address) => TcpListener::bind(address).map(OwnedFd::from),
            Self::Udp(address) => UdpSocket::bind(address).map(OwnedFd::from),
            Self::Unix(name) => {
                let at = name.address()?;
                retry(name, || UnixListener::bind_addr(&at).map(OwnedFd::from))
            }
            Self::UnixDatagram(name) => {
                let at = name.address()?;
                retry(name, || UnixDatagram::bind_addr(&at).map(OwnedFd::from))
            }
        }
    }
}

impl Name {
    fn address(&self) -> io::Result<UnixAddr> {
        match self {
            Self::Path(path) => UnixAddr::from_pathname(path),
            #[cfg(target_os = "linux")]
            Self::Abstract(name) => {
                <UnixAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
            }
            #[cfg(not(target_os = "linux"))]
            Self::Abstract(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether a socket has this name.
    pub(super) fn is(&self, bound: &UnixAddr) -> bool {
        match self {
            Self::Path(path) => bound.as_pathname() == Some(path),
            #[cfg(target_os = "linux")]
            Self::Abstract(name) => {
                std::os::linux::net::SocketAddrExt::as_abstract_name(bound) == Some(name.as_bytes())
            }
            #[cfg(not(target_os = "linux"))]
            Self::Abstract(_) => false,
        }
    }

    /// Whether there is a socket file that nobody answers behind.
    fn is_stale(&self) -> bool {
        let Self::Path(path) = self else { return false };
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        let refuses = |tried: io::Result<()>| {
            tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        let datagram = || UnixDatagram::unbound().and_then(|socket| socket.connect(path));
        is_socket && refuses(UnixStream::connect(path).map(drop)) && refuses(datagram())
    }
}

fn retry(name: &Name, bind: impl Fn() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && name.is_stale() => {
            if let Name::Path(path) = name {
                fs::remove_file(path)?;
            }
            bind()
        }
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_in_the_configuration() {
        let ip = "127.0.0.1:80".parse().unwrap();
        let path = || Name::Path("/run/x".into());
        let table = [
            ("127.0.0.1:80", Some(Place::Tcp(ip))),
            ("tcp://127.0.0.1:80", Some(Place::Tcp(ip))),
            ("udp://127.0.0.1:80", Some(Place::Udp(ip))),
            ("tcp://[::1]:80", Some(Place::Tcp("[::1]:80".parse().unwrap()))),
            ("unix:///run/x", Some(Place::Unix(path()))),
            ("unix-dgram:///run/x", Some(Place::UnixDatagram(path()))),
            ("unix:@x", Some(Place::Unix(Name::Abstract("x".into())))),
            ("unix:@", None),
            ("unix://run/x", None),
            ("localhost:80", None),
            ("tcp://127.0.0.1", None),
            ("", None),
        ];
        for (text, place) in table {
            assert_eq!(Place::parse(text).ok(), place, "{text}");
        }
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_living_one_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for kind in ["unix", "unix-dgram"] {
            let place = Place::parse(&format!("{kind}://{}/{kind}", directory.path().display())).unwrap();
            let living = place.bind().unwrap();
            assert_eq!(place.bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(living);
            place.bind().unwrap();
        }
    }
}

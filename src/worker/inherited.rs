//! The sockets and other fds that came with the start, by name, each given away once.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::bind::Place;

/// What was passed and not taken yet.
#[derive(Debug)]
pub(super) struct Inherited {
    left: Mutex<Vec<(String, OwnedFd)>>,
    /// Whether there was one alone, without a name of its own.
    is_one_nameless: bool,
}

impl Inherited {
    pub(super) fn new(passed: Vec<(String, OwnedFd)>) -> Self {
        let is_one_nameless = matches!(&passed[..], [(name, _)] if is_nameless(name));
        Self { left: Mutex::new(passed), is_one_nameless }
    }

    /// All of this name.
    pub(super) fn take(&self, name: &str) -> Vec<OwnedFd> {
        self.take_where(|passed, _| passed == name)
    }

    /// All that bear no name of their own and are bound to `place`; the only one that was passed, wherever it is bound.
    pub(super) fn take_nameless(&self, place: Option<&Place>) -> Vec<OwnedFd> {
        self.take_where(|passed, fd| {
            is_nameless(passed) && (self.is_one_nameless || place.is_some_and(|place| is_bound_to(fd, place)))
        })
    }

    fn take_where(&self, wanted: impl Fn(&str, &OwnedFd) -> bool) -> Vec<OwnedFd> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, kept) = left.drain(..).partition(|(name, fd)| wanted(name, fd));
        *left = kept;
        taken.into_iter().map(|(_, fd)| fd).collect()
    }
}

/// Names that nobody gave: what systemd says without `FileDescriptorName=`, the name of the socket unit, and `systemd-socket-activate`'s.
fn is_nameless(name: &str) -> bool {
    name.is_empty() || name == "unknown" || name.starts_with("LISTEN_FD_") || name.ends_with(".socket")
}

fn is_bound_to(fd: &OwnedFd, place: &Place) -> bool {
    let Ok(copy) = fd.as_fd().try_clone_to_owned() else { return false };
    match place {
        Place::Tcp(address) => bound_ip(copy).is_some_and(|bound| bound == *address),
        Place::Udp(address) => {
            std::net::UdpSocket::from(copy).local_addr().is_ok_and(|bound| bound == *address)
        }
        Place::Unix(name) | Place::UnixDatagram(name) => {
            let bound = std::os::unix::net::UnixDatagram::from(copy).local_addr();
            bound.is_ok_and(|bound| name.is(&bound))
        }
    }
}

fn bound_ip(fd: OwnedFd) -> Option<SocketAddr> {
    std::net::TcpListener::from(fd).local_addr().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn names_come_first_and_each_is_given_once() {
        let fd = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let passed = vec![("http".to_owned(), fd()), ("http".to_owned(), fd()), ("admin".to_owned(), fd())];
        let inherited = Inherited::new(passed);
        assert_eq!(inherited.take("http").len(), 2);
        assert!(inherited.take("http").is_empty());
        assert!(inherited.take_nameless(None).is_empty(), "admin has a name");
        assert_eq!(inherited.take("admin").len(), 1);
    }

    #[test]
    fn the_nameless_are_found_by_their_address_or_because_there_is_one() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::Tcp(tcp.local_addr().unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inherited = Inherited::new(vec![("unknown".into(), tcp.into()), ("unknown".into(), udp.into())]);
        assert!(inherited.take_nameless(None).is_empty());
        assert_eq!(inherited.take_nameless(Some(&place)).len(), 1);
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let inherited = Inherited::new(vec![("myapp.socket".into(), one.into())]);
        assert_eq!(inherited.take_nameless(None).len(), 1);
    }
}

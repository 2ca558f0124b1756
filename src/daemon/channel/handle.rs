//! What Node can make of an fd: it has to be told beforehand.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::daemon::fds::quota::Fd;
use crate::os::socket::{self, Kind, Local};
use crate::wire::node::Handle;

/// What the fd is for Node; `None`: nothing.
pub(super) fn handle(fd: &Fd) -> Option<Handle> {
    let facts = socket::facts(fd.as_fd()).ok()?;
    match (facts.kind, facts.local) {
        (Kind::Stream, _) if facts.listening => Some(Handle::Server),
        (Kind::Stream, _) => Some(Handle::Socket),
        (Kind::Datagram, Local::Inet(SocketAddr::V4(_))) => Some(Handle::Datagram4),
        (Kind::Datagram, Local::Inet(SocketAddr::V6(_))) => Some(Handle::Datagram6),
        _ => None,
    }
}

//! A socket that a service manager passed to us, whichever it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::error::BindError;
use super::plan::Offer;
use crate::config::model::{Address, UnixKind, UnixName};
use crate::os::socket::{self, Facts, Kind, Local};
use crate::os::{fd, words};

/// A socket that was passed to us.
#[derive(Debug)]
pub struct Inherited {
    /// It.
    pub socket: OwnedFd,
    /// What the plan needs to know.
    pub offer: Offer,
    /// What it is.
    pub facts: Facts,
}

impl Inherited {
    /// A socket that is given with the name of its listener, by a program that made it itself.
    ///
    /// # Errors
    /// Where it is no socket.
    pub fn given(name: String, socket: OwnedFd) -> Result<Self, BindError> {
        let given = |error: io::Error| BindError::Given(words(&error));
        let facts = socket::facts(socket.as_fd()).map_err(given)?;
        fd::set_close_on_exec(socket.as_raw_fd(), true).map_err(given)?;
        Ok(Self::new(name, socket, facts))
    }

    /// A socket with the name under which it was passed.
    pub(super) fn new(name: String, socket: OwnedFd, facts: Facts) -> Self {
        let offer = Offer {
            name,
            address: address_of(&facts),
            v6only: facts.v6only,
            listening: facts.listening || facts.kind == Kind::Datagram,
        };
        Self { socket, offer, facts }
    }
}

/// The address as the configuration would write it.
fn address_of(facts: &Facts) -> Option<Address> {
    let name = match &facts.local {
        Local::Inet(address) => {
            return match facts.kind {
                Kind::Stream => Some(Address::Tcp(*address)),
                Kind::Datagram => Some(Address::Udp(*address)),
                _ => None,
            };
        }
        Local::Path(path) => UnixName::Path(path.clone()),
        Local::Abstract(name) => UnixName::Abstract(String::from_utf8(name.clone()).ok()?),
        Local::Other => return None,
    };
    let kind = match facts.kind {
        Kind::Stream => UnixKind::Stream,
        Kind::Datagram => UnixKind::Datagram,
        Kind::SeqPacket => UnixKind::SeqPacket,
        Kind::Other => return None,
    };
    Some(Address::Unix(kind, name))
}

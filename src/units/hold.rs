//! What systemd can hold of a listener: `systemd.socket(5)` against our keys.

use std::net::SocketAddr;

use super::value;
use crate::config::model::{Address, Listener, SocketOptions, UnixKind, UnixName};
use crate::id::ListenerName;

/// A listener that systemd holds.
pub(super) struct Held<'a> {
    /// The name of its unit.
    pub(super) unit: String,
    pub(super) name: &'a ListenerName,
    pub(super) address: &'a Address,
    pub(super) options: &'a SocketOptions,
    /// systemd changes its owner; not a user's own, which may not.
    pub(super) owned: bool,
}

/// The address, and a note for each option that systemd cannot set.
///
/// # Errors
/// A note: why systemd cannot hold it.
pub(super) fn hold<'a>(
    name: &ListenerName,
    listener: &'a Listener,
    user: bool,
) -> Result<(&'a Address, Vec<String>), String> {
    let Some(address) = &listener.address else {
        return Err(format!(
            "listener {name} has no address: write its socket unit yourself, with Service= naming this service and \
             FileDescriptorName={name}"
        ));
    };
    let left = |why: &str| Err(format!("listener {name} is bound by handover, not by systemd: {why}"));
    match address {
        Address::Tcp(at) | Address::Udp(at) if at.port() == 0 => left("systemd knows no port 0"),
        Address::Unix(_, UnixName::Path(path)) if !path.to_str().is_some_and(value::is_plain) => {
            left("its path cannot stand in a unit")
        }
        Address::Unix(_, UnixName::Abstract(at)) if !value::is_plain(at) => {
            left("its name cannot stand in a unit")
        }
        _ if !value::is_plain(name.as_str()) => left("its name cannot stand in a unit"),
        _ => Ok((address, unset(name, &listener.options, user))),
    }
}

/// Whether a socket's file is to belong to somebody. Other sockets belong to nobody.
pub(super) fn has_owner(address: &Address, options: &SocketOptions) -> bool {
    matches!(address, Address::Unix(_, UnixName::Path(_)))
        && (options.user.is_some() || options.group.is_some())
}

/// Options that systemd has no setting for. The socket is worth more than they are.
fn unset(name: &ListenerName, options: &SocketOptions, user: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |key: &str, why: &str| notes.push(format!("listener {name}: {key} is not set: {why}"));
    if options.fast_open.is_some() {
        note("fast_open", "systemd has no such option");
    }
    if options.mark.is_some_and(|mark| i32::try_from(mark).is_err()) {
        note("mark", "systemd takes marks up to 2147483647");
    }
    for (key, given) in [
        ("device", options.device.as_deref()),
        ("socket_user", options.user.as_ref().map(|user| user.name.as_str())),
        ("socket_group", options.group.as_ref().map(|group| group.name.as_str())),
    ] {
        if given.is_some_and(|text| !value::is_plain(text)) {
            note(key, "it cannot stand in a unit");
        }
    }
    let owner = [("socket_user", options.user.is_some()), ("socket_group", options.group.is_some())];
    for (key, _) in owner.into_iter().filter(|(_, is_given)| user && *is_given) {
        notes.push(format!("listener {name}: {key} is not set: only root gives a socket to somebody"));
    }
    notes
}

/// `ListenStream=…` and the like.
pub(super) fn listen(address: &Address) -> String {
    let (kind, at) = match address {
        Address::Tcp(at) => ("Stream", inet(*at)),
        Address::Udp(at) => ("Datagram", inet(*at)),
        Address::Unix(kind, name) => {
            let kind = match kind {
                UnixKind::Stream => "Stream",
                UnixKind::Datagram => "Datagram",
                UnixKind::SeqPacket => "SequentialPacket",
            };
            let at = match name {
                UnixName::Path(path) => path.to_string_lossy().into_owned(),
                UnixName::Abstract(name) => format!("@{name}"),
            };
            (kind, at)
        }
    };
    format!("Listen{kind}={}\n", value::percent(&at))
}

/// An interface stands behind the port in a unit, not behind the address.
fn inet(at: SocketAddr) -> String {
    match at {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("[{}]:{}%{}", v6.ip(), v6.port(), v6.scope_id()),
        _ => at.to_string(),
    }
}

//! The entries of `Sockets`: what launchd can hold of a listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Job;
use super::list::{List, is_plain};
use crate::config::model::{Address, Listener, SocketOptions, UnixKind, UnixName};
use crate::id::ListenerName;

/// The mode of a Unix socket's file, as where handover binds it.
const DEFAULT_MODE: u32 = 0o666;
/// The longest path of a Unix socket on macOS in bytes (`sun_path` of `unix(4)` less the closing NUL).
const PATH_MAX: usize = 103;

/// A listener that launchd holds.
pub(super) struct Held<'a> {
    name: &'a ListenerName,
    sockets: Vec<Socket>,
}

/// A dictionary under the listener's name.
enum Socket {
    Inet { node: String, family: &'static str, port: u16, kind: &'static str },
    Unix { path: String, kind: &'static str, mode: u32, owner: Option<u32>, group: Option<u32> },
}

/// What launchd can hold; the rest is noted.
pub(super) fn of<'a>(job: &Job<'a>, notes: &mut Vec<String>) -> Vec<Held<'a>> {
    let mut held = Vec::new();
    for (name, listener) in &job.config.listeners {
        match hold(name, listener, job, notes) {
            Ok(sockets) => held.push(Held { name, sockets }),
            Err(note) => notes.push(note),
        }
    }
    held
}

/// The sockets of a listener, and a note for each option that launchd cannot set.
///
/// # Errors
/// A note: why launchd cannot hold it.
fn hold(
    name: &ListenerName,
    listener: &Listener,
    job: &Job<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<Socket>, String> {
    let left = |why: &str| Err(format!("listener {name} is bound by handover, not by launchd: {why}"));
    let absent = |what: &str| {
        Err(format!(
            "listener {name} is left out, and handover refuses it there: macOS has no {what} sockets"
        ))
    };
    let options = &listener.options;
    let sockets = match &listener.address {
        None => {
            return Err(format!(
                "listener {name} has no address: write its entry in Sockets yourself, under this name"
            ));
        }
        Some(Address::Unix(UnixKind::SeqPacket, _)) => return absent("unix-seqpacket"),
        Some(Address::Unix(_, UnixName::Abstract(_))) => return absent("abstract"),
        Some(Address::Tcp(at) | Address::Udp(at)) if at.port() == 0 => {
            return left("launchd knows no port 0");
        }
        Some(Address::Tcp(at)) => inet(*at, "stream", options),
        Some(Address::Udp(at)) => inet(*at, "dgram", options),
        Some(Address::Unix(kind, UnixName::Path(path))) => {
            let Some(path) = path.to_str().filter(|path| is_plain(path)) else {
                return left("its path cannot stand in a property list");
            };
            if path.len() > PATH_MAX {
                return left("its path is longer than 103 bytes, which macOS does not take");
            }
            let kind = if *kind == UnixKind::Datagram { "dgram" } else { "stream" };
            vec![unix(path, kind, options, job)]
        }
    };
    notes.extend(unset(name, listener, job));
    Ok(sockets)
}

/// One socket, or one for each family where the address takes both: launchd's own IPv6 sockets take IPv6 only.
fn inet(at: SocketAddr, kind: &'static str, options: &SocketOptions) -> Vec<Socket> {
    let port = at.port();
    let takes_both = at.is_ipv6() && at.ip().is_unspecified() && options.v6only != Some(true);
    let node = match at {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => at.ip().to_string(),
    };
    let family = if at.is_ipv6() { "IPv6" } else { "IPv4" };
    let all_of_ipv4 = || {
        let node = IpAddr::V4(Ipv4Addr::UNSPECIFIED).to_string();
        Socket::Inet { node, family: "IPv4", port, kind }
    };
    let other_half = takes_both.then(all_of_ipv4);
    other_half.into_iter().chain([Socket::Inet { node, family, port, kind }]).collect()
}

fn unix(path: &str, kind: &'static str, options: &SocketOptions, job: &Job<'_>) -> Socket {
    Socket::Unix {
        path: path.to_owned(),
        kind,
        mode: options.mode.unwrap_or(DEFAULT_MODE),
        owner: options.user.as_ref().and_then(|user| (job.uid)(&user.name)),
        group: options.group.as_ref().and_then(|group| (job.gid)(&group.name)),
    }
}

/// Options that launchd has no key for. The socket is worth more than they are. (`nonblocking` handover sets itself when
/// it takes the socket over.)
fn unset(name: &ListenerName, listener: &Listener, job: &Job<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |key: &str, why: &str| notes.push(format!("listener {name}: {key} is not set: {why}"));
    let options = &listener.options;
    for (key, is_set) in [
        ("backlog", options.backlog.is_some()),
        ("free_bind", options.free_bind),
        ("defer_accept", options.defer_accept.is_some()),
        ("fast_open", options.fast_open.is_some()),
        ("keepalive", options.keepalive.is_some()),
        ("nodelay", options.nodelay.is_some()),
        ("receive_buffer", options.receive_buffer.is_some()),
        ("send_buffer", options.send_buffer.is_some()),
        ("device", options.device.is_some()),
        ("mark", options.mark.is_some()),
    ] {
        if is_set {
            note(key, "launchd has no such option");
        }
    }
    let unknown = "a property list has its number, which only the Mac knows: generate it there";
    if options.user.as_ref().is_some_and(|user| (job.uid)(&user.name).is_none()) {
        note("socket_user", unknown);
    }
    if options.group.as_ref().is_some_and(|group| (job.gid)(&group.name).is_none()) {
        note("socket_group", unknown);
    }
    notes
}

/// Writes the entry (names of listeners are printable ASCII), if there is anything to stand in it.
pub(super) fn write(list: &mut List, held: &[Held<'_>]) {
    if held.is_empty() {
        return;
    }
    list.note("each under the name of its listener");
    list.entry("Sockets");
    list.open("dict");
    for listener in held {
        list.entry(listener.name.as_str());
        match &listener.sockets[..] {
            [socket] => one(list, socket),
            several => {
                list.open("array");
                several.iter().for_each(|socket| one(list, socket));
                list.close("array");
            }
        }
    }
    list.close("dict");
}

fn one(list: &mut List, socket: &Socket) {
    list.open("dict");
    let mut text = |key: &str, value: &str| {
        list.entry(key);
        list.string(value);
    };
    match socket {
        Socket::Inet { node, family, port, kind } => {
            text("SockNodeName", node);
            text("SockFamily", family);
            text("SockServiceName", &port.to_string());
            text("SockType", kind);
        }
        Socket::Unix { path, kind, mode, owner, group } => {
            text("SockPathName", path);
            text("SockType", kind);
            list.note(&format!("{mode:04o}; a property list has no octal numbers"));
            let numbers =
                [("SockPathMode", Some(*mode)), ("SockPathOwner", *owner), ("SockPathGroup", *group)];
            for (key, number) in numbers {
                if let Some(number) = number {
                    list.entry(key);
                    list.integer(number.into());
                }
            }
        }
    }
    list.close("dict");
}

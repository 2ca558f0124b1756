//! The text of a socket unit.

use std::fmt::{Display, Write};

use super::hold::{Held, listen};
use super::{Link, Source, UnitsError, head, install, value};
use crate::config::model::{Address, UnixKind, UnixName};

/// The accept queue where the configuration names none: as long as the kernel allows (it caps it at
/// `net.core.somaxconn`), as when handover binds.
const BACKLOG: u32 = i32::MAX as u32;

pub(super) fn text(
    source: &Source<'_>,
    stem: &str,
    socket: &Held<'_>,
    all: &[Held<'_>],
    link: Option<&Link>,
) -> Result<String, UnitsError> {
    let mut text = head(source, &format!("Socket {} of {stem}", socket.name))?;
    let others: Vec<&str> = all.iter().skip(1).map(|other| other.unit.as_str()).collect();
    if socket.unit != all[0].unit {
        let _ = write!(text, "# {0} opens and closes it: start and stop that.\nPartOf={0}\n", all[0].unit);
        let before = before(socket, all);
        if !before.is_empty() {
            let _ = write!(
                text,
                "# A new owner comes last: the process that gives it has all sockets open.\nAfter={}\n",
                before.join(" ")
            );
        }
    } else if !others.is_empty() {
        let _ = write!(
            text,
            "# Who has started it finds all of them open.\nWants={0}\nAfter={0}\n",
            others.join(" ")
        );
    }
    text += "# One that cannot be opened is tried again with each start of the service.\nStartLimitIntervalSec=0\n\n[Socket]\n";
    text += &listen(socket.address);
    let name = value::percent(socket.name.as_str());
    let _ = write!(text, "FileDescriptorName={name}\nService={stem}.service\n");
    options(&mut text, socket);
    text += "# However often connections start the service in vain, the socket stays, and goes on queueing them.\n\
        TriggerLimitIntervalSec=0\n";
    text += &install(link, &socket.unit);
    Ok(text)
}

/// The sockets that are opened before this one, because systemd changes its owner: it does so in a process forked for that,
/// and in the meantime no other socket can be opened anew, as for a restart.
fn before<'a>(socket: &Held<'_>, all: &'a [Held<'_>]) -> Vec<&'a str> {
    if !socket.owned {
        return Vec::new();
    }
    let mut others = all.iter().skip(1).collect::<Vec<_>>();
    others.sort_by_key(|other| other.owned);
    others.iter().map(|other| other.unit.as_str()).take_while(|unit| *unit != socket.unit).collect()
}

fn options(text: &mut String, socket: &Held<'_>) {
    let options = socket.options;
    let mut set = |key: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{key}={value}");
        }
    };
    let yes = |on: bool| if on { "yes" } else { "no" };
    if !matches!(socket.address, Address::Udp(_) | Address::Unix(UnixKind::Datagram, _)) {
        set("Backlog", Some(&options.backlog.unwrap_or(BACKLOG)));
    }
    if let Some(only) = options.v6only {
        set("BindIPv6Only", Some(&if only { "ipv6-only" } else { "both" }));
    }
    if options.free_bind {
        set("FreeBind", Some(&"yes"));
    }
    if let Some(wait) = options.defer_accept {
        set("DeferAcceptSec", Some(&format_args!("{}s", wait.as_secs())));
    }
    set("KeepAlive", options.keepalive.map(yes).as_ref().map(|on| on as _));
    set("NoDelay", options.nodelay.map(yes).as_ref().map(|on| on as _));
    set("ReceiveBuffer", options.receive_buffer.as_ref().map(|bytes| bytes as _));
    set("SendBuffer", options.send_buffer.as_ref().map(|bytes| bytes as _));
    let plain = |text: &str| value::is_plain(text).then(|| value::percent(text));
    if let Some(device) = options.device.as_deref().and_then(plain) {
        set("BindToDevice", Some(&device));
    }
    if let Some(mark) = options.mark.and_then(|mark| i32::try_from(mark).ok()) {
        set("Mark", Some(&mark));
    }
    if let Address::Unix(_, UnixName::Path(_)) = socket.address {
        let user = options.user.as_ref().filter(|_| socket.owned).and_then(|user| plain(&user.name));
        let group = options.group.as_ref().filter(|_| socket.owned).and_then(|group| plain(&group.name));
        // systemd would take the user's own group; the configuration says whose it is then.
        let group = group.or_else(|| user.is_some().then(|| "root".to_owned()));
        set("SocketUser", user.as_ref().map(|user| user as _));
        set("SocketGroup", group.as_ref().map(|group| group as _));
        set("SocketMode", Some(&format_args!("{:04o}", options.mode.unwrap_or(0o666))));
        set("RemoveOnStop", Some(&"yes"));
    }
}

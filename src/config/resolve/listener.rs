//! One listener: which options mean something for its address, and what they come to.

use crate::config::error::Wrong;
use crate::config::facts::Facts;
use crate::config::model::{Listener, SocketOptions};
use crate::config::resolve::{group, platform, user};
use crate::config::schema::{ListenerKeys, Mode};
use crate::config::walk::{Given, Log, Section};

/// `IFNAMSIZ` less the closing NUL (`netdevice(7)`).
const DEVICE_NAME_MAX: usize = 15;

pub(super) fn resolve(keys: &ListenerKeys, facts: &dyn Facts, log: &mut Log) -> Option<Listener> {
    let Mode::Shared = keys.mode.value;
    useless_options(keys, log);
    platform::listener(keys, facts.platform(), log);
    let (owner, owning_group) = (user(&keys.socket_user, facts, log), group(&keys.socket_group, facts, log));
    whole_seconds(keys, log);
    device_name(keys, log);
    let address = match &keys.address {
        Given::Absent => None,
        Given::Value(address) => Some(address.value.clone()),
        Given::Faulty(_) => return None,
    };
    let options = SocketOptions {
        backlog: keys.backlog.cloned().and_then(|number| number.get()),
        v6only: keys.v6only.cloned(),
        free_bind: keys.free_bind.value,
        defer_accept: keys.defer_accept.cloned().map(|duration| duration.0),
        fast_open: keys.fast_open.cloned().and_then(|number| number.get()),
        keepalive: keys.keepalive.cloned(),
        nodelay: keys.nodelay.cloned(),
        receive_buffer: keys.receive_buffer.cloned().map(|size| size.0),
        send_buffer: keys.send_buffer.cloned().map(|size| size.0),
        nonblocking: keys.nonblocking.cloned(),
        user: owner?,
        group: owning_group?,
        mode: keys.socket_mode.cloned().map(|mode| mode.0),
        device: keys.device.cloned(),
        mark: keys.mark.cloned().and_then(|number| number.get()),
    };
    Some(Listener { address, options })
}

/// An option that does nothing in its place is a misunderstanding, and those are cheap to clear up now.
fn useless_options(keys: &ListenerKeys, log: &mut Log) {
    for (key, at) in keys.given() {
        let Some(on) = key.on else { continue };
        match &keys.address {
            Given::Absent => log.key(
                at,
                Wrong::new("does nothing without an address: an inherited socket is taken as it is")
                    .hint(where_it_is_set(key.name)),
            ),
            Given::Value(address) if !(on.holds)(&address.value) => {
                log.key(at, Wrong::new(format!("does nothing for {}: it is for {}", address.value, on.what)));
            }
            Given::Value(_) | Given::Faulty(_) => {}
        }
    }
}

/// Who makes the socket sets its options, in `systemd.socket(5)`. `O_NONBLOCK` is set when it is passed on, by the
/// `NonBlocking=` of `systemd.service(5)`, for all sockets of a service.
fn where_it_is_set(key: &str) -> &'static str {
    match key {
        "nonblocking" => {
            "set it where the socket is passed on, for example NonBlocking=yes in the .service unit"
        }
        _ => "set it where the socket is made, for example in the .socket unit",
    }
}

/// `TCP_DEFER_ACCEPT` counts in seconds (`tcp(7)`).
fn whole_seconds(keys: &ListenerKeys, log: &mut Log) {
    if let Some(wait) = keys.defer_accept.value()
        && (wait.0.subsec_nanos() != 0 || i32::try_from(wait.0.as_secs()).is_err())
    {
        log.value(&wait.at, Wrong::new("is counted in whole seconds").hint("for example \"5s\""));
    }
}

fn device_name(keys: &ListenerKeys, log: &mut Log) {
    if let Some(device) = keys.device.value() {
        let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if device.is_empty() || device.len() > DEVICE_NAME_MAX || device.contains(odd) {
            log.value(
                &device.at,
                Wrong::new(format!("{:?} is not the name of a network interface", device.value))
                    .hint("1 to 15 characters, for example \"eth0\""),
            );
        }
    }
}

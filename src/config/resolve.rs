//! What was read to a [`Config`]: everything that takes more than one key, or the machine, to judge.
//!
//! Each function goes to its end before it gives up, so that one fault does not hide the next. `None` means
//! that a fault has been noted.

mod listener;
mod platform;
mod pool;
mod workable;

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Fault, Wrong};
use super::facts::Facts;
use super::model::{Address, Config, GroupId, Install, Listener, Log as LogModel, Pool, UserId};
use super::names::{check_listener_name, check_name, check_pool_name};
use super::nearest::nearest;
use super::overlap::overlap;
use super::schema::{File, ListenerKeys, LogKeys};
use super::values::Account;
use super::walk::{Given, Log, Place, Placed};
use crate::id::{ListenerName, PoolName};

type Named<T> = BTreeMap<String, Placed<T>>;

/// Makes the configuration, or notes why there is none.
pub(super) fn config(file: &File, default_name: &str, facts: &dyn Facts, log: &mut Log) -> Option<Config> {
    let none = Named::new();
    let wanted = file.listener.value().map_or(&none, |listeners| &listeners.value);
    let name = name(file, default_name, log);
    let listeners = listeners(wanted, facts, log);
    unused_listeners(file, wanted, log);
    let pools = pools(file, wanted, facts, log);
    workable::pid_file(file, log);
    let control_group = group(&file.control_group, facts, log);
    Some(Config {
        name: name?,
        listeners: listeners?,
        pools: pools?,
        log: log_keys(&file.log),
        pid_file: file.pid_file.cloned().map(|path| path.0),
        unused_sockets: file.unused_sockets.value,
        control_group: control_group?.map(|group| group.name),
        install: Install { start: file.install.start.value },
    })
}

fn name(file: &File, default_name: &str, log: &mut Log) -> Option<String> {
    match &file.name {
        Given::Value(name) => Some(name.0.clone()),
        Given::Faulty(_) => None,
        Given::Absent => match check_name(default_name) {
            Ok(()) => Some(default_name.to_owned()),
            Err(Wrong { reason, hint }) => {
                let reason = format!("the file's name does not do for the daemon's: {reason}");
                let hint = hint.map(|hint| format!("{hint}; it stands at the top of the file"));
                log.add(Fault::new(0..0, "name", Wrong { reason, hint }));
                None
            }
        },
    }
}

fn log_keys(keys: &LogKeys) -> LogModel {
    LogModel { format: keys.format.value, level: keys.level.value, workers: keys.workers.value }
}

fn listeners(
    wanted: &Named<ListenerKeys>,
    facts: &dyn Facts,
    log: &mut Log,
) -> Option<BTreeMap<ListenerName, Listener>> {
    let mut resolved: Vec<(&String, &Place, Listener)> = Vec::new();
    for (name, keys) in wanted {
        if let Err(wrong) = check_listener_name(name) {
            log.key(&keys.at, wrong);
        }
        if let Some(listener) = listener::resolve(keys, facts, log) {
            let place = keys.address.value().map_or(&keys.at, |address| &address.at);
            resolved.push((name, place, listener));
        }
    }
    resolved.sort_by_key(|(_, place, _)| place.value.start);
    for (index, (_, place, listener)) in resolved.iter().enumerate() {
        if let Some((other, taken, earlier)) =
            resolved[..index].iter().find(|(.., earlier)| overlap(earlier, listener))
        {
            log.add(overlapping((place, listener), other, (taken, earlier)));
        }
    }
    (resolved.len() == wanted.len()).then(|| {
        resolved.into_iter().map(|(name, _, listener)| (ListenerName::new(name), listener)).collect()
    })
}

fn overlapping((place, new): (&Place, &Listener), other: &str, (taken, held): (&Place, &Listener)) -> Fault {
    let hint = match (&new.address, &held.address) {
        (Some(Address::Tcp(a) | Address::Udp(a)), Some(Address::Tcp(b) | Address::Udp(b)))
            if a.is_ipv4() != b.is_ipv4() =>
        {
            "[::] takes IPv4 as well, unless it has v6only = true"
        }
        (a, b) if a == b => "one listener can serve several pools",
        (Some(Address::Tcp(_) | Address::Udp(_)), _) => "0.0.0.0 and [::] stand for every address",
        _ => "a file can be one socket only",
    };
    let wrong = Wrong::new(format!("listener {other:?} already listens there")).hint(hint);
    Fault::new(place.value.clone(), &place.path, wrong).with_also(taken.value.clone(), "taken here")
}

/// A socket that nobody accepts from lets its clients hang.
fn unused_listeners(file: &File, wanted: &Named<ListenerKeys>, log: &mut Log) {
    let Given::Value(pools) = &file.pool else { return };
    if pools.values().any(|pool| pool.listeners.is_stand_in()) {
        return;
    }
    let used: BTreeSet<&str> =
        pools.values().flat_map(|pool| pool.listeners.iter()).map(|name| name.as_str()).collect();
    for (name, keys) in wanted {
        if !used.contains(name.as_str()) {
            let hint = format!("name it in a pool: listeners = [{name:?}]");
            log.key(&keys.at, Wrong::new("no pool uses this listener").hint(hint));
        }
    }
}

fn pools(
    file: &File,
    listeners: &Named<ListenerKeys>,
    facts: &dyn Facts,
    log: &mut Log,
) -> Option<BTreeMap<PoolName, Pool>> {
    let wanted = file.pool.value()?;
    if wanted.is_empty() {
        log.key(&wanted.at, Wrong::new("there is no pool").hint("add a section [pool.NAME]"));
    }
    let mut resolved = BTreeMap::new();
    for (name, keys) in wanted.iter() {
        if let Err(wrong) = check_pool_name(name) {
            log.key(&keys.at, wrong);
        }
        pool_listeners(&keys.listeners, listeners, log);
        if let Some(pool) = pool::resolve(keys, facts, log) {
            resolved.insert(PoolName::new(name), pool);
        }
    }
    (resolved.len() == wanted.len()).then_some(resolved)
}

fn pool_listeners(named: &[Placed<String>], listeners: &Named<ListenerKeys>, log: &mut Log) {
    for (index, name) in named.iter().enumerate() {
        if !listeners.contains_key(name.as_str()) {
            let hint = match nearest(name, listeners.keys().map(String::as_str)) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("add [listener.{}]", super::render::quote_key(name)),
            };
            log.value(&name.at, Wrong::new(format!("there is no listener {:?}", name.value)).hint(hint));
        } else if let Some(first) = named[..index].iter().find(|other| other.value == name.value) {
            let wrong = Wrong::new(format!("listener {:?} is named twice", name.value));
            let fault = Fault::new(name.at.value.clone(), &name.at.path, wrong);
            log.add(fault.with_also(first.at.value.clone(), "here first"));
        }
    }
}

/// The user, where one is given; the outer `None` for a fault.
fn user(given: &Given<Account>, facts: &dyn Facts, log: &mut Log) -> Option<Option<UserId>> {
    account(given, "user", |name| facts.user(name), log)
}

/// The group, where one is given; the outer `None` for a fault.
fn group(given: &Given<Account>, facts: &dyn Facts, log: &mut Log) -> Option<Option<GroupId>> {
    account(given, "group", |name| facts.group(name), log)
}

fn account<T>(
    given: &Given<Account>,
    what: &str,
    find: impl Fn(&str) -> Option<T>,
    log: &mut Log,
) -> Option<Option<T>> {
    match given {
        Given::Absent => Some(None),
        Given::Faulty(_) => None,
        Given::Value(account) => {
            let found = find(&account.0);
            if found.is_none() {
                log.value(&account.at, no_such(what, &account.0));
            }
            found.map(Some)
        }
    }
}

fn no_such(what: &str, name: &str) -> Wrong {
    let (create, list) = if what == "user" { ("useradd", "passwd") } else { ("groupadd", "group") };
    Wrong::new(format!("there is no {what} {name:?} on this machine"))
        .hint(format!("`getent {list}` shows those that there are, `{create} --system NAME` makes one"))
}

//! Two configurations to what a reload does: which sockets stay, which come and go, which pools changed.
//!
//! A listener stays the same socket when its address (and device) is the same, whatever its name. What a
//! socket's owner cannot change while it is held (`docs/decisions` has the kernel's rules) is refused, and
//! then nothing is changed at all.

mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use options::OptionChange;

use super::model::{Address, Config, Listener, Log, Pool, SocketOptions};
use super::overlap::overlap;
use crate::id::{ListenerName, PoolName};

/// What a reload does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Listeners of the new configuration that are to be bound, before anything is let go.
    pub added: BTreeSet<ListenerName>,
    /// Listeners of the old configuration that are let go when their last old worker has ended.
    pub removed: BTreeSet<ListenerName>,
    /// Listeners of the new configuration that are sockets which are already held.
    pub kept: BTreeMap<ListenerName, Kept>,
    /// Pools that are new.
    pub pools_added: BTreeSet<PoolName>,
    /// Pools that are gone.
    pub pools_removed: BTreeSet<PoolName>,
    /// Pools that differ in anything a worker or the machine could notice, their listeners included.
    pub pools_changed: BTreeSet<PoolName>,
    /// Pools that are as they were.
    pub pools_unchanged: BTreeSet<PoolName>,
    /// The new `[log]`, where it differs.
    pub log: Option<Log>,
}

/// A socket that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name in the old configuration.
    pub was: ListenerName,
    /// What is to be set on it. Not on an inherited socket: that is its owner's.
    pub options: Vec<OptionChange>,
}

/// Something that a reload cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key, as a path.
    pub key: String,
    /// Why: a lower-case fragment that follows the key.
    pub reason: String,
}

impl Refusal {
    fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: needs a restart", self.key, self.reason)
    }
}

/// What a reload from `old` to `new` does.
///
/// A change of `unused_sockets` counts at the next start and is not part of it.
///
/// # Errors
/// Everything that needs a restart, at once; at least one refusal.
pub fn compare(old: &Config, new: &Config) -> Result<Change, Vec<Refusal>> {
    let mut refusals = fixed_keys(old, new);
    let mut change = Change::default();
    listeners(old, new, &mut change, &mut refusals);
    pools(old, new, &mut change);
    change.log = (old.log != new.log).then(|| new.log.clone());
    if refusals.is_empty() { Ok(change) } else { Err(refusals) }
}

/// Keys at the top that are used once, at the start.
fn fixed_keys(old: &Config, new: &Config) -> Vec<Refusal> {
    [
        ("name", old.name != new.name, "the runtime directory has this name"),
        ("pid_file", old.pid_file != new.pid_file, "it is written at the start"),
        ("control_group", old.control_group != new.control_group, "the control socket is made at the start"),
    ]
    .into_iter()
    .filter(|(_, changed, _)| *changed)
    .map(|(key, _, reason)| Refusal::new(key, reason))
    .collect()
}

fn listeners(old: &Config, new: &Config, change: &mut Change, refusals: &mut Vec<Refusal>) {
    let held = Held::of(old);
    for (name, listener) in &new.listeners {
        let key = |key: &str| format!("listener.{}{key}", super::render::quote_key(name.as_str()));
        match (held.same_socket(name, listener), &listener.address) {
            (Some((was, before)), _) => {
                let (options, fixed) = options::compare(&before.options, &listener.options);
                refusals.extend(
                    fixed.into_iter().map(|(option, why)| Refusal::new(key(&format!(".{option}")), why)),
                );
                change.kept.insert(name.clone(), Kept { was: was.clone(), options });
            }
            (None, None) => {
                refusals.push(Refusal::new(
                    key(""),
                    "without an address it is inherited, and that is possible at the start only",
                ));
            }
            (None, Some(_)) if old.listeners.get(name).is_some_and(|before| before.address.is_none()) => {
                refusals.push(Refusal::new(
                    key(".address"),
                    "the socket that is held under this name was inherited",
                ));
            }
            (None, Some(_)) => {
                change.added.insert(name.clone());
            }
        }
    }
    let kept: BTreeSet<&ListenerName> = change.kept.values().map(|kept| &kept.was).collect();
    change.removed = old.listeners.keys().filter(|name| !kept.contains(name)).cloned().collect();
    refusals.extend(overlaps(old, new, change));
}

/// A new socket cannot be bound while an old one has its address, and the old one must be held until then.
fn overlaps(old: &Config, new: &Config, change: &Change) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (name, listener) in new.listeners.iter().filter(|(name, _)| change.added.contains(name)) {
        let in_the_way = old.listeners.iter().find(|(_, held)| overlap(held, listener));
        if let Some((other, Listener { address: Some(address), .. })) = in_the_way {
            let key = format!("listener.{}.address", super::render::quote_key(name.as_str()));
            refusals.push(Refusal::new(key, format!("it overlaps {address}, which listener {other} holds")));
        }
    }
    refusals
}

/// The old listeners by what makes them the same socket.
struct Held<'a> {
    by_address: BTreeMap<(&'a Address, Option<&'a str>), (&'a ListenerName, &'a Listener)>,
    by_name: &'a BTreeMap<ListenerName, Listener>,
}

impl<'a> Held<'a> {
    fn of(old: &'a Config) -> Self {
        let by_address = old
            .listeners
            .iter()
            .filter_map(|(name, listener)| Some((identity(listener)?, (name, listener))))
            .collect();
        Self { by_address, by_name: &old.listeners }
    }

    /// Port 0 is another port each time and says nothing, so its sockets go by name like those without address.
    fn same_socket(&self, name: &ListenerName, new: &Listener) -> Option<(&'a ListenerName, &'a Listener)> {
        match identity(new) {
            Some(identity) => self.by_address.get(&identity).copied(),
            None => self.by_name.get_key_value(name).filter(|(_, old)| old.address == new.address),
        }
    }
}

/// What makes a listener the same socket, where its name does not: its address and device. `None`: only its
/// name does (no address, or port 0).
pub fn identity(listener: &Listener) -> Option<(&Address, Option<&str>)> {
    match listener.address.as_ref()? {
        Address::Tcp(socket) | Address::Udp(socket) if socket.port() == 0 => None,
        address => Some((address, listener.options.device.as_deref())),
    }
}

fn pools(old: &Config, new: &Config, change: &mut Change) {
    let output_changed = old.log.workers != new.log.workers;
    for (name, pool) in &new.pools {
        let set = match old.pools.get(name) {
            None => &mut change.pools_added,
            Some(before) if output_changed || before != pool || !same_sockets(pool, &change.kept) => {
                &mut change.pools_changed
            }
            Some(_) => &mut change.pools_unchanged,
        };
        set.insert(name.clone());
    }
    change.pools_removed = old.pools.keys().filter(|name| !new.pools.contains_key(name)).cloned().collect();
}

/// What is to be set on a socket so that it has other options.
///
/// # Errors
/// The first option that is fixed when a socket is bound, for a person.
pub fn option_changes(old: &SocketOptions, new: &SocketOptions) -> Result<Vec<OptionChange>, String> {
    let (changes, fixed) = options::compare(old, new);
    match fixed.first() {
        None => Ok(changes),
        Some((key, why)) => Err(format!("{key}: {why}")),
    }
}

/// Whether each listener of the pool is the socket that had this very name before.
fn same_sockets(pool: &Pool, kept: &BTreeMap<ListenerName, Kept>) -> bool {
    pool.listeners.iter().all(|name| kept.get(name).is_some_and(|kept| kept.was == *name))
}

#[cfg(test)]
mod tests;

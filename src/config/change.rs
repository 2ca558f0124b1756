//! Two configurations to what a reload does: which sockets stay, which come and go, which pools changed.
//!
//! A listener stays the same socket when its address (and device) is the same, whatever its name. What a
//! socket's owner cannot change while it is held (`docs/decisions` has the kernel's rules) is refused, and
//! then nothing is changed at all.

mod keys;
mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use keys::KeyChange;
pub use options::OptionChange;

use super::model::{Address, Config, Listener, Pool, SocketOptions};
use super::overlap::overlap;
use super::render;
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
    /// Pools that differ in anything a worker or the machine could notice, their listeners included, and in
    /// what: at least one key each.
    pub pools_changed: BTreeMap<PoolName, Vec<KeyChange>>,
    /// Pools that are as they were.
    pub pools_unchanged: BTreeSet<PoolName>,
    /// What differs in `[log]`.
    pub log: Vec<KeyChange>,
    /// What differs and counts at the next start only.
    pub at_next_start: Vec<KeyChange>,
    /// Everything that needs a restart. Where there is any, nothing of the rest is done.
    pub refusals: Vec<Refusal>,
}

/// A socket that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name in the old configuration.
    pub was: ListenerName,
    /// What is to be set on it. Not on an inherited socket: that is its owner's.
    pub options: Vec<OptionChange>,
    /// The keys that differ; those that need a restart among them.
    pub keys: Vec<KeyChange>,
}

/// Something that a reload cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The listener that it is about; `None`: a key at the top.
    pub listener: Option<ListenerName>,
    /// The key, in the section of the listener where it is about one; `None`: that section as a whole.
    pub key: Option<&'static str>,
    /// Why: a lower-case fragment that follows the key.
    pub reason: String,
}

impl Refusal {
    fn of_listener(
        name: &ListenerName,
        key: impl Into<Option<&'static str>>,
        reason: impl Into<String>,
    ) -> Self {
        Self { listener: Some(name.clone()), key: key.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section =
            self.listener.as_ref().map(|name| format!("listener.{}", render::quote_key(name.as_str())));
        let path: Vec<&str> = section.as_deref().into_iter().chain(self.key).collect();
        write!(f, "{}: {}: needs a restart", path.join("."), self.reason)
    }
}

/// What a reload from `old` to `new` does, or why it is refused: all of that at once.
pub fn compare(old: &Config, new: &Config) -> Change {
    let mut refusals = fixed_keys(old, new);
    let mut change = Change::default();
    listeners(old, new, &mut change, &mut refusals);
    pools(old, new, &mut change);
    change.log = keys::of_log(&old.log, &new.log);
    if old.unused_sockets != new.unused_sockets {
        let text = |config: &Config| Some(render::unused_sockets(config.unused_sockets).to_owned());
        change.at_next_start.push(KeyChange::new("unused_sockets", text(old), text(new)));
    }
    Change { refusals, ..change }
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
    .map(|(key, _, reason)| Refusal { listener: None, key: Some(key), reason: reason.to_owned() })
    .collect()
}

fn listeners(old: &Config, new: &Config, change: &mut Change, refusals: &mut Vec<Refusal>) {
    let held = Held::of(old);
    for (name, listener) in &new.listeners {
        match (held.same_socket(name, listener), &listener.address) {
            (Some((was, before)), _) => {
                let (options, fixed) = options::compare(&before.options, &listener.options);
                refusals
                    .extend(fixed.into_iter().map(|(option, why)| Refusal::of_listener(name, option, why)));
                let keys = keys::of_listener(&before.options, &listener.options);
                change.kept.insert(name.clone(), Kept { was: was.clone(), options, keys });
            }
            (None, None) => {
                refusals.push(Refusal::of_listener(
                    name,
                    None,
                    "without an address it is inherited, and that is possible at the start only",
                ));
            }
            (None, Some(_)) if old.listeners.get(name).is_some_and(|before| before.address.is_none()) => {
                refusals.push(Refusal::of_listener(
                    name,
                    "address",
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
            let reason = format!("it overlaps {address}, which listener {other} holds");
            refusals.push(Refusal::of_listener(name, "address", reason));
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
    for (name, pool) in &new.pools {
        let Some(before) = old.pools.get(name) else {
            change.pools_added.insert(name.clone());
            continue;
        };
        let mut keys = keys::of_pool(before, pool);
        keys.extend(other_sockets(old, new, pool, &change.kept));
        keys.extend(output(old, new));
        if keys.is_empty() && before != pool {
            // Nothing that differs may be passed over, even if it cannot be named.
            keys.push(KeyChange::secret("pool"));
        }
        if keys.is_empty() {
            change.pools_unchanged.insert(name.clone());
        } else {
            change.pools_changed.insert(name.clone(), keys);
        }
    }
    change.pools_removed = old.pools.keys().filter(|name| !new.pools.contains_key(name)).cloned().collect();
}

/// Where the output of workers goes: what differs in that is another start for each of them.
fn output(old: &Config, new: &Config) -> Vec<KeyChange> {
    let key = |change: &KeyChange| change.key == "workers";
    let changes = keys::of_log(&old.log, &new.log).into_iter().filter(key);
    changes.map(|change| KeyChange { key: "log.workers".to_owned(), ..change }).collect()
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

/// The listeners of a pool that are not the socket which had this very name before. One whose name is new is
/// told by the pool's `listeners`.
fn other_sockets(
    old: &Config,
    new: &Config,
    pool: &Pool,
    kept: &BTreeMap<ListenerName, Kept>,
) -> Vec<KeyChange> {
    let is_other = |name: &&ListenerName| {
        let same = kept.get(*name).is_some_and(|kept| kept.was == **name);
        !same && old.listeners.contains_key(*name)
    };
    let address = |config: &Config, name: &ListenerName| {
        let address = config.listeners.get(name).and_then(|listener| listener.address.as_ref());
        address.map(|address| render::quote(&address.to_string()))
    };
    let change = |name: &ListenerName| {
        let key = format!("listener.{}.address", render::quote_key(name.as_str()));
        KeyChange::new(key, address(old, name), address(new, name))
    };
    pool.listeners.iter().filter(is_other).map(change).collect()
}

#[cfg(test)]
mod tests;

//! Which keys differ, with their values before and after.
//!
//! Values are as `handover check --print` writes them. Those of `environment` are secrets and are never given:
//! what is made of a change goes to terminals, logs and monitors.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::model::{Log, Pool, Program, SocketOptions};
use crate::config::render;

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key, from the section that it is said of (`rollout.bake_time` of a pool).
    pub key: String,
    /// The value before, as TOML. `None`: it had none, or it is secret.
    pub old: Option<String>,
    /// The value after, as TOML. `None`: it has none, or it is secret.
    pub new: Option<String>,
    /// The values differ, and are not given.
    pub secret: bool,
}

impl KeyChange {
    /// With its values.
    pub fn new(key: impl Into<String>, old: Option<String>, new: Option<String>) -> Self {
        Self { key: key.into(), old, new, secret: false }
    }

    /// Without its values.
    pub fn secret(key: impl Into<String>) -> Self {
        Self { key: key.into(), old: None, new: None, secret: true }
    }
}

/// The keys of a pool.
pub(super) fn of_pool(old: &Pool, new: &Pool) -> Vec<KeyChange> {
    let without_secrets = |pool: &Pool| {
        let mut keys = render::pool_keys(pool);
        keys.remove("environment");
        // It follows from `watchdog` whether this one means anything.
        if keys.get("watchdog_pid").is_some_and(|set| set == "true") {
            keys.remove("watchdog_pid");
        }
        keys
    };
    let mut changes = differing(&without_secrets(old), &without_secrets(new));
    changes.extend(accounts(&old.program, &new.program, &changes));
    changes.extend(environment(&old.program.environment, &new.program.environment));
    changes
}

/// The keys of a listener that stays.
pub(super) fn of_listener(old: &SocketOptions, new: &SocketOptions) -> Vec<KeyChange> {
    differing(&render::option_keys(old), &render::option_keys(new))
}

/// The keys of `[log]`.
pub(super) fn of_log(old: &Log, new: &Log) -> Vec<KeyChange> {
    differing(&render::log_keys(old), &render::log_keys(new))
}

fn differing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<KeyChange> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| KeyChange::new(key, old.get(key).cloned(), new.get(key).cloned()))
        .collect()
}

/// Users and groups that are written as before, and are others in the user database now.
fn accounts(old: &Program, new: &Program, said: &[KeyChange]) -> Vec<KeyChange> {
    let number = |what: &str, number: u32| format!("{what} {number} in the user database");
    let user = |program: &Program| program.user.as_ref().map(|user| number("uid", user.uid));
    let group = |program: &Program| program.group.as_ref().map(|group| number("gid", group.gid));
    let groups = |program: &Program| {
        let gids: Vec<String> =
            program.supplementary_groups.iter().map(|group| group.gid.to_string()).collect();
        Some(format!("gids {} in the user database", gids.join(", ")))
    };
    let home = "home, shell or group in the user database";
    let mut changes = Vec::new();
    let mut add = |key: &str, differs: bool, old: Option<String>, new: Option<String>| {
        if differs && !said.iter().any(|change| change.key == key) {
            let same = old == new;
            let text = |value| if same { None } else { value };
            let key = if same { format!("{key} ({home})") } else { key.to_owned() };
            changes.push(KeyChange { key, old: text(old), new: text(new), secret: same });
        }
    };
    add("user", old.user != new.user, user(old), user(new));
    add("group", old.group != new.group, group(old), group(new));
    let differ = old.supplementary_groups != new.supplementary_groups;
    add("supplementary_groups", differ, groups(old), groups(new));
    changes
}

fn environment(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<KeyChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differing = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    differing.map(|name| KeyChange::secret(format!("environment.{}", render::quote_key(name)))).collect()
}

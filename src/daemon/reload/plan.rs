//! What a reload would do, worked out and not done: the one way to a generation and to a plan that is shown.
//!
//! Everything that is wrong is in it at once, except what only shows when a socket is bound. Nothing is touched
//! here, and nothing blocks: what had to be read was read before (`found`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::config::change::{self, Change, KeyChange};
use crate::config::model::{Config, Listener, Policy};
use crate::daemon::Daemon;
use crate::daemon::reload::generation::{PoolRecord, Record};
use crate::daemon::reload::inputs::{Found, FoundPool, Value};
use crate::id::{Generation, ListenerName, PoolName};
use crate::listeners::Held;
use crate::supervisor::Scope;

/// Where the socket of a listener comes from.
pub(in crate::daemon) enum Way {
    /// It stays.
    Keep(Rc<Held>),
    /// Its file is gone, so that nobody can connect to it any more: it is bound afresh.
    Afresh(Rc<Held>),
    /// It is not in force, but old workers of an earlier generation still have it.
    Share(Rc<Held>),
    /// It is bound.
    Bind,
}

/// What happens to a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Difference {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These keys differ.
    Changed(Vec<KeyChange>),
    /// Nothing that was configured differs.
    Unchanged,
}

/// A pool of the old or the new configuration.
pub(in crate::daemon) struct PoolDraft {
    pub(in crate::daemon) difference: Difference,
    /// It takes part in the rollout.
    pub(in crate::daemon) moves: bool,
    /// What was read for it; `None` where it is gone, or not part of the reload.
    pub(in crate::daemon) found: Option<FoundPool>,
    /// The generation that its workers have.
    pub(in crate::daemon) current: Option<Generation>,
}

/// See the module.
pub(in crate::daemon) struct Draft {
    /// The generation that it is compared with.
    pub(in crate::daemon) base: Generation,
    /// What is to be in force, whatever is left out of the reload as it was.
    pub(in crate::daemon) config: Config,
    pub(in crate::daemon) change: Change,
    pub(in crate::daemon) listeners: BTreeMap<ListenerName, Way>,
    pub(in crate::daemon) pools: BTreeMap<PoolName, PoolDraft>,
    /// Why it cannot be done, for a person; none where it can.
    pub(in crate::daemon) refusals: Vec<String>,
}

impl Daemon {
    /// Works out what a reload does that follows on the generation `base`.
    ///
    /// # Errors
    /// A scope that makes no sense, for a person.
    pub(in crate::daemon) fn draft(
        &self,
        base: Generation,
        scope: &Scope,
        found: Found,
    ) -> Result<Draft, String> {
        let old = self.record(base)?;
        let config = match &scope.pools {
            Some(pools) => restricted(&old.config, found.config, pools)?,
            None => found.config,
        };
        let change = change::compare(&old.config, &config);
        let mut refusals: Vec<String> = change.refusals.iter().map(ToString::to_string).collect();
        refusals.extend(found.faults);
        let listeners = self.ways(old, &config, &change, &mut refusals);
        let pools = self.pool_drafts(old, &config, &change, scope, found.pools);
        Ok(Draft { base, config, change, listeners, pools, refusals })
    }

    pub(in crate::daemon) fn record(&self, generation: Generation) -> Result<&Record, String> {
        let record = self.generations.get(&generation);
        record.ok_or_else(|| format!("generation {generation} is not recorded"))
    }

    fn ways(
        &self,
        old: &Record,
        config: &Config,
        change: &Change,
        refusals: &mut Vec<String>,
    ) -> BTreeMap<ListenerName, Way> {
        let mut ways = BTreeMap::new();
        for (name, listener) in &config.listeners {
            let kept = change.kept.get(name).and_then(|kept| old.listeners.get(&kept.was));
            let way = match kept {
                Some(held) if held.has_lost_its_file() => Way::Afresh(held.clone()),
                Some(held) => Way::Keep(held.clone()),
                None => self.find(name, listener, refusals),
            };
            ways.insert(name.clone(), way);
        }
        ways
    }

    /// A socket for a listener that is new. One of an older generation, whose workers still drain, may have it.
    fn find(&self, name: &ListenerName, listener: &Listener, refusals: &mut Vec<String>) -> Way {
        let mut held = self.generations.values().flat_map(|record| record.listeners.values());
        let Some(same) = held.find(|held| held.serves(listener)) else { return Way::Bind };
        if let Err(why) = same.can_have(&listener.options) {
            refusals.push(format!("listener {name}: {why}, and old workers still use the socket"));
        }
        Way::Share(same.clone())
    }

    fn pool_drafts(
        &self,
        old: &Record,
        config: &Config,
        change: &Change,
        scope: &Scope,
        mut found: BTreeMap<PoolName, FoundPool>,
    ) -> BTreeMap<PoolName, PoolDraft> {
        let currents = self.currents();
        let names: BTreeSet<&PoolName> = old.config.pools.keys().chain(config.pools.keys()).collect();
        let draft = |name: &PoolName| {
            let named = scope.pools.as_ref().is_none_or(|pools| pools.contains(name));
            let found = found.remove(name).filter(|_| named && config.pools.contains_key(name));
            let current = currents.get(name).copied();
            let before = current.and_then(|current| self.generations.get(&current)?.pools.get(name));
            let difference = difference(name, change, before, found.as_ref());
            let moves = named && (!scope.changed_only || difference != Difference::Unchanged);
            (name.clone(), PoolDraft { difference, moves, found, current })
        };
        names.into_iter().map(draft).collect()
    }

    /// The generation that the workers of each pool have, or will have when the rollout that runs is done.
    fn currents(&self) -> BTreeMap<PoolName, Generation> {
        let status = self.machine.status();
        let of_pool = |(name, pool): (&PoolName, &crate::supervisor::PoolStatus)| {
            Some((name.clone(), pool.generation?))
        };
        let mut currents: BTreeMap<PoolName, Generation> = status.pools.iter().filter_map(of_pool).collect();
        let forward = status.rollout.filter(|rollout| rollout.rolling_back.is_none());
        if let Some(generation) = forward.map(|rollout| rollout.generation)
            && let Some(record) = self.generations.get(&generation)
        {
            currents.extend(record.moving.iter().map(|name| (name.clone(), generation)));
        }
        currents
    }
}

impl Draft {
    /// The pools that move, as the machine wants to know them.
    pub(in crate::daemon) fn moving(&self) -> BTreeMap<PoolName, Option<Policy>> {
        let moving = self.pools.iter().filter(|(_, pool)| pool.moves);
        let policy = |name: &PoolName| self.config.pools.get(name).map(|pool| pool.policy.clone());
        moving.map(|(name, _)| (name.clone(), policy(name))).collect()
    }
}

/// What differs in a pool, by its configuration and by the content of its environment files.
fn difference(
    name: &PoolName,
    change: &Change,
    before: Option<&Rc<PoolRecord>>,
    found: Option<&FoundPool>,
) -> Difference {
    if change.pools_added.contains(name) {
        return Difference::Added;
    }
    if change.pools_removed.contains(name) {
        return Difference::Removed;
    }
    let mut keys = change.pools_changed.get(name).cloned().unwrap_or_default();
    let files = "environment_files";
    if let (Some(before), Some(found)) = (before, found)
        && from_files(&before.variables) != from_files(&found.variables)
        && !keys.iter().any(|change| change.key == files)
    {
        keys.push(KeyChange::secret(format!("{files} (their content)")));
    }
    if keys.is_empty() { Difference::Unchanged } else { Difference::Changed(keys) }
}

fn from_files(variables: &BTreeMap<String, Value>) -> Vec<(&String, &Value)> {
    variables.iter().filter(|(_, value)| matches!(value, Value::Plain(_))).collect()
}

/// A new configuration with only some of its changes: those of `pools` and of the listeners that they name.
fn restricted(old: &Config, new: Config, pools: &BTreeSet<PoolName>) -> Result<Config, String> {
    let unknown: Vec<String> = pools
        .iter()
        .filter(|pool| !old.pools.contains_key(pool) && !new.pools.contains_key(pool))
        .map(|pool| format!("there is no pool {pool}"))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown.join("\n"));
    }
    let mut merged = old.clone();
    let (new_pools, new_listeners) = (new.pools, new.listeners);
    merged.pools.retain(|pool, _| !pools.contains(pool));
    let untouched: BTreeSet<ListenerName> = merged.used_listeners().into_iter().cloned().collect();
    let mut faults = Vec::new();
    for (name, pool) in new_pools.into_iter().filter(|(name, _)| pools.contains(name)) {
        for listener in &pool.listeners {
            let (before, after) = (old.listeners.get(listener), new_listeners.get(listener));
            let Some(after) = after else { continue };
            if untouched.contains(listener) && before != Some(after) {
                faults.push(format!(
                    "listener {listener} changed, and pools that are not part of this reload use it"
                ));
            }
            merged.listeners.insert(listener.clone(), after.clone());
        }
        merged.pools.insert(name, pool);
    }
    let used: BTreeSet<ListenerName> = merged.used_listeners().into_iter().cloned().collect();
    merged.listeners.retain(|name, _| used.contains(name));
    if faults.is_empty() { Ok(merged) } else { Err(faults.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::ThisMachine;

    /// Pools with the listeners that they name, and the ports of those.
    fn config(pools: &[(&str, &[&str])], ports: &[(&str, u16)]) -> Config {
        let mut text = String::new();
        for (name, listeners) in pools {
            text += &format!("[pool.{name}]\ncommand = ['/bin/true']\nlisteners = {listeners:?}\n");
        }
        for (name, port) in ports {
            text += &format!("[listener.{name}]\naddress = '127.0.0.1:{port}'\n");
        }
        crate::config::parse("a.toml", &text, "a", &ThisMachine).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn only(pools: &[&str]) -> BTreeSet<PoolName> {
        pools.iter().map(|name| PoolName::new(*name)).collect()
    }

    #[test]
    fn of_a_reload_of_some_pools_the_others_notice_nothing() {
        let old = config(&[("web", &["a"]), ("jobs", &["b"])], &[("a", 1), ("b", 2)]);
        let new = config(&[("web", &["a"]), ("jobs", &["b", "c"])], &[("a", 3), ("b", 4), ("c", 5)]);
        let merged = restricted(&old, new.clone(), &only(&["web"])).unwrap();
        assert_eq!(merged, config(&[("web", &["a"]), ("jobs", &["b"])], &[("a", 3), ("b", 2)]));
        assert_eq!(restricted(&old, new.clone(), &only(&["web", "jobs"])).unwrap(), new);
        let without = config(&[("jobs", &["b"])], &[("b", 2)]);
        assert_eq!(restricted(&old, without.clone(), &only(&["web"])).unwrap(), without);
        let unknown = restricted(&old, new, &only(&["web", "x", "y"])).unwrap_err();
        assert_eq!(unknown, "there is no pool x\nthere is no pool y");
    }

    #[test]
    fn a_listener_that_others_use_too_cannot_change_for_some_pools_only() {
        let old = config(&[("web", &["a"]), ("jobs", &["a"])], &[("a", 1)]);
        let new = config(&[("web", &["a"]), ("jobs", &["a"])], &[("a", 2)]);
        let refused = restricted(&old, new, &only(&["web"])).unwrap_err();
        assert!(refused.starts_with("listener a changed, and pools that are not part"), "{refused}");
        assert_eq!(restricted(&old, old.clone(), &only(&["web"])), Ok(old));
    }
}

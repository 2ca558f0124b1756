//! Making the next generation: read, check, compare, hold its sockets, record it. Nothing that serves is
//! touched before the machine says `Commit`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Daemon;
use super::generation::{Listeners, Record};
use crate::config::change::{self, Change};
use crate::config::model::{Config, Listener, Policy};
use crate::id::{Generation, ListenerName, PoolName};
use crate::listeners::Held;
use crate::supervisor::Scope;

impl Daemon {
    /// Makes a generation. On failure nothing has changed; the reason is for a person.
    pub(super) fn prepare(
        &mut self,
        generation: Generation,
        scope: &Scope,
    ) -> Result<BTreeMap<PoolName, Option<Policy>>, String> {
        let old = self.committed_record()?.config.clone();
        let mut new = match scope.reread {
            true => self.source.read(false).map_err(|refused| refused.to_string())?,
            false => (*old).clone(),
        };
        if let Some(pools) = &scope.pools {
            new = restricted(&old, new, pools)?;
        }
        let change = change::compare(&old, &new)
            .map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        let listeners = self.hold(&new, &change)?;
        let record = Record::new(Rc::new(new), listeners).map_err(|faults| faults.join("\n"))?;
        let pools = rolled(&old, &record.config, &change, scope);
        self.generations.insert(generation, record);
        Ok(pools)
    }

    pub(super) fn committed_record(&self) -> Result<&Record, String> {
        let record = self.generations.get(&self.committed);
        record.ok_or_else(|| format!("generation {} is not recorded", self.committed))
    }

    /// The sockets of a new configuration: those that are held already, and new ones for the rest.
    fn hold(&self, new: &Config, change: &Change) -> Result<Listeners, String> {
        let committed = self.committed_record()?;
        let mut listeners = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, listener) in &new.listeners {
            let kept = change.kept.get(name).and_then(|kept| committed.listeners.get(&kept.was));
            match kept.map_or_else(|| self.find_or_bind(listener), |held| still_reachable(held, listener)) {
                Ok(held) => {
                    listeners.insert(name.clone(), held);
                }
                Err(fault) => faults.push(format!("listener {name}: {fault}")),
            }
        }
        if faults.is_empty() { Ok(listeners) } else { Err(faults.join("\n")) }
    }

    /// A socket for a listener that the committed generation does not have. One of an older generation,
    /// whose workers still drain, may have it.
    fn find_or_bind(&self, listener: &Listener) -> Result<Rc<Held>, String> {
        let Some(address) = &listener.address else {
            return Err("without an address it must be inherited, at the start of the daemon".to_owned());
        };
        let mut held = self.generations.values().flat_map(|record| record.listeners.values());
        if let Some(same) = held.find(|held| held.serves(listener)) {
            let refused = |why| format!("{why}, and old workers still use the socket");
            return same.can_have(&listener.options).map(|()| same.clone()).map_err(refused);
        }
        Held::bind(address, &listener.options).map(Rc::new).map_err(|error| error.to_string())
    }

    /// A generation is the one to build on: what it changes on held sockets and on the log is applied.
    pub(super) fn commit(&mut self, generation: Generation) {
        let Some(new) = self.generations.get(&generation) else { return };
        for (name, held) in &new.listeners {
            let Some(listener) = new.config.listeners.get(name) else { continue };
            if let Err(error) = held.apply(&listener.options) {
                tracing::warn!(listener = %name, %error, "listener options not applied");
            }
        }
        self.log.configure(new.config.log.format, new.config.log.level);
        self.output = new.config.log.workers;
        self.drifts.retain(|name, _| new.config.listeners.contains_key(name));
        self.committed = generation;
    }

    /// Nothing needs a generation any more.
    pub(super) fn forget(&mut self, generation: Generation) {
        let Some(record) = self.generations.remove(&generation) else { return };
        for (name, held) in record.listeners {
            if let Some(held) = Rc::into_inner(held) {
                let reset = held.waiting();
                tracing::info!(listener = %name, address = held.shown(), reset, "listener closed");
            }
        }
        let status = self.machine.status();
        self.table.retain_slots(|pool, slot| {
            status.pools.get(pool).is_some_and(|pool| pool.slots.contains_key(&slot))
        });
    }
}

/// A socket that stays; one whose file is gone is bound afresh, since nobody can connect to it any more.
fn still_reachable(held: &Rc<Held>, listener: &Listener) -> Result<Rc<Held>, String> {
    if !held.has_lost_its_file() {
        return Ok(held.clone());
    }
    held.rebind(&listener.options).map(Rc::new).map_err(|error| error.to_string())
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
    merged.pools.extend(new_pools.into_iter().filter(|(pool, _)| pools.contains(pool)));
    let used: BTreeSet<ListenerName> = merged.used_listeners().into_iter().cloned().collect();
    for name in &used {
        let (before, after) = (old.listeners.get(name), new_listeners.get(name));
        match (before, after) {
            (Some(before), Some(after)) if before != after && untouched.contains(name) => {
                return Err(format!(
                    "listener {name} changed, and pools that are not part of this reload use it"
                ));
            }
            (_, Some(after)) => drop(merged.listeners.insert(name.clone(), after.clone())),
            _ => {}
        }
    }
    merged.listeners.retain(|name, _| used.contains(name));
    Ok(merged)
}

/// The pools that move: all that the scope covers, those that are gone among them.
fn rolled(old: &Config, new: &Config, change: &Change, scope: &Scope) -> BTreeMap<PoolName, Option<Policy>> {
    let covered = |pool: &PoolName| {
        scope.pools.as_ref().is_none_or(|pools| pools.contains(pool))
            && (!scope.changed_only || !change.pools_unchanged.contains(pool))
    };
    let names: BTreeSet<&PoolName> = old.pools.keys().chain(new.pools.keys()).collect();
    names
        .into_iter()
        .filter(|pool| covered(pool))
        .map(|pool| (pool.clone(), new.pools.get(pool).map(|pool| pool.policy.clone())))
        .collect()
}

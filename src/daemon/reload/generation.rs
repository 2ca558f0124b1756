//! A generation as the shell records it: configuration, content of the environment files, programs and
//! listeners, as they were when it was made. Its workers are started from this record, however late.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::config::model::{Config, Pool};
use crate::daemon::reload::inputs::{FoundPool, Value};
use crate::daemon::reload::program::Memory;
use crate::id::{ListenerName, PoolName};
use crate::listeners::Held;

/// Sockets by the name of their listener. One that several generations have is shared, and closed with the
/// last.
pub(in crate::daemon) type Listeners = BTreeMap<ListenerName, Rc<Held>>;

/// See the module.
pub(in crate::daemon) struct Record {
    pub(in crate::daemon) config: Rc<Config>,
    /// Every pool of the configuration. One that does not move to this generation is the one of an earlier
    /// generation.
    pub(in crate::daemon) pools: BTreeMap<PoolName, Rc<PoolRecord>>,
    /// The sockets of the configuration's listeners.
    pub(in crate::daemon) listeners: Listeners,
    /// The pools that move to this generation; those that are removed among them.
    pub(in crate::daemon) moving: BTreeSet<PoolName>,
}

/// What a generation remembers of one pool.
pub(in crate::daemon) struct PoolRecord {
    pub(in crate::daemon) pool: Pool,
    /// `environment` and the content of `environment_files`, which wins.
    pub(in crate::daemon) variables: BTreeMap<String, Value>,
    pub(in crate::daemon) programs: Memory,
}

impl PoolRecord {
    /// From what was read for it.
    pub(in crate::daemon) fn new(pool: &Pool, found: FoundPool) -> Self {
        let programs = found.program.map_or_else(Memory::default, Memory::of);
        Self { pool: pool.clone(), variables: found.variables, programs }
    }
}

impl Record {
    /// The record of the first generation, to which all pools move.
    pub(in crate::daemon) fn first(
        config: Config,
        mut found: BTreeMap<PoolName, FoundPool>,
        listeners: Listeners,
    ) -> Self {
        let made = |(name, pool): (&PoolName, &Pool)| {
            let found = found.remove(name)?;
            Some((name.clone(), Rc::new(PoolRecord::new(pool, found))))
        };
        let pools = config.pools.iter().filter_map(made).collect();
        let moving = config.pools.keys().cloned().collect();
        Self { config: Rc::new(config), pools, listeners, moving }
    }

    /// The sockets that a worker of `pool` gets, in order, each with its name.
    pub(in crate::daemon) fn listeners_of(&self, pool: &Pool) -> Vec<(&ListenerName, &Rc<Held>)> {
        pool.listeners.iter().filter_map(|name| self.listeners.get_key_value(name)).collect()
    }
}

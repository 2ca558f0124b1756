//! A generation as the shell records it: configuration, content of the environment files, programs and
//! listeners, as they were when it was made. Its workers are started from this record, however late.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::program::Memory;
use super::source::read_text;
use crate::config::environment_file;
use crate::config::model::{Config, EnvironmentFile, Pool};
use crate::id::{ListenerName, PoolName};
use crate::listeners::Held;
use crate::os::words;

/// Sockets by the name of their listener. One that several generations have is shared, and closed with the
/// last.
pub(super) type Listeners = BTreeMap<ListenerName, Rc<Held>>;

/// See the module.
pub(super) struct Record {
    pub(super) config: Rc<Config>,
    pub(super) pools: BTreeMap<PoolName, PoolRecord>,
    /// The sockets of the configuration's listeners.
    pub(super) listeners: Listeners,
}

/// What a generation remembers of one pool.
pub(super) struct PoolRecord {
    pub(super) pool: Pool,
    /// `environment` and the content of `environment_files`, which wins.
    pub(super) variables: BTreeMap<String, Value>,
    pub(super) programs: Memory,
}

/// The value of an environment variable.
pub(super) enum Value {
    /// From the configuration, where `${HANDOVER_…}` expands.
    Template(String),
    /// From a file, taken as it is.
    Plain(String),
}

impl Record {
    /// Makes the record of a configuration whose listeners are held.
    ///
    /// # Errors
    /// All environment files that are missing or wrong, for a person.
    pub(super) fn new(config: Rc<Config>, listeners: Listeners) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut pools = BTreeMap::new();
        for (name, pool) in &config.pools {
            let variables = variables(pool).unwrap_or_else(|more| {
                faults.extend(more.into_iter().map(|fault| format!("pool {name}: {fault}")));
                BTreeMap::new()
            });
            let record = PoolRecord { pool: pool.clone(), variables, programs: Memory::default() };
            pools.insert(name.clone(), record);
        }
        if faults.is_empty() { Ok(Self { config, pools, listeners }) } else { Err(faults) }
    }

    /// The sockets that a worker of `pool` gets, in order, each with its name.
    pub(super) fn listeners_of(&self, pool: &Pool) -> Vec<(&ListenerName, &Rc<Held>)> {
        pool.listeners.iter().filter_map(|name| self.listeners.get_key_value(name)).collect()
    }
}

/// Later ones win: `environment`, then the files in their order (as in `systemd.exec(5)`).
fn variables(pool: &Pool) -> Result<BTreeMap<String, Value>, Vec<String>> {
    let mut faults = Vec::new();
    let configured = pool.program.environment.iter();
    let mut variables: BTreeMap<String, Value> =
        configured.map(|(name, value)| (name.clone(), Value::Template(value.clone()))).collect();
    for file in &pool.program.environment_files {
        match read(file) {
            Ok(more) => variables.extend(more.into_iter().map(|(name, value)| (name, Value::Plain(value)))),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

fn read(file: &EnvironmentFile) -> Result<Vec<(String, String)>, String> {
    let path = file.path.display();
    match read_text(&file.path) {
        Ok(text) => environment_file::parse(&text).map_err(|fault| format!("{path}: {fault}")),
        Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("environment file {path}: {}", words(&error))),
    }
}

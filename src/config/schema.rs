//! The keys: the one declaration from which reading, checking, defaults and the reference come.
//!
//! A section is a struct, field for field the TOML. What needs more than one key to be judged is not here
//! but in `resolve`.

mod choices;
mod sections;

pub(super) use self::sections::{File, ListenerKeys, LogKeys, PoolKeys, RestartKeys, RolloutKeys};
pub(super) use choices::{ChannelKind, Mode, ReadyKind};

use toml::de::DeTable;

use super::walk::{Default, Key, Kind, Section};

/// Every section: its path, and its keys.
pub(super) fn sections() -> Vec<(String, &'static [Key])> {
    let mut sections = vec![(String::new(), File::KEYS)];
    let mut next = 0;
    while let Some((path, keys)) = sections.get(next).cloned() {
        let dot = if path.is_empty() { "" } else { "." };
        for (key, kind) in keys.iter().map(|key| (key, (key.kind)())) {
            match kind {
                Kind::Table(inner) => sections.push((format!("{path}{dot}{}", key.name), inner)),
                Kind::Named(inner) => sections.push((format!("{path}{dot}{}.NAME", key.name), inner)),
                Kind::Value(..) | Kind::List(_) => {}
            }
        }
        next += 1;
    }
    sections
}

/// Words of other programs' configurations, and the key that they mean here.
const FOREIGN: &[(&str, &str)] = &[
    ("bind", "address"),
    ("listen", "address"),
    ("port", "address"),
    ("host", "address"),
    ("cmd", "command"),
    ("exec", "command"),
    ("exec_start", "command"),
    ("program", "command"),
    ("args", "command"),
    ("env", "environment"),
    ("env_file", "environment_files"),
    ("environment_file", "environment_files"),
    ("cwd", "directory"),
    ("chdir", "directory"),
    ("workdir", "directory"),
    ("working_directory", "directory"),
    ("processes", "workers"),
    ("replicas", "workers"),
    ("instances", "workers"),
    ("grace", "drain_timeout"),
    ("graceful_timeout", "drain_timeout"),
    ("grace_period", "drain_timeout"),
    ("kill_signal", "stop_signal"),
    ("uid", "user"),
    ("gid", "group"),
    ("rlimits", "limits"),
    ("ulimits", "limits"),
    ("watchdog_sec", "watchdog"),
    ("pidfile", "pid_file"),
];

/// Where a key that is unknown here would be right.
pub(super) fn belongs_to(name: &str) -> Option<String> {
    let has = |keys: &[Key]| keys.iter().any(|key| key.name == name && is_built(key));
    let (path, _) = sections().into_iter().find(|(_, keys)| has(keys))?;
    Some(match path.as_str() {
        "" => format!("`{name}` belongs at the top of the file, before the first [section]"),
        path => format!("`{name}` belongs in [{path}]"),
    })
}

/// Which section a table is that has none of our names, by its keys.
pub(super) fn meant(name: &str, table: &DeTable<'_>) -> Option<String> {
    let score = |keys: &[Key]| keys.iter().filter(|key| table.contains_key(key.name)).count();
    match (score(PoolKeys::KEYS), score(ListenerKeys::KEYS)) {
        (0, 0) => None,
        (pool, listener) if pool >= listener => Some(format!("did you mean [pool.{name}]?")),
        _ => Some(format!("did you mean [listener.{name}]?")),
    }
}

/// What a key is called here that has another name elsewhere.
pub(super) fn known_elsewhere_as(name: &str) -> Option<String> {
    let (_, known) = FOREIGN.iter().find(|(foreign, _)| *foreign == name)?;
    Some(format!("the key for that is `{known}`"))
}

fn is_built(key: &Key) -> bool {
    !matches!(key.default, Default::Later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::walk::{Log, Place};

    #[test]
    fn every_default_is_a_valid_value() {
        let mut log = Log::default();
        let (table, at) = (DeTable::new(), Place::top());
        let _ = File::from_table(&table, &at, &mut log);
        let _ = ListenerKeys::from_table(&table, &at, &mut log);
        let _ = PoolKeys::from_table(&table, &at, &mut log);
        let missing: Vec<String> = log.into_faults().iter().map(ToString::to_string).collect();
        assert_eq!(missing, ["pool: is missing", "command: is missing"]);
    }

    #[test]
    fn every_hint_names_a_key_that_there_is() {
        let known = |name: &str| sections().iter().flat_map(|(_, keys)| *keys).any(|key| key.name == name);
        for (foreign, name) in FOREIGN {
            assert!(known(name), "{foreign} -> {name}");
            assert!(!known(foreign), "{foreign} is a key itself");
        }
    }

    #[test]
    fn no_key_is_declared_twice() {
        for (path, keys) in sections() {
            let names: std::collections::BTreeSet<&str> = keys.iter().map(|key| key.name).collect();
            assert_eq!(names.len(), keys.len(), "{path}");
        }
    }
}

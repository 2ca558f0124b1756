//! What a generation is made of, read: the configuration, the environment files, the programs.
//!
//! All that may block is here, so that it can be done on a thread (`reading`); nothing here touches what is
//! held or runs. What is wrong is collected, so that one fault does not hide the next.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;

use crate::config::environment_file;
use crate::config::expand::expand;
use crate::config::model::{Config, EnvironmentFile, Pool};
use crate::daemon::reload::blocking_jobs::Step;
use crate::daemon::reload::config_source::{Source, read_text};
use crate::daemon::reload::program::{DEFAULT_PATH, Located, Missing};
use crate::id::PoolName;
use crate::os::words;

/// What is to be read.
pub(in crate::daemon) enum Wanted {
    /// The configuration from where it comes.
    Again(Source),
    /// This one.
    Same(Box<Config>),
}

/// What was read.
pub(in crate::daemon) struct Found {
    /// The whole configuration, whatever is wanted of it.
    pub(in crate::daemon) config: Config,
    /// The pools that are wanted.
    pub(in crate::daemon) pools: BTreeMap<PoolName, FoundPool>,
    /// Environment files that are missing or wrong, for a person.
    pub(in crate::daemon) faults: Vec<String>,
}

/// What was read for one pool.
#[derive(Debug)]
pub(in crate::daemon) struct FoundPool {
    /// `environment` and the content of `environment_files`, which wins.
    pub(in crate::daemon) variables: BTreeMap<String, Value>,
    /// `None`: another one for each slot or start.
    pub(in crate::daemon) program: Option<Lookup>,
}

/// A program that was looked up.
#[derive(Debug)]
pub(in crate::daemon) struct Lookup {
    /// The command's first word, expanded.
    pub(in crate::daemon) command: String,
    /// The directory, expanded.
    pub(in crate::daemon) directory: String,
    /// What is there.
    pub(in crate::daemon) found: Result<Located, Missing>,
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Value {
    /// From the configuration, where `${HANDOVER_…}` expands.
    Template(String),
    /// From a file, taken as it is.
    Plain(String),
}

/// Reads what is wanted, for these pools only where some are named. `path`: our own `PATH`.
///
/// # Errors
/// A configuration that cannot be used, for a person.
pub(in crate::daemon) fn read(
    wanted: Wanted,
    pools: Option<&BTreeSet<PoolName>>,
    path: Option<&OsStr>,
    step: &Step,
) -> Result<Found, String> {
    let config = match wanted {
        Wanted::Again(source) => source.read_telling(false, step).map_err(|refused| refused.to_string())?,
        Wanted::Same(config) => *config,
    };
    Ok(look(config, pools, path, step))
}

/// Reads what belongs to a configuration.
pub(in crate::daemon) fn look(
    config: Config,
    pools: Option<&BTreeSet<PoolName>>,
    path: Option<&OsStr>,
    step: &Step,
) -> Found {
    let mut found = Found { config, pools: BTreeMap::new(), faults: Vec::new() };
    for (name, pool) in &found.config.pools {
        if pools.is_some_and(|pools| !pools.contains(name)) {
            continue;
        }
        let (variables, faults) = variables(pool, step);
        found.faults.extend(faults.into_iter().map(|fault| format!("pool {name}: {fault}")));
        let program = program(&found.config.name, name, pool, &variables, path, step);
        found.pools.insert(name.clone(), FoundPool { variables, program });
    }
    found
}

/// Later ones win: `environment`, then the files in their order (as in `systemd.exec(5)`).
fn variables(pool: &Pool, step: &Step) -> (BTreeMap<String, Value>, Vec<String>) {
    let mut faults = Vec::new();
    let configured = pool.program.environment.iter();
    let mut variables: BTreeMap<String, Value> =
        configured.map(|(name, value)| (name.clone(), Value::Template(value.clone()))).collect();
    for file in &pool.program.environment_files {
        step.is(format!("reading {}", file.path.display()));
        match read_file(file) {
            Ok(more) => variables.extend(more.into_iter().map(|(name, value)| (name, Value::Plain(value)))),
            Err(fault) => faults.push(fault),
        }
    }
    (variables, faults)
}

fn read_file(file: &EnvironmentFile) -> Result<Vec<(String, String)>, String> {
    let path = file.path.display();
    match read_text(&file.path) {
        Ok(text) => environment_file::parse(&text).map_err(|fault| format!("{path}: {fault}")),
        Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "environment file {path}: {}\nhint: a file that may be missing is written \"-{path}\"",
            words(&error)
        )),
        Err(error) => Err(format!("environment file {path}: {}", words(&error))),
    }
}

/// Looks the program up, unless slot, worker or generation stand in its name. What is missing is no fault yet:
/// the start will say so, and may find it.
fn program(
    daemon: &str,
    name: &PoolName,
    pool: &Pool,
    variables: &BTreeMap<String, Value>,
    path: Option<&OsStr>,
    step: &Step,
) -> Option<Lookup> {
    let values = BTreeMap::from([("HANDOVER_NAME", daemon.to_owned()), ("HANDOVER_POOL", name.to_string())]);
    let known = |text: &str| expand(text, &values).ok();
    let command = known(pool.program.command.first()?)?;
    let directory = known(pool.program.directory.as_deref().unwrap_or("/"))?;
    let path = match variables.get("PATH") {
        Some(Value::Template(text)) => known(text)?,
        Some(Value::Plain(text)) => text.clone(),
        None => path.unwrap_or(OsStr::new(DEFAULT_PATH)).to_string_lossy().into_owned(),
    };
    step.is(format!("looking for program {command} in directory {directory}"));
    let found = Located::look_up(&command, &directory, &path);
    Some(Lookup { command, directory, found })
}

/// Our own `PATH`, which workers inherit.
pub(in crate::daemon) fn own_path(environment: &[(OsString, OsString)]) -> Option<&OsStr> {
    environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::daemon::ThisMachine;

    fn found(pools: Option<&BTreeSet<PoolName>>, text: &str) -> Found {
        let config = crate::config::parse("a.toml", text, "a", &ThisMachine);
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        look(config, pools, Some(OsStr::new("/bin")), &Step::default())
    }

    #[test]
    fn the_faults_of_all_pools_come_at_once_and_those_that_are_not_wanted_are_left_alone() {
        let pool = |name: &str| {
            format!("[pool.{name}]\ncommand = ['sh']\nenvironment_files = ['/no/{name}', '-/no/such']\n")
        };
        let text = pool("web") + &pool("jobs");
        let all = found(None, &text);
        assert_eq!(all.faults.len(), 2, "{:?}", all.faults);
        assert!(all.faults[0].starts_with("pool jobs: environment file /no/jobs: "), "{:?}", all.faults);
        let web = found(Some(&[PoolName::new("web")].into()), &text);
        assert_eq!((web.faults.len(), web.pools.len(), web.config.pools.len()), (1, 1, 2));
    }

    #[test]
    fn a_program_is_looked_up_where_its_workers_will_find_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("app-web");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = |keys: &str| {
            let text = format!("[pool.web]\n{keys}\n");
            found(None, &text).pools.remove(&PoolName::new("web")).unwrap().program
        };
        let own = program("command = ['sh']").unwrap();
        assert!(own.found.unwrap().program.path.starts_with("/"));
        let elsewhere = format!("environment = {{ PATH = '{}' }}", scratch.path().display());
        let theirs = program(&format!("command = ['app-${{HANDOVER_POOL}}']\n{elsewhere}")).unwrap();
        assert_eq!((theirs.command.as_str(), theirs.found.is_ok()), ("app-web", true));
        assert!(program(&format!("command = ['sh']\n{elsewhere}")).unwrap().found.is_err());
        assert!(program("command = ['/srv/${HANDOVER_SLOT}']").is_none(), "another one for each slot");
    }
}

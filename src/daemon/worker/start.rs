//! From a place in a generation to a start: what is executed, with which environment, fds and limits.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

use crate::config::expand::expand;
use crate::config::model::{Dialect, Pool, Program, Ready, Resource};
use crate::daemon::reload::generation::{PoolRecord, Record};
use crate::daemon::reload::inputs::Value;
use crate::daemon::reload::program::{DEFAULT_PATH, Located, variable};
use crate::daemon::worker::stored::Given;
use crate::id::{ListenerName, WorkerId};
use crate::listeners::Held;
use crate::os::limits;
use crate::os::spawn::{Identity, StartSpec};
use crate::supervisor::{Place, StartFailure};

/// The first fd of a worker after its standard ones (`sd_listen_fds(3)`).
pub(in crate::daemon) const FIRST_FD: RawFd = 3;

/// Variables of our own environment that no worker inherits, beside those that handover sets for it.
const NOT_INHERITED: [&str; 7] = [
    "NODE_UNIQUE_ID",
    "MAINPID",
    "MANAGERPID",
    "FDSTORE",
    "SYSTEMD_EXEC_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

/// What a start needs to know of the daemon itself.
pub(in crate::daemon) struct Surroundings {
    /// The instance's name.
    pub(in crate::daemon) name: String,
    /// Our own environment, without our own runtime directory.
    pub(in crate::daemon) environment: Vec<(OsString, OsString)>,
    /// The limit of open files that we were started with; ours may have been raised since.
    pub(in crate::daemon) open_files: Option<limits::Limit>,
}

/// A start, worked out.
pub(in crate::daemon) struct Plan<'a> {
    pub(in crate::daemon) spec: StartSpec,
    /// The listeners' sockets and what was stored for it, at the numbers that the worker expects.
    pub(in crate::daemon) fds: Vec<(BorrowedFd<'a>, RawFd)>,
    /// The number at which it expects its channel; `None`: it has none.
    pub(in crate::daemon) channel: Option<RawFd>,
    /// The program is not the one that the generation remembers.
    pub(in crate::daemon) program_changed: bool,
    /// The user that it starts as; `None`: our own.
    pub(in crate::daemon) uid: Option<u32>,
}

/// Works out a start. `exact`: only with the program that the generation remembers.
pub(in crate::daemon) fn plan<'a>(
    worker: WorkerId,
    place: &Place,
    exact: bool,
    record: &'a Record,
    surroundings: &Surroundings,
    notify_path: &Path,
    stored: &'a Given,
) -> Result<Plan<'a>, StartFailure> {
    let pool = record
        .pools
        .get(&place.pool)
        .ok_or_else(|| failure("generation", format!("it has no pool {}", place.pool)))?;
    let values = own_values(worker, place, surroundings);
    let listeners = record.listeners_of(&pool.pool);
    let fds = fds(&listeners, stored);
    let channel = channel_fd(&pool.pool, fds.len());
    let mut environment = environment(pool, &values, surroundings, notify_path)?;
    environment.extend(listen_variables(&listeners, stored));
    environment.extend(channel_variables(&pool.pool, channel));
    let (located, changed) = locate(pool, &values, &environment)?;
    if changed && exact {
        let reason =
            format!("{} is not the program of this generation any more", located.program.path.display());
        return Err(StartFailure { program_changed: true, ..failure("program", reason) });
    }
    let program = &pool.pool.program;
    let spec = StartSpec {
        program: located.program.path,
        arguments: arguments(program, &values)?,
        environment,
        directory: located.directory.path,
        listen_pid: program.listen_pid && !fds.is_empty(),
        watchdog_pid: program.watchdog_pid && pool.pool.policy.watchdog.is_some(),
        identity: identity(program),
        umask: program.umask,
        nice: program.nice,
        limits: limits(program, surroundings),
        no_new_privileges: program.no_new_privileges,
        parent_death_signal: Some(pool.pool.policy.stop_signal.0),
    };
    let uid = program.user.as_ref().map(|user| user.uid);
    Ok(Plan { spec, fds, channel, program_changed: changed, uid })
}

fn failure(stage: &str, reason: String) -> StartFailure {
    StartFailure { stage: stage.to_owned(), reason, program_changed: false }
}

/// The variables of handover's own that texts of the configuration may name.
fn own_values(
    worker: WorkerId,
    place: &Place,
    surroundings: &Surroundings,
) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("HANDOVER_NAME", surroundings.name.clone()),
        ("HANDOVER_POOL", place.pool.to_string()),
        ("HANDOVER_SLOT", place.slot.to_string()),
        ("HANDOVER_GENERATION", place.generation.to_string()),
        ("HANDOVER_WORKER", worker.to_string()),
    ])
}

fn expanded(text: &str, values: &BTreeMap<&str, String>, what: &str) -> Result<String, StartFailure> {
    expand(text, values).map_err(|error| failure("expand", format!("{what}: {error}")))
}

fn arguments(program: &Program, values: &BTreeMap<&str, String>) -> Result<Vec<OsString>, StartFailure> {
    program.command.iter().map(|text| expanded(text, values, "command").map(OsString::from)).collect()
}

fn locate(
    pool: &PoolRecord,
    values: &BTreeMap<&str, String>,
    environment: &[(OsString, OsString)],
) -> Result<(Located, bool), StartFailure> {
    let program = &pool.pool.program;
    let command = program.command.first().map_or("", String::as_str);
    let command = expanded(command, values, "command")?;
    let directory = expanded(program.directory.as_deref().unwrap_or("/"), values, "directory")?;
    let path = variable(environment, "PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let recalled = pool.programs.recall(&command, &directory, &path);
    let recalled = recalled.map_err(|missing| failure(missing.stage, missing.reason))?;
    Ok((recalled.located, recalled.changed))
}

/// The listeners' sockets, then what was stored, from the first number on.
fn fds<'a>(
    listeners: &[(&'a ListenerName, &'a Rc<Held>)],
    stored: &'a Given,
) -> Vec<(BorrowedFd<'a>, RawFd)> {
    let sockets = listeners.iter().flat_map(|(_, held)| held.sockets());
    let stored = stored.iter().map(|(_, fd)| fd.as_fd());
    sockets.map(|socket| socket.as_fd()).chain(stored).zip(FIRST_FD..).collect()
}

/// The worker's whole environment; later ones win.
fn environment(
    pool: &PoolRecord,
    values: &BTreeMap<&'static str, String>,
    surroundings: &Surroundings,
    notify_path: &Path,
) -> Result<Vec<(OsString, OsString)>, StartFailure> {
    let inherited = surroundings.environment.iter().filter(|(name, _)| is_inherited(name));
    let mut all: BTreeMap<OsString, OsString> = inherited.cloned().collect();
    all.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    if let Some(user) = &pool.pool.program.user {
        all.insert("HOME".into(), user.home.clone().into());
        all.insert("SHELL".into(), user.shell.clone().into());
        all.insert("USER".into(), user.name.clone().into());
        all.insert("LOGNAME".into(), user.name.clone().into());
    }
    for (name, value) in &pool.variables {
        let value = match value {
            Value::Template(text) => expanded(text, values, name)?,
            Value::Plain(text) => text.clone(),
        };
        all.insert(name.into(), value.into());
    }
    all.insert("NOTIFY_SOCKET".into(), notify_path.into());
    all.extend(values.iter().map(|(name, value)| (OsString::from(*name), OsString::from(value))));
    if let Some(watchdog) = pool.pool.policy.watchdog {
        all.insert("WATCHDOG_USEC".into(), watchdog.as_micros().to_string().into());
    }
    Ok(all.into_iter().collect())
}

/// `LISTEN_FDS` and `LISTEN_FDNAMES`; a listener with several sockets repeats its name. `LISTEN_PID` is
/// set in the worker itself.
fn listen_variables(listeners: &[(&ListenerName, &Rc<Held>)], stored: &Given) -> Vec<(OsString, OsString)> {
    let sockets = listeners.iter().flat_map(|(name, held)| held.sockets().map(|_| name.as_str()));
    let names: Vec<&str> = sockets.chain(stored.iter().map(|(name, _)| name.as_str())).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![
        ("LISTEN_FDS".into(), names.len().to_string().into()),
        ("LISTEN_FDNAMES".into(), names.join(":").into()),
    ]
}

/// The next free number behind those that is not the one of the ready fd.
fn channel_fd(pool: &Pool, before: usize) -> Option<RawFd> {
    let first = FIRST_FD + RawFd::try_from(before).ok()?;
    let number = if ready_fd(pool) == Some(first) { first + 1 } else { first };
    (pool.channel.dialect != Dialect::None).then_some(number)
}

/// By which a program finds its channel.
fn channel_variables(pool: &Pool, fd: Option<RawFd>) -> Vec<(OsString, OsString)> {
    let Some(fd) = fd else { return Vec::new() };
    let number = OsString::from(fd.to_string());
    match pool.channel.dialect {
        Dialect::None => Vec::new(),
        Dialect::Handover => vec![("HANDOVER_CHANNEL".into(), number)],
        // As `child_process.fork()` sets them.
        Dialect::Node { .. } => vec![
            ("NODE_CHANNEL_FD".into(), number),
            ("NODE_CHANNEL_SERIALIZATION_MODE".into(), "json".into()),
        ],
    }
}

fn is_inherited(name: &OsStr) -> bool {
    let reserved = name.to_str().is_some_and(crate::config::is_reserved_variable);
    !reserved && !NOT_INHERITED.iter().any(|not| name == *not)
}

fn identity(program: &Program) -> Option<Identity> {
    let user = program.user.as_ref();
    let group = program.group.as_ref().map(|group| group.gid).or(user.and_then(|user| user.gid));
    let groups: Vec<u32> = program.supplementary_groups.iter().map(|group| group.gid).collect();
    if user.is_none() && program.group.is_none() && groups.is_empty() {
        return None;
    }
    Some(Identity {
        user: user.map(|user| (user.uid, user.gid.map(|_| user.name.clone()))),
        group: group.unwrap_or_else(|| nix::unistd::getegid().as_raw()),
        groups,
    })
}

fn limits(program: &Program, surroundings: &Surroundings) -> Vec<limits::Limit> {
    let configured = program.limits.iter().map(|(resource, limit)| limits::Limit {
        resource: native(*resource),
        soft: limit.soft,
        hard: limit.hard,
    });
    let own = surroundings.open_files.filter(|_| !program.limits.contains_key(&Resource::NoFile));
    own.into_iter().chain(configured).collect()
}

fn native(resource: Resource) -> limits::Resource {
    match resource {
        Resource::As => limits::Resource::As,
        Resource::Core => limits::Resource::Core,
        Resource::Cpu => limits::Resource::Cpu,
        Resource::Data => limits::Resource::Data,
        Resource::FSize => limits::Resource::FSize,
        Resource::MemLock => limits::Resource::MemLock,
        Resource::NoFile => limits::Resource::NoFile,
        Resource::NProc => limits::Resource::NProc,
        Resource::Stack => limits::Resource::Stack,
    }
}

/// The number of the fd by which the worker says that it is ready, where it does so.
pub(in crate::daemon) fn ready_fd(pool: &Pool) -> Option<RawFd> {
    match pool.policy.ready {
        Ready::Fd(number) => Some(number),
        Ready::Notify | Ready::Accept | Ready::Exec => None,
    }
}

//! Where a daemon puts what others must find: its runtime directory and its control socket.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::model::{Config, GroupId};
use crate::control::{Access, paths};
use crate::daemon::boot::run::RunError;
use crate::daemon::boot::runtime_dir::{self, Runtime};
use crate::os::clock;

/// What systemd names the directories in that it made for the unit (`systemd.exec(5)`).
const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";
/// How the name of a private directory begins.
const PRIVATE: &str = "handover-";
/// The letters that follow.
const PRIVATE_LETTERS: usize = 12;
/// A supervisor has locked its directory long before.
const STARTING: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where clients look for a daemon of its name.
    Usual,
    /// With the control socket here, whose directory must exist.
    Socket(PathBuf),
    /// A new directory of an unguessable name, and no control socket.
    Private,
    /// This directory, and no control socket.
    Directory(PathBuf),
}

impl Place {
    /// Takes it. `variables` are the environment's.
    pub(in crate::daemon) fn take(
        &self,
        variables: &BTreeMap<OsString, OsString>,
        config: &Config,
    ) -> Result<Runtime, RunError> {
        let (directory, control) = match self {
            Self::Socket(socket) => (beside(socket), Some(socket.clone())),
            Self::Usual => {
                let surroundings = surroundings(variables);
                let directory = match surroundings.given_to(&config.name) {
                    // With `DynamicUser=` it is a link of systemd's. Whose the directory is and that it is one is looked at
                    // where it leads.
                    Some(given) => given.canonicalize().unwrap_or(given),
                    None => surroundings.directory(&config.name).ok_or(RunError::NoPlace)?,
                };
                let control = directory.join(paths::SOCKET);
                (directory, Some(control))
            }
            Self::Directory(directory) => (directory.clone(), None),
            Self::Private => return private(variables, config),
        };
        let group = find_group(&config.control_group)?;
        Ok(Runtime::take(&directory, control.as_deref(), group.as_ref(), config.pid_file.clone())?)
    }
}

/// The environment as workers are to have it: without the runtime directory that is ours. Other directories that the service
/// manager has made are meant for them.
pub(in crate::daemon) fn without_ours(
    mut variables: BTreeMap<OsString, OsString>,
    runtime: &Runtime,
) -> BTreeMap<OsString, OsString> {
    let Some(list) = variables.remove(OsStr::new(RUNTIME_DIRECTORY)) else { return variables };
    let is_ours = |path: &Path| {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        runtime.is_below(&path)
    };
    let others = list.as_bytes().split(|byte| *byte == b':').filter(|path| !path.is_empty());
    let others: Vec<&[u8]> = others.filter(|path| !is_ours(Path::new(OsStr::from_bytes(path)))).collect();
    if !others.is_empty() {
        variables.insert(RUNTIME_DIRECTORY.into(), OsString::from_vec(others.join(&b':')));
    }
    variables
}

/// A directory of our own in the first place of several where one can be made: it goes with us.
fn private(variables: &BTreeMap<OsString, OsString>, config: &Config) -> Result<Runtime, RunError> {
    let failed = |error| RunError::System("runtime directory", error);
    let name = format!("{PRIVATE}{}", &runtime_dir::unguessable().map_err(failed)?[..PRIVATE_LETTERS]);
    let of_user = variables.get(&OsString::from("XDG_RUNTIME_DIR")).map(PathBuf::from);
    let root = nix::unistd::geteuid().is_root();
    let best = if root { Some(PathBuf::from("/run")) } else { of_user };
    let best = best.filter(|base| base.is_absolute() && base.is_dir());
    let mut tried = None;
    for base in best.into_iter().chain([std::env::temp_dir()]) {
        clear_abandoned(&base);
        match Runtime::take(&base.join(&name), None, None, config.pid_file.clone()) {
            Ok(runtime) => return Ok(runtime),
            Err(error) => tried = Some(error),
        }
    }
    Err(tried.map_or(RunError::NoPlace, RunError::Runtime))
}

/// Removes the private directories of ours whose supervisor is gone: one that was killed leaves its own, and one that is killed
/// again and again would fill the place. What cannot be removed stays.
fn clear_abandoned(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    let ours = nix::unistd::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let letters = name.to_str().and_then(|name| name.strip_prefix(PRIVATE));
        let is_one = letters.is_some_and(|letters| {
            letters.len() == PRIVATE_LETTERS && letters.bytes().all(|letter| letter.is_ascii_hexdigit())
        });
        // Of the entry itself: a link is not followed.
        let is_ours = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == ours);
        if is_one && is_ours && is_old(&entry.path().join("lock")) {
            runtime_dir::remove_abandoned(&entry.path());
        }
    }
}

/// It is there, and not of a supervisor that is just being started.
fn is_old(lock: &Path) -> bool {
    let modified = std::fs::symlink_metadata(lock).and_then(|found| found.modified());
    let age = modified.ok().and_then(|modified| clock::wall_time().duration_since(modified).ok());
    age.is_some_and(|age| age > STARTING)
}

fn surroundings(variables: &BTreeMap<OsString, OsString>) -> paths::Surroundings {
    let variable =
        |name: &str| variables.get(&OsString::from(name)).map(|value| value.to_string_lossy().into_owned());
    paths::Surroundings::from_variables(variable, nix::unistd::geteuid().is_root())
}

/// The directory for the rest of what a daemon needs, where only its socket's place is given.
fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".d");
    PathBuf::from(name)
}

fn find_group(name: &Option<String>) -> Result<Option<GroupId>, RunError> {
    let Some(name) = name else { return Ok(None) };
    let group = crate::config::Facts::group(&crate::daemon::ThisMachine, name);
    let missing = || RunError::System("control_group", io::Error::other(format!("no such group: {name}")));
    group.map(Some).ok_or_else(missing)
}

/// Who may use the control socket.
pub(in crate::daemon) fn access(control_group: &Option<String>) -> Result<Access, RunError> {
    let group = find_group(control_group)?.map(|group| group.gid);
    Ok(Access { owner: nix::unistd::geteuid().as_raw(), group })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;
    use crate::os::lock::Lock;

    #[test]
    fn only_what_a_dead_supervisor_has_left_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let directory = |name: &str, is_old: bool| {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.join("notify")).unwrap();
            std::fs::write(path.join("notify/socket"), "").unwrap();
            let lock = File::create(path.join("lock")).unwrap();
            if is_old {
                lock.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
            path
        };
        let abandoned = directory("handover-0123456789ab", true);
        let living = directory("handover-0123456789ac", true);
        let lock = Lock::take(&living.join("lock")).unwrap();
        File::open(living.join("lock")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let others = [
            directory("handover-0123456789ad", false),
            directory("handover-0123456789", true),
            directory("handover-0123456789xy", true),
        ];
        std::os::unix::fs::symlink(&others[1], base.path().join("handover-0123456789ae")).unwrap();
        clear_abandoned(base.path());
        assert!(!abandoned.exists());
        assert!(living.join("notify/socket").exists());
        assert!(others.iter().all(|other| other.join("notify/socket").exists()));
        drop(lock);
    }
}

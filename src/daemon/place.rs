//! Where a daemon puts what others must find: its runtime directory and its control socket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::run::RunError;
use super::runtime::{self, Runtime};
use crate::config::model::{Config, GroupId};
use crate::control::{Access, paths};

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
    pub(super) fn take(
        &self,
        variables: &BTreeMap<OsString, OsString>,
        config: &Config,
    ) -> Result<Runtime, RunError> {
        let (directory, control) = match self {
            Self::Socket(socket) => (beside(socket), Some(socket.clone())),
            Self::Usual => {
                let directory = surroundings(variables).directory(&config.name).ok_or(RunError::NoPlace)?;
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

/// A directory of our own in the first place of several where one can be made: it goes with us.
fn private(variables: &BTreeMap<OsString, OsString>, config: &Config) -> Result<Runtime, RunError> {
    let failed = |error| RunError::System("runtime directory", error);
    let name = format!("handover-{}", &runtime::unguessable().map_err(failed)?[..12]);
    let of_user = variables.get(&OsString::from("XDG_RUNTIME_DIR")).map(PathBuf::from);
    let root = nix::unistd::geteuid().is_root();
    let best = if root { Some(PathBuf::from("/run")) } else { of_user };
    let best = best.filter(|base| base.is_absolute() && base.is_dir());
    let mut tried = None;
    for base in best.into_iter().chain([std::env::temp_dir()]) {
        match Runtime::take(&base.join(&name), None, None, config.pid_file.clone()) {
            Ok(runtime) => return Ok(runtime),
            Err(error) => tried = Some(error),
        }
    }
    Err(tried.map_or(RunError::NoPlace, RunError::Runtime))
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
    let group = crate::config::Facts::group(&super::ThisMachine, name);
    let missing = || RunError::System("control_group", io::Error::other(format!("no such group: {name}")));
    group.map(Some).ok_or_else(missing)
}

/// Who may use the control socket.
pub(super) fn access(control_group: &Option<String>) -> Result<Access, RunError> {
    let group = find_group(control_group)?.map(|group| group.gid);
    Ok(Access { owner: nix::unistd::geteuid().as_raw(), group })
}

//! Where a daemon puts what others must find: its runtime directory and its control socket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::run::RunError;
use super::runtime::Runtime;
use crate::config::model::{Config, GroupId};
use crate::control::{Access, paths};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where clients look for a daemon of its name.
    Usual,
    /// With the control socket here, whose directory must exist.
    Socket(PathBuf),
}

impl Place {
    /// Takes it. `variables` are the environment's.
    pub(super) fn take(
        &self,
        variables: &BTreeMap<OsString, OsString>,
        config: &Config,
    ) -> Result<Runtime, RunError> {
        let (directory, control) = match self {
            Self::Socket(socket) => (beside(socket), socket.clone()),
            Self::Usual => {
                let directory = surroundings(variables).directory(&config.name).ok_or(RunError::NoPlace)?;
                let control = directory.join(paths::SOCKET);
                (directory, control)
            }
        };
        let group = find_group(&config.control_group)?;
        Ok(Runtime::take(&directory, &control, group.as_ref(), config.pid_file.clone())?)
    }
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

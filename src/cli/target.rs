//! Which daemon a client command means: to the path of a control socket.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::args::Target;
use super::client;
use crate::control::client::ClientError;
use crate::control::paths::{SOCKET, Surroundings};
use crate::daemon::read_text_in_time;
use crate::exit;
use crate::os::words;

/// The longest name of a daemon.
const NAME_MAX: usize = 32;

/// Why it is not clear which daemon is meant, or why there is none.
#[derive(Debug, Error)]
pub(super) enum TargetError {
    /// No daemon runs.
    #[error(
        "no daemon is running that you may talk to\nhint: looked in {places}; --socket names another place"
    )]
    None {
        /// Where we looked.
        places: String,
    },
    /// Only such as we may not talk to.
    #[error(
        "{names}: permission denied\nhint: only root, the daemon's own user and its control_group may connect; try sudo"
    )]
    Closed {
        /// Which.
        names: String,
    },
    /// Several run.
    #[error("several daemons are running: {names}\nhint: say which with --name")]
    Several {
        /// Which.
        names: String,
    },
    /// The configuration cannot be read.
    #[error("{path}: {reason}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl TargetError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::None { .. } | Self::Closed { .. } => exit::NO_DAEMON,
            Self::Several { .. } | Self::Config { .. } => exit::USAGE,
        }
    }
}

/// Checks what is given as `--name`, so that it is one directory below the place of control sockets.
pub(super) fn daemon_name(text: &str) -> Result<String, String> {
    let good = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
    if (1..=NAME_MAX).contains(&text.len()) && text.chars().all(good) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err(format!("a name has 1 to {NAME_MAX} characters of a-z, 0-9, `_`, `.` and `-`"))
    }
}

/// The surroundings of this process.
pub(super) fn surroundings() -> Surroundings {
    let root = nix::unistd::geteuid().is_root();
    Surroundings::from_variables(|name| std::env::var(name).ok(), root)
}

/// Finds the socket, and connects to it where that is how it is found.
pub(super) async fn find(target: &Target, surroundings: &Surroundings) -> Result<PathBuf, TargetError> {
    if let Some(socket) = &target.socket {
        return Ok(socket.clone());
    }
    if let Some(config) = &target.config {
        return Ok(socket_of(&name_of_config(config)?, surroundings));
    }
    match &target.name {
        Some(name) => Ok(socket_of(name, surroundings)),
        None => match surroundings.given_sockets().into_iter().find(|path| path.exists()) {
            Some(socket) => Ok(socket),
            None => only_one(&surroundings.bases()).await,
        },
    }
}

/// The first place where there is a socket; else the likeliest, for the message that nobody is there.
fn socket_of(name: &str, surroundings: &Surroundings) -> PathBuf {
    let sockets = surroundings.sockets_of(name);
    let there = sockets.iter().find(|path| path.exists());
    there.or(sockets.first()).cloned().unwrap_or_default()
}

/// The daemon's name, without judging the rest of the file: a daemon can be asked how it is while its
/// configuration is being repaired.
fn name_of_config(path: &Path) -> Result<String, TargetError> {
    let wrong = |reason: String| TargetError::Config { path: path.to_owned(), reason };
    let text = read_text_in_time(path).map_err(|error| wrong(words(&error)))?;
    let name = match text.parse::<toml::Table>() {
        Ok(table) => table.get("name").and_then(toml::Value::as_str).map(str::to_owned),
        Err(error) => return Err(wrong(format!("{}\nhint: --name needs no file", error.message()))),
    };
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    daemon_name(&name.unwrap_or_else(stem)).map_err(wrong)
}

/// The only daemon that answers.
async fn only_one(bases: &[PathBuf]) -> Result<PathBuf, TargetError> {
    let (mut running, mut closed) = (Vec::new(), Vec::new());
    for socket in bases.iter().flat_map(|base| sockets_below(base)) {
        match client::connect(&socket).await {
            // A daemon that is there and does not answer counts: it is the one to complain about.
            Ok(_) | Err(ClientError::Silent { .. }) => running.push(socket),
            Err(ClientError::Closed { .. }) => closed.push(socket),
            Err(_) => {}
        }
    }
    if running.len() > 1 {
        return Err(TargetError::Several { names: names(&running) });
    }
    if running.is_empty() && !closed.is_empty() {
        return Err(TargetError::Closed { names: names(&closed) });
    }
    running.pop().ok_or_else(|| {
        let places: Vec<_> = bases.iter().map(|base| base.display().to_string()).collect();
        TargetError::None { places: places.join(", ") }
    })
}

/// The daemons' names, from their sockets.
fn names(sockets: &[PathBuf]) -> String {
    let names: Vec<_> = sockets.iter().filter_map(|path| path.parent()?.file_name()?.to_str()).collect();
    names.join(", ")
}

pub(super) fn sockets_below(base: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let mut sockets: Vec<_> =
        entries.map(|entry| entry.path().join(SOCKET)).filter(|path| path.exists()).collect();
    sockets.sort();
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_its_directory() {
        assert!(daemon_name("my-app_2.prod").is_ok());
        for bad in ["", "..", ".hidden", "a/b", "A", "a b", &"x".repeat(33)] {
            assert!(daemon_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn without_a_name_the_only_daemon_that_answers_is_meant() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let base = tempfile::tempdir().unwrap();
        let bases = [base.path().to_owned(), base.path().join("missing")];
        let bind = |name: &str| {
            let directory = base.path().join(name);
            fs::create_dir(&directory).unwrap();
            tokio::net::UnixListener::bind(directory.join(SOCKET)).unwrap()
        };
        let find = || runtime.block_on(only_one(&bases));
        drop(bind("dead"));
        fs::create_dir(base.path().join("empty")).unwrap();
        let error = find().unwrap_err();
        assert_eq!(error.exit_code(), exit::NO_DAEMON, "{error}");
        let _one = bind("one");
        assert_eq!(find().unwrap(), base.path().join("one/control.sock"));
        let _two = bind("two");
        let error = find().unwrap_err();
        assert!(error.to_string().starts_with("several daemons are running: one, two\nhint: "), "{error}");
        assert_eq!(error.exit_code(), exit::USAGE);
    }

    #[test]
    fn a_configuration_names_its_daemon_even_with_faults_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            name_of_config(&path)
        };
        assert_eq!(file("a.toml", "name = \"b\"\n[pool.web]\nworkers = \"many\"").unwrap(), "b");
        assert_eq!(file("a.toml", "").unwrap(), "a");
        assert!(file("a.toml", "name = \"../../tmp\"").is_err());
        assert!(file("a.toml", "name =").unwrap_err().to_string().contains("hint: --name"));
        assert!(name_of_config(Path::new("/nowhere/a.toml")).is_err());
    }
}

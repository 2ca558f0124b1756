//! The end of a daemon, waited for: `handover stop` returns when another one of that name can be started.
//!
//! The answer to a stop comes before that: the daemon then still lets go of its log, its sockets and its lock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{client, console};
use crate::control::client::{Client, ClientError};
use crate::control::paths::SOCKET;
use crate::os::process::{Pidfd, state};

/// How often is looked whether a file is gone, where no process can be waited for.
const LOOK: Duration = Duration::from_millis(50);
/// A daemon that was killed leaves its files; where nobody listens for so long, that is its end.
const DEAD: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Ending {
    socket: PathBuf,
    /// `None`: where the system cannot tell of its end (another pid namespace before Linux 6.5; macOS).
    process: Option<Pidfd>,
    /// The file that it holds as long as it lives, and which one that is.
    lock: Option<(PathBuf, (u64, u64))>,
}

impl Ending {
    /// Of the daemon that `client` is connected to.
    pub(super) fn of(client: &mut Client, socket: &Path) -> Self {
        let lock = client::lock_of(socket).and_then(|path| Some((path.clone(), identity(&path)?)));
        Self { socket: socket.to_owned(), process: client.process().ok(), lock }
    }

    /// Returns when it has ended; `with_process`: the process ends, too, and is not a program that goes on without it.
    pub(super) async fn wait(self, with_process: bool) {
        let ended = async {
            match &self.process {
                Some(process) if with_process => drop(process.exited().await),
                _ => self.is_gone().await,
            }
        };
        let subject = match self.process.as_ref().map(Pidfd::pid).filter(|pid| with_process && *pid > 0) {
            Some(pid) => format!("process {pid}"),
            None => format!("the daemon of {}", self.socket.display()),
        };
        let said = || {
            let state = self.process.as_ref().and_then(|process| state(process.pid()));
            let state = state.map(|state| format!("; state {state}")).unwrap_or_default();
            console::complain(format_args!("the workers have ended, {subject} not yet{state}"));
        };
        client::after_a_second(ended, said).await;
    }

    async fn is_gone(&self) {
        // Without a lock there is nothing that would go with it.
        let Some((path, then)) = &self.lock else { return };
        let mut dead_since: Option<Instant> = None;
        while identity(path) == Some(*then) {
            // The kernel answers for a listener, however busy its process is.
            let is_dead = matches!(Client::connect(&self.socket).await, Err(ClientError::NoDaemon { .. }));
            let since = dead_since.filter(|_| is_dead).or(is_dead.then(Instant::now));
            if since.is_some_and(|since| since.elapsed() > DEAD) {
                return;
            }
            dead_since = since;
            sleep(LOOK).await;
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Where the lock of a daemon may be that has its control socket here.
pub(super) fn locks_of(socket: &Path) -> Vec<PathBuf> {
    let mut beside = socket.as_os_str().to_owned();
    beside.push(".d");
    let usual =
        (socket.file_name().is_some_and(|name| name == SOCKET)).then(|| socket.with_file_name("lock"));
    std::iter::once(PathBuf::from(beside).join("lock")).chain(usual).collect()
}

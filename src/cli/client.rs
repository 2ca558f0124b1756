//! What commands that talk to a daemon share: which one, the request, and what is said where no answer comes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::args::Target;
use super::{console, ending, target};
use crate::control::client::{Answer, Client, ClientError};
use crate::control::document::StatusDocument;
use crate::control::protocol::Request;
use crate::exit;
use crate::os::lock;
use crate::os::process::state;

/// A daemon answers within milliseconds. After this time a person is told that it did not.
const SILENCE: Duration = Duration::from_secs(1);

/// The socket of the daemon that is meant; where that is not clear, says so and gives the exit code.
pub(super) async fn find(target: &Target) -> Result<PathBuf, u8> {
    target::find(target, &target::surroundings()).await.map_err(|error| {
        console::complain(&error);
        error.exit_code()
    })
}

/// Connects; says so where that takes long.
pub(super) async fn connect(socket: &Path) -> Result<Client, ClientError> {
    after_a_second(Client::connect(socket), || say_silent(socket, None)).await
}

/// Sends a request; the answer may still be under way. Says so where it takes long to begin.
pub(super) async fn send(socket: &Path, request: &Request) -> Result<Answer, ClientError> {
    send_on(connect(socket).await?, socket, request).await
}

/// The same on a connection that is there.
pub(super) async fn send_on(client: Client, socket: &Path, request: &Request) -> Result<Answer, ClientError> {
    let pid = client.pid();
    after_a_second(client.send(request), || say_silent(socket, pid)).await
}

/// Asks for the status document, as the daemon wrote it and as this version reads it. Says so where that takes long.
pub(super) async fn status(socket: &Path) -> Result<(String, StatusDocument), ClientError> {
    let client = connect(socket).await?;
    let pid = client.pid();
    after_a_second(client.status(), || say_silent(socket, pid)).await
}

/// What `work` gives; where it has not after a second, `say` is called meanwhile.
pub(super) async fn after_a_second<T>(work: impl Future<Output = T>, say: impl FnOnce()) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = sleep(SILENCE) => say(),
    }
    work.await
}

/// Says on standard error that a daemon does not answer, and what can be seen of it.
pub(super) fn say_silent(socket: &Path, pid: Option<u32>) {
    let pid = pid.or_else(|| lock_of(socket).and_then(|lock| lock::holder_at(&lock)));
    let who = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let state = pid.and_then(state).map(|state| format!("; state {state}")).unwrap_or_default();
    console::complain(format_args!("no answer yet from {}{who}{state}", socket.display()));
}

/// The lock of the daemon that has its control socket here, where it can be found.
pub(super) fn lock_of(socket: &Path) -> Option<PathBuf> {
    ending::locks_of(socket).into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// Says why there is no answer; gives the exit code.
pub(super) fn complain(error: &ClientError) -> u8 {
    console::complain(error);
    match error {
        ClientError::NoDaemon { .. }
        | ClientError::Closed { .. }
        | ClientError::Silent { .. }
        | ClientError::Lost { .. } => exit::NO_DAEMON,
        ClientError::Refused { status: 500.., .. } => exit::NO_DAEMON,
        ClientError::Refused { status: 400, .. } => exit::USAGE,
        ClientError::Refused { .. } | ClientError::Unintelligible { .. } => exit::FAILED,
    }
}

/// Says that an answer broke off before its last line; gives the exit code.
pub(super) fn complain_of_end() -> u8 {
    console::complain("the connection ended: the daemon is gone, or this client was too slow to read");
    exit::NO_DAEMON
}

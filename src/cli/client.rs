//! What commands that talk to a daemon share: which one, the request, and what is said where no answer comes.

use std::path::{Path, PathBuf};

use super::args::Target;
use super::{console, target};
use crate::control::client::{Answer, Client, ClientError};
use crate::control::protocol::Request;
use crate::exit;

/// The socket of the daemon that is meant; where that is not clear, says so and gives the exit code.
pub(super) async fn find(target: &Target) -> Result<PathBuf, u8> {
    target::find(target, &target::surroundings()).await.map_err(|error| {
        console::complain(&error);
        error.exit_code()
    })
}

/// Sends a request; the answer may still be under way.
pub(super) async fn send(socket: &Path, request: &Request) -> Result<Answer, ClientError> {
    Client::connect(socket).await?.send(request).await
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

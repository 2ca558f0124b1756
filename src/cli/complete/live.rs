//! Names that only the running daemons know.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::words::Asked;
use crate::cli::args::Target;
use crate::cli::{console, target};
use crate::control::StatusDocument;
use crate::control::client::Client;
use crate::exit;

/// How long somebody who pressed a key may have to wait.
const PATIENCE: Duration = Duration::from_millis(500);

/// The names of the daemons that run, or of the pools of one of them, or the numbers of its workers; none where that cannot be known in time.
pub(super) fn values(asked: Asked, target: &Target) -> Vec<String> {
    let mut names = Vec::new();
    console::block_on(async {
        let found = timeout(PATIENCE, async {
            match asked {
                Asked::Daemons => daemons().await,
                Asked::Pools => pools(target).await.unwrap_or_default(),
                Asked::Workers => workers(target).await.unwrap_or_default(),
            }
        });
        names = found.await.unwrap_or_default();
        exit::DONE
    });
    names
}

async fn daemons() -> Vec<String> {
    let mut names = Vec::new();
    for base in target::surroundings().bases() {
        for socket in target::sockets_below(&base) {
            let name =
                socket.parent().and_then(|directory| directory.file_name()).map(|name| name.to_owned());
            if let (Ok(_), Some(Ok(name))) =
                (Client::connect(&socket).await, name.map(|name| name.into_string()))
            {
                names.push(name);
            }
        }
    }
    names
}

async fn pools(target: &Target) -> Option<Vec<String>> {
    Some(status(target).await?.pools.into_iter().map(|pool| pool.name).collect())
}

async fn workers(target: &Target) -> Option<Vec<String>> {
    let slots = status(target).await?.pools.into_iter().flat_map(|pool| pool.slots);
    Some(slots.flat_map(|slot| slot.workers).map(|worker| worker.worker.to_string()).collect())
}

async fn status(target: &Target) -> Option<StatusDocument> {
    // A FIFO would have us wait for its writer.
    if target.config.as_ref().is_some_and(|path| !path.is_file()) {
        return None;
    }
    let socket: PathBuf = target::find(target, &target::surroundings()).await.ok()?;
    let (_, document) = Client::connect(&socket).await.ok()?.status().await.ok()?;
    Some(document)
}

//! `handover status`: how the daemon is.

use clap::Args;

use super::args::Target;
use super::{client, console, table, watch};
use crate::control::client::{Client, ClientError};
use crate::control::document::StatusDocument;

/// Show pools, workers, listeners and the rollout, and what it waits for
///
/// The first line tells whether it is fine, and if not, why. With --watch it ends when the daemon does.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print the status document as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Show every slot, also of a pool that has many
    #[arg(long, conflicts_with = "json")]
    pub(super) slots: bool,
    /// Show it again whenever something happens, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Status) -> u8 {
    console::block_on(async {
        let socket = match client::find(&args.target).await {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        if args.watch {
            return watch::watch(&socket, args).await;
        }
        match ask(&socket).await {
            Ok((json, _)) if args.json => console::print(format_args!("{}\n", json.trim_end())),
            Ok((_, document)) => console::print(table::status(&document, args.slots)),
            Err(error) => client::complain(&error),
        }
    })
}

pub(super) async fn ask(socket: &std::path::Path) -> Result<(String, StatusDocument), ClientError> {
    Client::connect(socket).await?.status().await
}

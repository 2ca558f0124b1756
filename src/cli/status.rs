//! `handover status`: how the daemon is.

use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::args::Target;
use super::{client, console, table, timeout as time, watch};
use crate::control::client::{Client, ClientError};
use crate::control::document::StatusDocument;
use crate::exit;

/// Show pools, workers, listeners and the rollout, and what it waits for
///
/// The first line tells whether it is fine, and if not, why. With --watch it ends when the daemon does. With --check the exit
/// code tells it to programs: 0 if what is configured serves, 1 if not, 4 if no daemon answers.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print the status document as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Show every slot, also of a pool that has many
    #[arg(long, conflicts_with = "json")]
    pub(super) slots: bool,
    /// Print the first line only, and exit with 1 unless the service is healthy
    #[arg(long, conflicts_with_all = ["slots", "watch"])]
    check: bool,
    /// Print nothing
    #[arg(short, long, requires = "check", conflicts_with = "json")]
    quiet: bool,
    /// Show it again whenever something happens, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Wait no longer than this for the answer, as in "500ms" or "3s" [default: 15s]
    #[arg(long, value_name = "TIME", value_parser = time::parse, conflicts_with = "watch")]
    timeout: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Status) -> u8 {
    console::block_on(async {
        let Some(limit) = args.timeout else { return show(args).await };
        timeout(limit, show(args)).await.unwrap_or_else(|_| {
            console::complain("timeout: the daemon did not answer");
            exit::TIMED_OUT
        })
    })
}

async fn show(args: &Status) -> u8 {
    let socket = match client::find(&args.target).await {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    if args.watch {
        return watch::watch(&socket, args).await;
    }
    let (json, document) = match client::status(&socket).await {
        Ok(answer) => answer,
        Err(error) => return client::complain(&error),
    };
    let printed = match args {
        Status { quiet: true, .. } => exit::DONE,
        Status { json: true, .. } => console::print(format_args!("{}\n", json.trim_end())),
        Status { check: true, .. } => console::print(table::first_line(&document.daemon)),
        Status { slots, .. } => console::print(table::status(&document, *slots)),
    };
    if args.check && !document.daemon.healthy { exit::FAILED } else { printed }
}

pub(super) async fn ask(socket: &std::path::Path) -> Result<(String, StatusDocument), ClientError> {
    Client::connect(socket).await?.status().await
}

//! `handover restart`: roll with the same configuration.

use clap::Args;

use super::args::{Target, Waiting};
use super::work::Work;
use crate::control::protocol::{self, Request};
use crate::id::PoolName;

/// Replace the workers, with the same configuration
///
/// Waits and tells how it ended like `reload`.
#[derive(Debug, Args)]
pub(super) struct Restart {
    #[command(flatten)]
    waiting: Waiting,
    /// Only this pool; may be given several times
    #[arg(long = "pool", value_name = "POOL")]
    pools: Vec<String>,
    /// Print how it goes and how it ended as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Restart) -> u8 {
    let request = Request::Restart(protocol::Restart {
        pools: args.pools.into_iter().map(PoolName::new).collect(),
        wait: !args.waiting.no_wait,
    });
    Work { target: args.target, request, timeout: args.waiting.timeout, json: args.json }.carry_out()
}

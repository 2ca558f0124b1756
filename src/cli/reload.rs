//! `handover reload`: read the configuration again and roll.

use clap::Args;

use super::args::{Target, Waiting};
use super::work::Work;
use crate::control::protocol::{self, Request};
use crate::id::PoolName;

/// Read the configuration again and replace the workers
///
/// Waits until the new workers serve, and tells by the exit code how it ended: 0 done, 1 rolled back (the
/// old workers serve as before), 2 the configuration was refused (nothing was changed), 3 --timeout passed.
#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    waiting: Waiting,
    /// Only pools whose configuration changed
    #[arg(long)]
    changed: bool,
    /// Only this pool; may be given several times
    #[arg(long = "pool", value_name = "POOL")]
    pools: Vec<String>,
    /// Tell what would be done, and do nothing
    ///
    /// Ends with 0 if it would be done, and with 2 if it would be refused.
    #[arg(long, conflicts_with = "no_wait")]
    dry_run: bool,
    /// Print how it goes and how it ended as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Reload) -> u8 {
    let request = Request::Reload(protocol::Reload {
        pools: args.pools.into_iter().map(PoolName::new).collect(),
        changed: args.changed,
        wait: !args.waiting.no_wait,
        dry_run: args.dry_run,
    });
    Work { target: args.target, request, timeout: args.waiting.timeout, json: args.json }.carry_out()
}

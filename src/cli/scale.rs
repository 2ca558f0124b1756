//! `handover scale`: set the number of slots of a pool.

use clap::Args;

use super::args::{Target, Waiting};
use super::work::Work;
use crate::control::protocol::{self, Request, WORKERS_MAX};
use crate::id::PoolName;

/// Set the number of workers of a pool
///
/// It holds until the daemon ends or --reset, whatever the configuration says; `status` shows it.
#[derive(Debug, Args)]
pub(super) struct Scale {
    /// The pool
    #[arg(value_name = "POOL")]
    pool: String,
    /// The number of workers
    #[arg(
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)),
        required_unless_present = "reset",
        conflicts_with = "reset"
    )]
    workers: Option<u32>,
    /// Back to the number in the configuration
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    waiting: Waiting,
    /// Print how it goes and how it ended as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Scale) -> u8 {
    let request = Request::Scale(protocol::Scale {
        pool: PoolName::new(args.pool),
        workers: args.workers,
        reset: args.reset,
        wait: !args.waiting.no_wait,
    });
    Work { target: args.target, request, timeout: args.waiting.timeout, json: args.json }.carry_out()
}

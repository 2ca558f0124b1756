//! `handover cancel`: roll the running rollout back.

use clap::Args;

use super::args::Target;
use super::work::Work;
use crate::control::protocol::{self, Request};
use crate::id::PoolName;

/// Roll the running rollout back
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// Only if this pool takes part in it
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Print how it goes and how it ended as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Cancel) -> u8 {
    let request = Request::Cancel(protocol::Cancel { pool: args.pool.map(PoolName::new) });
    Work { target: args.target, request, timeout: None, json: args.json }.carry_out()
}

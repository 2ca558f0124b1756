//! `handover stop`: end the daemon.

use clap::Args;

use super::args::Target;
use super::work::Work;
use crate::control::protocol::{self, Request};

/// End the workers and the daemon
///
/// Waits until the workers have ended. Where a service manager started the daemon, ask that one instead.
#[derive(Debug, Args)]
pub(super) struct Stop {
    /// At once, without waiting for what workers have in hand
    #[arg(long)]
    now: bool,
    /// Print how it goes and how it ended as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Stop) -> u8 {
    let request = Request::Stop(protocol::Stop { now: args.now });
    Work { target: args.target, request, timeout: None, json: args.json }.carry_out()
}

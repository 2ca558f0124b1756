//! `handover stop`: end the daemon.

use std::time::Duration;

use clap::Args;

use super::args::Target;
use super::timeout;
use super::work::Work;
use crate::control::protocol::{self, Request};

/// End the workers and the daemon
///
/// Returns when the workers and the daemon have ended, so that another one can be started at once. Where a service manager
/// started the daemon, ask that one instead.
#[derive(Debug, Args)]
pub(super) struct Stop {
    /// At once, without waiting for what workers have in hand
    #[arg(long)]
    now: bool,
    /// Wait no longer than this, as in "90s" or "5min"; the stop goes on
    #[arg(long, value_name = "TIME", value_parser = timeout::parse)]
    timeout: Option<Duration>,
    /// Print how it goes and how it ended as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Stop) -> u8 {
    let request = Request::Stop(protocol::Stop { now: args.now });
    Work { target: args.target, request, timeout: args.timeout, json: args.json }.carry_out()
}

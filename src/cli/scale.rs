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
    /// The number of workers; with a sign, so many more or fewer than there are to be now
    #[arg(
        value_name = "N|+N|-N",
        value_parser = Count::parse,
        allow_negative_numbers = true,
        required_unless_present = "reset",
        conflicts_with = "reset"
    )]
    workers: Option<Count>,
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

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Is(u32),
    By(i32),
}

impl Count {
    /// The daemon adds: two who add one at the same time get two.
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let number = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number: u32 = number
            .filter(|number| (1..=WORKERS_MAX).contains(number))
            .ok_or_else(|| format!("not a number of workers: 1 to {WORKERS_MAX}, as in 4, +1 or -1"))?;
        let by = number.cast_signed();
        Ok(match text.as_bytes()[0] {
            b'+' => Self::By(by),
            b'-' => Self::By(-by),
            _ => Self::Is(number),
        })
    }
}

pub(super) fn run(args: Scale) -> u8 {
    let request = Request::Scale(protocol::Scale {
        pool: PoolName::new(args.pool),
        workers: args
            .workers
            .and_then(|count| if let Count::Is(number) = count { Some(number) } else { None }),
        by: args.workers.and_then(|count| if let Count::By(by) = count { Some(by) } else { None }),
        reset: args.reset,
        wait: !args.waiting.no_wait,
    });
    Work { target: args.target, request, timeout: args.waiting.timeout, json: args.json }.carry_out()
}

//! Where the command line meets the daemon: the only function of `cli` that starts one.

use super::console;
use super::run::RunRequest;
use crate::exit;

/// Runs the daemon until it ends; gives its exit code.
pub fn run(request: &RunRequest) -> u8 {
    // Joined with `daemon::run` when that is there.
    console::complain(format_args!("this build has no daemon for {:?}", request.source));
    exit::FAILED
}

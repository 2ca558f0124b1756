//! Where the command line meets the daemon: the only function of `cli` that starts one.

use super::console;
use crate::daemon::{self, Options, RunError};
use crate::exit;

/// Runs the daemon until it ends; gives its exit code.
pub(super) fn run(options: Options) -> u8 {
    if let Err(error) = std::env::set_current_dir("/") {
        console::complain(format_args!("/: {error}"));
        return exit::FAILED;
    }
    match daemon::run(options) {
        Ok(()) => exit::DONE,
        // It was logged where it happened.
        Err(RunError::Failed(_)) => exit::FAILED,
        Err(RunError::Configuration(refused)) => {
            console::tell(console::printable_lines(&refused.to_string()));
            exit::USAGE
        }
        Err(error) => {
            console::complain(error);
            exit::FAILED
        }
    }
}

//! `handover check`: all faults of a configuration, or its canonical form.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::console;
use crate::config;
use crate::daemon::Source;
use crate::exit;

/// Check a configuration file
///
/// Shows all faults at once; exits with 2 if there is one.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// Print the configuration in its canonical form, every default filled in
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Check) -> u8 {
    // In colour: the console takes it out where it is not wanted.
    match Source::File(args.config.clone()).read(true) {
        Ok(config) if args.print => console::print(config::render::canonical(&config)),
        Ok(_) => {
            let file = args.config.display().to_string();
            console::print(format_args!("{}: no faults\n", console::printable(&file)))
        }
        Err(refused) => {
            console::tell(refused.to_string().trim_end());
            exit::USAGE
        }
    }
}

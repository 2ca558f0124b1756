//! `handover generate systemd`: the units of one configuration.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::files::Files;
use crate::cli::{console, units};
use crate::exit;
use crate::units::made_from;

/// Print the units of systemd for a configuration, or write them
///
/// A service, and a socket unit for each listener. They are those that the generator makes from the files in
/// /etc/handover, and need not be made for these. What systemd cannot do of what the configuration says is told on
/// standard error.
#[derive(Debug, Args)]
pub(super) struct Systemd {
    /// The file; its name without `.toml` names the units
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// Write them into this directory, which must exist, and remove those that were made from the same file before
    /// and are not any more
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// The `handover` that the service runs [default: this one]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    program: Option<PathBuf>,
    /// For a user's own systemd (`systemctl --user`): without what only the machine's has, and can
    #[arg(long)]
    user: bool,
}

pub(super) fn run(args: &Systemd) -> u8 {
    let program = args.program.clone().unwrap_or_else(units::own_program);
    let Some(file) = super::absolute(&args.config) else { return exit::USAGE };
    let units = match units::make(&file, &file, &program, args.user, true) {
        Ok(made) => made.units,
        Err(refused) => {
            console::tell(refused.trim_end());
            return exit::USAGE;
        }
    };
    for note in &units.notes {
        console::complain(note);
    }
    match &args.directory {
        None => {
            let texts: Vec<String> =
                units.units.iter().map(|unit| format!("# {}\n{}", unit.name, unit.text)).collect();
            console::print(texts.join("\n"))
        }
        Some(directory) => {
            let files = units.units.iter().map(|unit| (unit.name.as_str(), unit.text.as_str())).collect();
            let is_made_from = |text: &str, source: &Path| made_from(text) == Some(source);
            Files { directory, files, suffixes: &[".service", ".socket"], source: &file, is_made_from }
                .write()
        }
    }
}

//! `handover generate systemd`: the units of one configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use crate::cli::{console, units};
use crate::exit;
use crate::os::words;
use crate::units::Unit;

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
    /// Write them into this directory, which must exist
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// The `handover` that the service runs [default: this one]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    program: Option<PathBuf>,
}

pub(super) fn run(args: &Systemd) -> u8 {
    let program = args.program.clone().unwrap_or_else(units::own_program);
    let file = match std::path::absolute(&args.config) {
        Ok(file) => file,
        Err(error) => {
            console::complain(format_args!("{}: {}", args.config.display(), words(&error)));
            return exit::USAGE;
        }
    };
    let units = match units::make(&file, &file, &program, true) {
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
        Some(directory) => write(directory, &units.units, &file),
    }
}

/// Writes all of them, or none where one would replace somebody else's.
fn write(directory: &Path, units: &[Unit], file: &Path) -> u8 {
    let foreign = units.iter().map(|unit| directory.join(&unit.name)).find(|path| is_foreign(path, file));
    if let Some(path) = foreign {
        console::complain(format_args!(
            "{}: is there already, and was not made from {}\nhint: rename the one, or remove the other",
            path.display(),
            file.display()
        ));
        return exit::FAILED;
    }
    for unit in units {
        let path = directory.join(&unit.name);
        if let Err(error) = fs::write(&path, &unit.text) {
            console::complain(format_args!("{}: {}", path.display(), words(&error)));
            return exit::FAILED;
        }
        console::tell(path.display());
    }
    exit::DONE
}

fn is_foreign(path: &Path, file: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => {
            !fs::read_to_string(path).is_ok_and(|text| units::is_made_from(&text, file))
        }
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

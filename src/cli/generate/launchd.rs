//! `handover generate launchd`: the job of one configuration.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::files::Files;
use crate::cli::{console, units};
use crate::exit;
use crate::os::user;
use crate::units::launchd::{Job, is_made_from, property_list};

/// Print a configuration's job of launchd, for macOS, or write it
///
/// A property list, with an entry in Sockets for each listener. What launchd cannot do of what the configuration says is
/// told on standard error. It can be made on another machine than the Mac where it is to run; then say with --program
/// where handover is there, and name owners of sockets by their numbers.
#[derive(Debug, Args)]
pub(super) struct Launchd {
    /// The file
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// The job's name [default: handover.NAME]
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Write LABEL.plist into this directory, which must exist, and remove one that was made from the same file before
    /// and has another label
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// The `handover` that the job runs [default: this one]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    program: Option<PathBuf>,
    /// Where launchd puts the log [default: /var/log/NAME.log]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    log: Option<PathBuf>,
}

pub(super) fn run(args: &Launchd) -> u8 {
    let Some(file) = super::absolute(&args.config) else { return exit::USAGE };
    let config = match units::read(&file, &file, true) {
        Ok((config, _)) => config,
        Err(refused) => {
            console::tell(refused.trim_end());
            return exit::USAGE;
        }
    };
    let label = args.label.clone().unwrap_or_else(|| format!("handover.{}", config.name));
    let program = args.program.clone().unwrap_or_else(units::own_program);
    let log = args.log.clone().unwrap_or_else(|| PathBuf::from(format!("/var/log/{}.log", config.name)));
    let job = Job { config: &config, label: &label, program: &program, file: &file, log: &log, uid, gid };
    let list = match property_list(&job) {
        Ok(list) => list,
        Err(error) => {
            console::complain(error);
            return exit::USAGE;
        }
    };
    list.notes.iter().for_each(console::complain);
    match &args.directory {
        None => console::print(&list.text),
        Some(directory) => {
            let files = vec![(list.name.as_str(), list.text.as_str())];
            Files { directory, files, suffixes: &[".plist"], source: &file, is_made_from }.write()
        }
    }
}

/// The number of a user on the Mac: its database knows names, and another machine's does not.
fn uid(name: &str) -> Option<u32> {
    match name {
        "root" => Some(0),
        _ if cfg!(target_os = "macos") => user::user(name).ok().flatten().map(|user| user.uid),
        number => number.parse().ok(),
    }
}

/// The same of a group.
fn gid(name: &str) -> Option<u32> {
    match name {
        "wheel" => Some(0),
        _ if cfg!(target_os = "macos") => user::group(name).ok().flatten().map(|group| group.gid),
        number => number.parse().ok(),
    }
}

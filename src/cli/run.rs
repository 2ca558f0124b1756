//! `handover run`: the daemon, in the foreground.

use std::path::PathBuf;

use clap::Args;

use super::{console, entry, target};
use crate::config::{Flags, Workers};
use crate::exit;

/// What the daemon is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Where the configuration comes from.
    pub source: Source,
    /// `--socket`: where to put the control socket instead of the usual place.
    pub socket: Option<PathBuf>,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// The command line; a reload finds the same again.
    Flags(Flags),
    /// A text that is part of the program; a reload finds the same again.
    Text {
        /// The daemon's name.
        name: String,
        /// TOML.
        text: String,
    },
}

/// Run the daemon, in the foreground
///
/// With a configuration file, or with a command after `--` and the few flags that it needs:
///
///     handover run /etc/handover/myapp.toml
///     handover run -l 0.0.0.0:8080 -n 4 -- ./myapp --serve
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Run {
    /// The configuration file
    #[arg(value_name = "CONFIG", required_unless_present = "command", conflicts_with = "command")]
    config: Option<PathBuf>,
    /// Listen here: HOST:PORT, or an address as in the file; may be given several times
    #[arg(short, long, value_name = "[NAME=]ADDRESS", conflicts_with = "config")]
    listen: Vec<String>,
    /// The number of workers, or `auto` [default: 1]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "config")]
    workers: Option<Workers>,
    /// When a worker is ready: `exec` (at once) or `notify` (it says READY=1) [default: exec]
    #[arg(long, value_name = "MODE", conflicts_with = "config")]
    ready: Option<String>,
    /// The name of the daemon [default: that of the program]
    #[arg(long, value_name = "NAME", conflicts_with = "config", value_parser = target::daemon_name)]
    name: Option<String>,
    /// Put the control socket here
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    fn request(self) -> Option<RunRequest> {
        let source = match self.config {
            Some(file) => Source::File(file),
            None if self.command.is_empty() => return None,
            None => Source::Flags(Flags {
                listen: self.listen,
                workers: self.workers,
                ready: self.ready,
                name: self.name,
                command: self.command,
            }),
        };
        Some(RunRequest { source, socket: self.socket })
    }
}

pub(super) fn run(args: Run) -> u8 {
    match args.request() {
        Some(request) => entry::run(&request),
        None => {
            console::complain("neither a configuration file nor a command");
            exit::USAGE
        }
    }
}

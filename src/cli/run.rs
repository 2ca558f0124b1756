//! `handover run`: the daemon, in the foreground.

use std::io;
use std::path::{PathBuf, absolute};

use clap::{Args, ValueHint};

use super::{console, entry, target};
use crate::config::{Flags, Workers};
use crate::daemon::{Options, Source};
use crate::exit;

/// What `handover run --help` says. No doc comment: rustdoc would take its examples for Rust.
const HELP: &str = "\
Run the daemon, in the foreground

With a configuration file, or with a command after `--` and the few flags that it needs:

    handover run /etc/handover/myapp.toml
    handover run -l 0.0.0.0:8080 -n 4 -- ./myapp --serve";

/// Run the daemon, in the foreground
#[derive(Debug, Args)]
#[command(long_about = HELP)]
pub(super) struct Run {
    /// The configuration file
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath, required_unless_present = "command", conflicts_with = "command")]
    config: Option<PathBuf>,
    /// Listen here: HOST:PORT, or an address as in the file; may be given several times
    #[arg(short, long, value_name = "[NAME=]ADDRESS", conflicts_with = "config")]
    listen: Vec<String>,
    /// The number of workers, or `auto` [default: 1]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "config")]
    workers: Option<Workers>,
    /// When a worker is ready: `accept` (it waits on its listeners), `notify` (it sends READY=1) or `exec` (it stays for two
    /// seconds) [default: accept; without -l: exec]
    #[arg(long, value_name = "MODE", conflicts_with = "config")]
    ready: Option<String>,
    /// The name of the daemon [default: that of the program]
    #[arg(long, value_name = "NAME", conflicts_with = "config", value_parser = target::daemon_name)]
    name: Option<String>,
    /// Put the control socket here
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    /// Paths are made absolute: the daemon itself runs from `/`, so that it keeps no directory busy.
    fn options(self) -> io::Result<Option<Options>> {
        let source = match self.config {
            Some(file) => Source::File(absolute(file)?),
            None if self.command.is_empty() => return Ok(None),
            None => Source::Flags {
                flags: Flags {
                    listen: self.listen,
                    workers: self.workers,
                    ready: self.ready,
                    name: self.name,
                    command: self.command,
                },
                directory: std::env::current_dir()?,
            },
        };
        Ok(Some(Options { source, socket: self.socket.map(absolute).transpose()? }))
    }
}

pub(super) fn run(args: Run) -> u8 {
    match args.options() {
        Ok(Some(options)) => entry::run(options),
        Ok(None) => {
            console::complain("neither a configuration file nor a command");
            exit::USAGE
        }
        Err(error) => {
            console::complain(format_args!("working directory: {error}"));
            exit::FAILED
        }
    }
}

//! The `handover` command.
//!
//! One file a command. `args` is the only declaration of what can be typed; a command turns its part of that into a
//! request to the control API (or into a `run::RunRequest` for the daemon), and the answer into text and an
//! exit code of [`crate::exit`]. Only this module prints; what it prints goes to standard output if it was asked
//! for, and to standard error if it tells how things go.

mod args;
mod cancel;
mod check;
mod client;
mod complete;
mod console;
mod demo;
mod demo_worker;
mod ending;
pub mod entry;
mod events;
mod generate;
mod hints;
mod live;
mod plan;
mod reload;
mod restart;
mod rows;
pub mod run;
mod scale;
mod send;
mod status;
mod stop;
mod systemd_generator;
mod table;
mod target;
mod terminal;
mod timeout;
mod units;
mod watch;
mod work;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

use crate::exit;

/// Runs the command that the process was started with; gives its exit code.
pub fn main() -> ExitCode {
    match Cli::try_parse_from(systemd_generator::words(std::env::args_os().collect())) {
        Ok(cli) => dispatch(cli.command),
        Err(error) => {
            // Help that is cut off by `head` is no failure.
            let _ = error.print();
            let words: Vec<String> =
                std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            if let Some(hint) = hints::of(error.kind(), &words) {
                console::tell(format_args!("hint: {hint}"));
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
        }
    }
}

fn dispatch(command: Command) -> ExitCode {
    ExitCode::from(match command {
        Command::DemoWorker => return demo_worker::serve(),
        Command::Complete(args) => complete::run(&args),
        Command::SystemdGenerator(args) => systemd_generator::run(&args),
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Reload(args) => reload::run(args),
        Command::Restart(args) => restart::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Scale(args) => scale::run(args),
        Command::Stop(args) => stop::run(args),
        Command::Send(args) => send::run(args),
        Command::Generate(args) => generate::run(args),
    })
}

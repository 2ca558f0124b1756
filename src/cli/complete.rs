//! `handover __complete`: what could be typed next, for the scripts of `handover generate completions`.
//!
//! It stands between a key press and the prompt: it says nothing of what goes wrong, and it is soon done, whatever
//! the daemon does. Each line is a candidate, a tab and what it means; `:files` asks the shell to offer files.

mod live;
mod words;

use clap::{Args, CommandFactory};

use super::args::Cli;
use super::console;
use words::Candidates;

/// The words of the line so far.
#[derive(Debug, Args)]
pub(super) struct Complete {
    /// The words after the program's name, up to the one that is being typed
    #[arg(last = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &Complete) -> u8 {
    let mut command = Cli::command();
    command.build();
    let Candidates { found, files } = words::complete(&command, &args.words, live::values);
    let lines = found.iter().map(|(value, help)| format!("{value}\t{help}\n"));
    let files = files.then(|| ":files\n".to_owned());
    console::print(lines.chain(files).collect::<String>())
}

//! From the words of a line to what could come next, by the declaration of the command line.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, ValueHint};

use crate::cli::args::Target;

/// Names that only running daemons know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The daemons that run.
    Daemons,
    /// The pools of one of them.
    Pools,
    /// The numbers of its workers.
    Workers,
}

/// What could come next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    /// Words, and what each means.
    pub(super) found: Vec<(String, String)>,
    /// Files as well.
    pub(super) files: bool,
}

/// Completes the last of `words`; `live` gives the names that the declaration does not know.
pub(super) fn complete(
    top: &Command,
    words: &[String],
    live: impl Fn(Asked, &Target) -> Vec<String>,
) -> Candidates {
    let (current, before) = words.split_last().map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
    let mut line = Line::new(top);
    before.iter().for_each(|word| line.take(word));
    let mut candidates = line.next(current, live);
    candidates.found.retain(|(value, _)| value.starts_with(current));
    candidates
}

/// What the words so far have led to.
struct Line<'a> {
    command: &'a Command,
    positional: usize,
    /// The option that waits for its value.
    pending: Option<&'a Arg>,
    /// After `--`.
    escaped: bool,
    given: Vec<&'a str>,
    target: Target,
}

impl<'a> Line<'a> {
    fn new(command: &'a Command) -> Self {
        Self {
            command,
            positional: 0,
            pending: None,
            escaped: false,
            given: Vec::new(),
            target: Target::default(),
        }
    }

    fn take(&mut self, word: &str) {
        if let Some(option) = self.pending.take() {
            self.note(option, word);
        } else if self.escaped {
        } else if word == "--" {
            self.escaped = true;
        } else if let Some((option, value)) = self.option(word) {
            self.given.push(option.get_id().as_str());
            match value {
                Some(value) => self.note(option, value),
                None if takes_value(option) => self.pending = Some(option),
                None => {}
            }
        } else if let Some(command) = self.command.find_subcommand(word) {
            (self.command, self.positional) = (command, 0);
        } else if !word.starts_with('-') {
            self.positional += 1;
        }
    }

    /// Keeps what tells which daemon is meant.
    fn note(&mut self, option: &Arg, value: &str) {
        match option.get_id().as_str() {
            "name" => self.target.name = Some(value.to_owned()),
            "config" => self.target.config = Some(PathBuf::from(value)),
            "socket" => self.target.socket = Some(PathBuf::from(value)),
            _ => {}
        }
    }

    /// The option that a word is, and the value in the same word.
    fn option<'w>(&self, word: &'w str) -> Option<(&'a Arg, Option<&'w str>)> {
        let mut options = self.command.get_arguments().filter(|arg| !arg.is_positional());
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            return Some((options.find(|arg| arg.get_long() == Some(name))?, value));
        }
        let mut letters = word.strip_prefix('-')?.chars();
        let letter = letters.next()?;
        let option = options.find(|arg| arg.get_short() == Some(letter))?;
        Some((option, Some(letters.as_str()).filter(|rest| !rest.is_empty())))
    }

    fn next(&self, current: &str, live: impl Fn(Asked, &Target) -> Vec<String>) -> Candidates {
        if let Some(option) = self.pending {
            return self.values(option, "", live);
        }
        if self.escaped {
            return Candidates { files: true, ..Candidates::default() };
        }
        if let Some((name, _)) = current.split_once('=').filter(|_| current.starts_with("--")) {
            return match self.option(current) {
                Some((option, _)) => self.values(option, &format!("{name}="), live),
                None => Candidates::default(),
            };
        }
        let subcommands = self.command.get_subcommands().filter(|command| !command.is_hide_set());
        let mut candidates = Candidates {
            found: subcommands.map(|sub| (sub.get_name().to_owned(), text(sub.get_about()))).collect(),
            files: false,
        };
        let positional = self.command.get_positionals().filter(|arg| !arg.is_last_set()).nth(self.positional);
        if let Some(positional) = positional {
            let values = self.values(positional, "", live);
            candidates.found.extend(values.found);
            candidates.files = values.files;
        }
        if current.starts_with('-') || (candidates.found.is_empty() && !candidates.files) {
            candidates.found.extend(self.options());
        }
        candidates
    }

    /// The options that can still be given.
    fn options(&self) -> impl Iterator<Item = (String, String)> {
        let again = |arg: &Arg| matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
        let options = self.command.get_arguments().filter(move |arg| {
            !arg.is_hide_set() && (again(arg) || !self.given.contains(&arg.get_id().as_str()))
        });
        options.filter_map(|arg| Some((format!("--{}", arg.get_long()?), text(arg.get_help()))))
    }

    fn values(&self, arg: &Arg, prefix: &str, live: impl Fn(Asked, &Target) -> Vec<String>) -> Candidates {
        let mut candidates = Candidates { files: is_path(arg), ..Candidates::default() };
        let known = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
        let known = known.map(|value| (value.get_name().to_owned(), text(value.get_help())));
        let live = asked(self.command, arg).map(|asked| live(asked, &self.target)).unwrap_or_default();
        let found = known.chain(live.into_iter().map(|name| (name, String::new())));
        candidates.found = found.map(|(value, help)| (format!("{prefix}{value}"), help)).collect();
        candidates
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn is_path(arg: &Arg) -> bool {
    matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
}

/// What daemons must be asked for the values of an argument.
fn asked(command: &Command, arg: &Arg) -> Option<Asked> {
    match arg.get_id().as_str() {
        "pool" | "pools" => Some(Asked::Pools),
        "worker" => Some(Asked::Workers),
        // The name that a new daemon is to have is none that there is.
        "name" if command.get_name() != "run" => Some(Asked::Daemons),
        _ => None,
    }
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    let text = styled.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;

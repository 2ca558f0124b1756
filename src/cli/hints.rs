//! What may have been meant by a command line that is none, where that can be guessed.

use clap::error::ErrorKind;

/// What people type who know other programs, and what it is here.
const FOREIGN: &[(&[&str], &str)] = &[
    (&["start", "up", "serve", "daemon", "launch"], "`handover run CONFIG` is the daemon, in the foreground"),
    (
        &["list", "ls", "ps", "show", "info", "workers"],
        "`handover status` shows pools, workers and listeners",
    ),
    (
        &["log", "logs", "tail"],
        "the log goes to the daemon's standard error: under systemd `journalctl -u UNIT` shows it, the last lines of each worker are in `handover status --json`",
    ),
    (
        &["test", "configtest", "validate", "verify", "lint"],
        "`handover check CONFIG` shows all faults of a configuration",
    ),
    (&["kill", "quit", "shutdown", "exit", "down"], "`handover stop` ends the workers and the daemon"),
    (
        &["deploy", "rollout", "update", "refresh", "hup"],
        "`handover reload` replaces the workers, start-first",
    ),
    (&["rollback", "undo", "abort"], "`handover cancel` rolls the running rollout back"),
    (
        &["message", "msg", "tell", "notify", "broadcast", "publish"],
        "`handover send TEXT` sends a message to workers",
    ),
    (&["version"], "`handover --version`"),
    (&["help"], "`handover --help`, and `handover COMMAND --help`"),
];

/// The hint for a command line that was refused; `words` are those after the program's name.
pub(super) fn of(kind: ErrorKind, words: &[String]) -> Option<String> {
    let command = words.iter().find(|word| !word.starts_with('-'))?;
    let escaped = words.iter().any(|word| word == "--");
    match (kind, command.as_str()) {
        (ErrorKind::InvalidSubcommand, file) if file.ends_with(".toml") => Some(format!("`handover run {file}`")),
        (ErrorKind::InvalidSubcommand, word) => {
            let (_, hint) = FOREIGN.iter().find(|(words, _)| words.contains(&word))?;
            Some((*hint).to_owned())
        }
        (ErrorKind::UnknownArgument | ErrorKind::ArgumentConflict, "run") if !escaped => {
            Some("a program and its arguments stand after `--`: handover run -l 127.0.0.1:8080 -- ./server --its-option".to_owned())
        }
        (ErrorKind::MissingRequiredArgument, "run") => {
            Some("a configuration file, or a program after `--`: handover run -l 127.0.0.1:8080 -- ./server".to_owned())
        }
        (ErrorKind::UnknownArgument, command @ ("reload" | "restart" | "cancel")) => {
            let pool = words.iter().skip_while(|word| *word != command).nth(1)?;
            (!pool.starts_with('-')).then(|| format!("a pool is named with --pool: `handover {command} --pool {pool}`"))
        }
        (ErrorKind::MissingRequiredArgument, "scale") => {
            Some("the pool, then the number of its workers: `handover scale web 4`".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Cli;

    fn hint(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error =
            Cli::try_parse_from(std::iter::once("handover".to_owned()).chain(words.clone())).unwrap_err();
        of(error.kind(), &words)
    }

    #[test]
    fn what_was_meant_is_guessed_from_what_others_have() {
        for (line, meant) in [
            ("app.toml", "handover run app.toml"),
            ("start", "handover run"),
            ("logs -f", "journalctl"),
            ("run -l 127.0.0.1:80 ./server", "after `--`"),
            ("run python3 server.py", "after `--`"),
            ("run -n 4", "after `--`"),
            ("reload web", "handover reload --pool web"),
            ("scale 4", "handover scale web 4"),
        ] {
            let hint = hint(line).unwrap_or_else(|| panic!("no hint for {line:?}"));
            assert!(hint.contains(meant), "{line}: {hint}");
        }
        assert_eq!(hint("relaod"), None, "clap has the nearest word itself");
    }

    #[test]
    fn no_hint_is_for_a_command_that_there_is() {
        for word in FOREIGN.iter().flat_map(|(words, _)| *words) {
            assert!(hint(word).is_some(), "{word}");
        }
    }
}

use clap::CommandFactory;

use super::*;
use crate::cli::args::Cli;

/// Completes a line, in which `|` is the cursor, with daemons `one` and `two` that have pools `web` and `api`.
fn after(line: &str) -> Candidates {
    let mut command = Cli::command();
    command.build();
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    complete(&command, &words, |asked, target| match asked {
        Asked::Daemons => vec!["one".into(), "two".into()],
        Asked::Pools if target.name.as_deref() == Some("other") => vec!["else".into()],
        Asked::Pools if target.socket.is_some() => vec!["by-socket".into()],
        Asked::Pools => vec!["web".into(), "api".into()],
        Asked::Workers => vec!["17".into(), "23".into()],
    })
}

fn values(line: &str) -> Vec<String> {
    after(line).found.into_iter().map(|(value, _)| value).collect()
}

#[test]
fn commands_are_offered_with_what_they_do_and_without_the_hidden_ones() {
    let found = after("").found;
    assert!(found.iter().any(|(name, help)| name == "reload" && help.contains("replace the workers")));
    assert!(found.iter().all(|(name, _)| !name.starts_with("__")), "{found:?}");
    assert_eq!(values("relo"), ["reload"]);
    assert_eq!(values("generate comp"), ["completions"]);
}

#[test]
fn pools_are_those_of_the_daemon_that_the_line_names() {
    assert_eq!(values("reload --pool w"), ["web"]);
    assert_eq!(values("reload --pool="), ["--pool=web", "--pool=api"]);
    assert_eq!(values("scale "), ["web", "api"]);
    assert_eq!(values("send --worker "), ["17", "23"]);
    assert_eq!(values("scale --name other "), ["else"]);
    assert_eq!(values("reload --name=other --pool "), ["else"]);
    assert_eq!(values("cancel --socket /x --pool "), ["by-socket"]);
    assert!(values("scale web ").iter().all(|word| word.starts_with("--")), "a number is not known");
}

#[test]
fn daemons_are_offered_to_clients_only() {
    assert_eq!(values("status --name t"), ["two"]);
    assert_eq!(values("run --name "), [""; 0]);
}

#[test]
fn options_are_offered_once_unless_they_may_be_repeated() {
    assert!(values("reload --").contains(&"--changed".to_owned()));
    assert!(!values("reload --changed --").contains(&"--changed".to_owned()));
    assert!(values("reload --pool web --").contains(&"--pool".to_owned()));
    assert_eq!(values("generate completions "), ["bash", "fish", "zsh"]);
}

#[test]
fn files_are_left_to_the_shell() {
    for line in
        ["check ", "run ", "status --config ", "status --config=", "run --socket x -- ", "reload --socket "]
    {
        let Candidates { found, files } = after(line);
        assert!(files && found.is_empty(), "{line}: {found:?}");
    }
    assert!(!after("reload ").files);
}

#[test]
fn every_argument_with_a_value_is_completed_or_known_to_be_free() {
    const FREE: &[&str] = &[
        "timeout", "listen", "workers", "ready", "command", "words", "name", "label", "text", "data", "slot",
    ];
    let mut command = Cli::command();
    command.build();
    let mut commands: Vec<&Command> = vec![&command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        for arg in command.get_arguments().filter(|arg| takes_value(arg)) {
            let known =
                is_path(arg) || asked(command, arg).is_some() || !arg.get_possible_values().is_empty();
            assert!(known || FREE.contains(&arg.get_id().as_str()), "{} {arg}", command.get_name());
        }
    }
}

#[test]
fn no_line_makes_it_panic() {
    for line in [
        "--",
        "-",
        "=",
        "--=",
        "-- x",
        "--pool",
        "nonsense --pool ",
        "-n",
        "run -n4 ",
        "reload --pool --pool ",
    ] {
        let _ = after(line);
    }
}

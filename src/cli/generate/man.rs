//! The manual pages: `handover(1)` from the command line's declaration, `handover.toml(5)` from that of the keys, and
//! from a text each for what no declaration knows.

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory, ValueEnum};

use super::roff::Roff;
use crate::cli::args::Cli;
use crate::config::reference;

/// When the texts were last looked over; pages are dated by that, so that making them anew changes nothing.
const DATE: &str = "2026-11-22";
/// The heading of what all client commands take; said once.
const SHARED: &str = "Which daemon";

/// A manual page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Page {
    /// The command
    #[value(name = "handover.1")]
    Command,
    /// The configuration
    #[value(name = "handover.toml.5")]
    Configuration,
}

impl Page {
    pub(super) const ALL: [Self; 2] = [Self::Command, Self::Configuration];

    /// The name of its file.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Command => "handover.1",
            Self::Configuration => "handover.toml.5",
        }
    }

    /// What `man` reads.
    pub(super) fn text(self) -> String {
        match self {
            Self::Command => command_page(),
            Self::Configuration => configuration_page(),
        }
    }
}

fn command_page() -> String {
    let mut top = Cli::command();
    top.build();
    let commands: Vec<&Command> = top.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let mut page = Roff::new("HANDOVER", 1, DATE);
    page.section("NAME");
    page.paragraph("handover - holds listening sockets and replaces the workers that serve them");
    page.section("SYNOPSIS");
    let usages: Vec<String> = commands.iter().flat_map(|command| synopses(command)).collect();
    page.block(&usages.join("\n"));
    page.markdown(include_str!("handover.1.head.md"));
    page.section("COMMANDS");
    commands.iter().for_each(|command| describe(&mut page, command));
    page.section("WHICH DAEMON");
    page.paragraph(
        "Every client command takes one of these; without any, the only daemon that runs is meant.",
    );
    let status = commands.iter().find(|command| command.get_name() == "status");
    let shared = status.into_iter().flat_map(|command| command.get_arguments()).filter(|arg| is_shared(arg));
    shared.for_each(|arg| option(&mut page, arg));
    page.markdown(include_str!("handover.1.tail.md"));
    page.text()
}

fn configuration_page() -> String {
    let mut page = Roff::new("HANDOVER.TOML", 5, DATE);
    page.section("NAME");
    page.paragraph("handover.toml - the configuration of handover");
    page.section("DESCRIPTION");
    page.markdown(reference::introduction());
    for section in reference::sections() {
        match section.path.as_str() {
            "" => page.section("KEYS AT THE TOP"),
            path => page.section(&format!("[{path}]")),
        }
        for key in section.keys.iter().filter(|key| key.is_built) {
            let default = match key.default.as_str() {
                "required" => "Required.".to_owned(),
                default => format!("Default: {default}."),
            };
            page.item(&format!("`{}` ({})", key.name, key.kind), &format!("{} {default}", key.meaning));
        }
    }
    page.section("SEE ALSO");
    page.paragraph("`handover`(1), `systemd.time`(7), `setrlimit`(2)");
    page.text()
}

/// `handover scale [OPTIONS] POOL [N]`, and the same of commands within a command.
fn synopses(command: &Command) -> Vec<String> {
    let within: Vec<String> = command.get_subcommands().flat_map(synopses).collect();
    if !within.is_empty() {
        return within;
    }
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").lines().map(|line| line.trim().to_owned()).collect()
}

fn describe(page: &mut Roff, command: &Command) {
    if command.has_subcommands() {
        command.get_subcommands().for_each(|command| describe(page, command));
        return;
    }
    page.subsection(&synopses(command).join(", "));
    prose(page, command.get_long_about().or(command.get_about()));
    let own = command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_shared(arg));
    own.filter(|arg| arg.get_id() != "help").for_each(|arg| option(page, arg));
}

/// The help of a command: what is indented is an example.
fn prose(page: &mut Roff, text: Option<&StyledStr>) {
    let text = text.map(ToString::to_string).unwrap_or_default();
    for part in text.split("\n\n") {
        match part.lines().all(|line| line.starts_with("    ")) {
            true => page.block(&part.replace("\n    ", "\n")[4..]),
            false => page.paragraph(&sentence(&part.replace('\n', " "))),
        }
    }
}

fn option(page: &mut Roff, arg: &Arg) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    let takes_value = arg.get_action().takes_values();
    let names = arg.get_short().map(|short| format!("`-{short}`")).into_iter();
    let names: Vec<String> = names.chain(arg.get_long().map(|long| format!("`--{long}`"))).collect();
    let tag = match (names.is_empty(), takes_value) {
        (true, _) => values,
        (false, true) => format!("{} {values}", names.join(", ")),
        (false, false) => names.join(", "),
    };
    let words: Vec<String> =
        arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let words = if takes_value && !words.is_empty() {
        format!(" One of {}.", words.join(", "))
    } else {
        String::new()
    };
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let default = if takes_value && !defaults.is_empty() {
        format!(" Default: {}.", defaults.join(" "))
    } else {
        String::new()
    };
    page.item(&tag, &format!("{}{words}{default}", sentence(&help)));
}

fn is_shared(arg: &Arg) -> bool {
    arg.get_help_heading() == Some(SHARED)
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', ':', ']']) { text.to_owned() } else { format!("{text}.") }
}

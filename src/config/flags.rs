//! A configuration from the command line, for `handover run` without a file.
//!
//! The flags are written down as the file that says the same, and read like any other: so flags and files
//! have the same checks and defaults. Only the names of what was wrong are turned back into flags.

use std::fmt;
use std::fmt::Write;
use std::path::Path;

use super::error::Fault;
use super::facts::Facts;
use super::model::Config;
use super::names::fit_name;
use super::parse::parse;
use super::render::{quote, quote_key};

/// The name of the only pool.
const POOL: &str = "main";

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-l`: addresses, or `NAME=ADDRESS`. Without a name the first is `http`, the others `listener1`, ….
    pub listen: Vec<String>,
    /// `-n`; one where it is not given.
    pub workers: Option<Workers>,
    /// `--ready`; where it is not given, `accept` with listeners and `exec` without. `fd` needs a file, because it needs a number as well.
    pub ready: Option<String>,
    /// `--name`; the file stem of the program, made to fit, where it is not given.
    pub name: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// So many.
    Count(u32),
    /// As many as there are cores for this process.
    Auto,
}

impl std::str::FromStr for Workers {
    type Err = String;

    /// A number from 1 to 10000, or `auto`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Count).map_err(|_| "neither a number nor `auto`".to_owned()),
        }
    }
}

/// One flag that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagFault {
    /// As it was given: `-l http=:80`; `COMMAND` for the program.
    pub flag: String,
    /// What is wrong: a lower-case fragment that follows the flag.
    pub reason: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for FlagFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flag, self.reason)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

/// All flags that are wrong: at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FlagFaults(pub Vec<FlagFault>);

impl fmt::Display for FlagFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Makes the configuration that the flags stand for.
///
/// # Errors
/// All flags that are wrong, at once.
pub fn from_flags(flags: &Flags, facts: &dyn Facts) -> Result<Config, FlagFaults> {
    let listeners = named(&flags.listen);
    let repeated: Vec<FlagFault> = listeners
        .iter()
        .enumerate()
        .filter(|(index, listener)| listeners[..*index].iter().any(|other| other.name == listener.name))
        .map(|(_, listener)| FlagFault {
            flag: listener.flag(),
            reason: format!("the name {:?} is taken by another listener", listener.name),
            hint: Some("NAME=ADDRESS gives it another".to_owned()),
        })
        .collect();
    if !repeated.is_empty() {
        return Err(FlagFaults(repeated));
    }
    let name = flags.name.clone().unwrap_or_else(|| default_name(&flags.command));
    parse("command line", &file(flags, &name, &listeners), &name, facts)
        .map_err(|faults| FlagFaults(faults.iter().map(|fault| as_flag(fault, flags, &listeners)).collect()))
}

struct NamedAddress<'a> {
    name: String,
    address: &'a str,
    given: &'a str,
}

impl NamedAddress<'_> {
    fn flag(&self) -> String {
        format!("-l {}", self.given)
    }
}

fn named(listen: &[String]) -> Vec<NamedAddress<'_>> {
    let named = listen.iter().enumerate().map(|(index, given)| match split_name(given) {
        Some((name, address)) => NamedAddress { name: name.to_owned(), address, given },
        None if index == 0 => NamedAddress { name: "http".to_owned(), address: given, given },
        None => NamedAddress { name: format!("listener{index}"), address: given, given },
    });
    named.collect()
}

/// `NAME=ADDRESS`; a `=` after the first `:` or `/` belongs to the address.
fn split_name(given: &str) -> Option<(&str, &str)> {
    given.split_once('=').filter(|(name, _)| !name.contains([':', '/']))
}

fn default_name(command: &[String]) -> String {
    let stem = command.first().and_then(|program| Path::new(program).file_stem());
    fit_name(&stem.map(|stem| stem.to_string_lossy()).unwrap_or_default())
}

fn file(flags: &Flags, name: &str, listeners: &[NamedAddress<'_>]) -> String {
    let list = |texts: &mut dyn Iterator<Item = &str>| texts.map(quote).collect::<Vec<_>>().join(", ");
    let workers = match flags.workers {
        None => "1".to_owned(),
        Some(Workers::Count(count)) => count.to_string(),
        Some(Workers::Auto) => quote("auto"),
    };
    let mut text = format!("name = {}\n", quote(name));
    for listener in listeners {
        // Writing to a String cannot fail.
        let _ =
            write!(text, "[listener.{}]\naddress = {}\n", quote_key(&listener.name), quote(listener.address));
    }
    let _ = write!(
        text,
        "[pool.{POOL}]\ncommand = [{}]\nworkers = {workers}\nready = {}\nlisteners = [{}]\n",
        list(&mut flags.command.iter().map(String::as_str)),
        quote(flags.ready.as_deref().unwrap_or(if listeners.is_empty() { "exec" } else { "accept" })),
        list(&mut listeners.iter().map(|listener| listener.name.as_str())),
    );
    text
}

/// The same fault in terms of the command line.
fn as_flag(fault: &Fault, flags: &Flags, listeners: &[NamedAddress<'_>]) -> FlagFault {
    let key = fault.key.as_str();
    let listener = |listener: &&NamedAddress<'_>| {
        key.strip_prefix("listener.")
            .and_then(|key| key.strip_prefix(&quote_key(&listener.name)))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let pool_key = key.strip_prefix("pool.").and_then(|key| key.strip_prefix(POOL)).unwrap_or_default();
    let flag = match pool_key {
        ".workers" => "-n".to_owned(),
        ".ready" => format!("--ready {}", flags.ready.as_deref().unwrap_or_default()),
        _ if pool_key.starts_with(".command") => "COMMAND".to_owned(),
        _ if key == "name" => format!("--name {}", flags.name.as_deref().unwrap_or_default()),
        _ => listeners.iter().find(listener).map_or_else(|| key.to_owned(), NamedAddress::flag),
    };
    let (reason, hint) = match pool_key {
        ".ready" if flags.ready.as_deref() == Some("fd") => {
            ("needs `ready_fd` as well, and so a configuration file".to_owned(), None)
        }
        ".ready" if flags.ready.as_deref() == Some("accept") => {
            let hint = "add -l ADDRESS, or take --ready notify (it sends READY=1) or --ready exec (it stays for a while)";
            (fault.reason.clone(), Some(hint.to_owned()))
        }
        _ => (fault.reason.clone(), fault.hint.clone()),
    };
    FlagFault { flag, reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::facts::Fake;
    use crate::config::model::Ready;

    fn flags(listen: &[&str], command: &[&str]) -> Flags {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Flags { listen: texts(listen), command: texts(command), ..Flags::default() }
    }

    #[test]
    fn flags_make_a_pool_that_is_ready_when_it_waits_on_its_listeners() {
        let config =
            from_flags(&flags(&["127.0.0.1:8080", "unix:@x", "admin=[::1]:81"], &["/srv/My App.py"]), &Fake);
        let config = config.unwrap();
        assert_eq!(config.name, "my-app");
        let (name, pool) = config.pools.first_key_value().unwrap();
        assert_eq!((name.as_str(), pool.policy.ready, pool.policy.workers), ("main", Ready::Accept, 1));
        let names: Vec<&str> = pool.listeners.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["http", "listener1", "admin"]);
        assert_eq!(pool.program.command, ["/srv/My App.py"]);
    }

    #[test]
    fn without_listeners_there_is_nothing_to_wait_on() {
        let ready = |ready: Option<&str>| {
            let flags = Flags { ready: ready.map(str::to_owned), ..flags(&[], &["x"]) };
            from_flags(&flags, &Fake).map(|config| config.pools.values().next().map(|pool| pool.policy.ready))
        };
        assert_eq!(ready(None).unwrap(), Some(Ready::Exec));
        let refused = ready(Some("accept")).unwrap_err();
        assert_eq!(refused.0[0].flag, "--ready accept");
        assert!(refused.to_string().contains("needs a listener"), "{refused}");
    }

    #[test]
    fn an_equals_sign_in_a_path_is_not_a_name() {
        assert_eq!(split_name("unix:///run/a=b"), None);
        assert_eq!(split_name("a=unix:///run/a=b"), Some(("a", "unix:///run/a=b")));
    }

    #[test]
    fn every_flag_that_is_wrong_is_told_in_its_own_words() {
        let mut wrong = flags(&[":8080", "a b=0.0.0.0:1", "1.2.3.4:1"], &["x", "${HANDOVER_SLOTS}"]);
        wrong.workers = Some(Workers::Count(0));
        wrong.ready = Some("fd".into());
        wrong.name = Some("A".into());
        let faults = from_flags(&wrong, &Fake).unwrap_err();
        let flags: Vec<&str> = faults.0.iter().map(|fault| fault.flag.as_str()).collect();
        assert_eq!(
            flags,
            ["--name A", "-l :8080", "-l 1.2.3.4:1", "COMMAND", "-n", "--ready fd"],
            "{faults}"
        );
        assert!(faults.to_string().contains("hint: did you mean ${HANDOVER_SLOT}?"));
    }

    #[test]
    fn no_command_and_a_name_used_twice_are_faults() {
        assert_eq!(from_flags(&flags(&[], &[]), &Fake).unwrap_err().0[0].flag, "COMMAND");
        let twice = from_flags(&flags(&["0.0.0.0:1", "http=0.0.0.0:2"], &["x"]), &Fake).unwrap_err();
        assert_eq!(twice.0[0].flag, "-l http=0.0.0.0:2");
    }

    #[test]
    fn a_number_of_workers_can_be_read_from_a_flag() {
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert_eq!("4".parse(), Ok(Workers::Count(4)));
        assert!("four".parse::<Workers>().is_err());
    }
}

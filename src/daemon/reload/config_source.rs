//! Where the configuration comes from, and what it must know of this machine.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::model::{Config, GroupId, UserId};
use crate::config::{self, Facts, Flags};
use crate::daemon::reload::blocking_jobs::{Step, in_time};
use crate::os::{regular, user, words};
use crate::visible;

/// The longest text file that is read, in bytes.
const TEXT_MAX: u64 = 4 * 1024 * 1024;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read at the start and again at each reload.
    File(PathBuf),
    /// The command line; a reload finds the same again.
    Flags {
        /// What it says.
        flags: Flags,
        /// Where the program runs: where the command was typed.
        directory: PathBuf,
    },
    /// A text that is part of the program; a reload finds the same again.
    Text {
        /// The daemon's name.
        name: String,
        /// TOML.
        text: String,
    },
    /// The same, which the program itself has written: what is wrong is told by key, and not by line.
    Code {
        /// The daemon's name, where the text gives none.
        name: String,
        /// TOML.
        text: String,
    },
}

/// A configuration that cannot be used, for a person; may have several lines.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Source {
    /// Reads it, on a thread: files and the user database may lie on servers that do not answer.
    ///
    /// # Errors
    /// What is wrong with it, all at once; in colour if that is wanted. What takes too long.
    pub fn read(&self, colour: bool) -> Result<Config, Refused> {
        let source = self.clone();
        let read = in_time(move |step| source.read_telling(colour, step));
        read.unwrap_or_else(|reason| Err(Refused(visible::lines(&format!("error: {reason}")))))
    }

    /// The same, for one who is on a thread: says at each step what it does. May take long, or for ever.
    pub(in crate::daemon) fn read_telling(&self, colour: bool, step: &Step) -> Result<Config, Refused> {
        step.is(self.step());
        self.read_with(colour, &Telling { step, source: self })
    }

    fn step(&self) -> String {
        match self {
            Self::File(path) => format!("reading {}", path.display()),
            Self::Flags { .. } | Self::Text { .. } | Self::Code { .. } => {
                "reading the configuration".to_owned()
            }
        }
    }

    fn read_with(&self, colour: bool, facts: &dyn Facts) -> Result<Config, Refused> {
        match self {
            Self::File(path) => read_file(path, colour, facts),
            Self::Flags { flags, directory } => {
                let config = config::from_flags(flags, facts);
                let mut config = config.map_err(|faults| Refused(faults.to_string()))?;
                for pool in config.pools.values_mut() {
                    pool.program.directory = directory.to_str().map(|text| text.replace("${", "$${"));
                }
                Ok(config)
            }
            Self::Text { name, text } => {
                config::parse(name, text, name, facts).map_err(|faults| Refused(faults.render(colour)))
            }
            Self::Code { name, text } => {
                config::parse("settings", text, name, facts).map_err(|faults| by_key(&faults))
            }
        }
    }
}

/// What is wrong, each with its key; a fault without one with its line.
fn by_key(faults: &config::Faults) -> Refused {
    if faults.iter().any(|fault| fault.key.is_empty()) {
        return Refused(faults.render(false));
    }
    let line = |fault: &config::Fault| match &fault.hint {
        Some(hint) => format!("{fault}\n  hint: {hint}"),
        None => fault.to_string(),
    };
    Refused(visible::lines(&faults.iter().map(line).collect::<Vec<_>>().join("\n")))
}

fn read_file(path: &Path, colour: bool, facts: &dyn Facts) -> Result<Config, Refused> {
    let shown = path.display().to_string();
    let text = read_text(path);
    let text =
        text.map_err(|error| Refused(visible::lines(&format!("error: {shown}: {}", words(&error)))))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    config::parse(&shown, &text, &stem, facts).map_err(|faults| Refused(faults.render(colour)))
}

/// Reads a small text file that others named. May take long, or for ever, where it lies on a server.
///
/// # Errors
/// Any of `open(2)` and `read(2)`; what is not a regular file, longer than 4 MiB, or not UTF-8.
pub(in crate::daemon) fn read_text(path: &Path) -> io::Result<String> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let file = regular::open(path)?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => invalid("a file that keeps its reader waiting"),
        _ => error,
    })?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(invalid("longer than 4 MiB"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(invalid("UTF-16, not UTF-8\nhint: save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        invalid(&format!("line {line}: not UTF-8\nhint: save it as UTF-8"))
    })
}

/// The same, on a thread.
///
/// # Errors
/// Where the file cannot be opened or read, is no text or too long; what takes too long.
pub fn read_text_in_time(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let read = in_time(move |step| {
        step.is(format!("reading {}", path.display()));
        read_text(&path)
    });
    read.unwrap_or_else(|reason| Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
}

/// The machine that we run on, asked on a thread.
struct Telling<'a> {
    step: &'a Step,
    source: &'a Source,
}

impl Telling<'_> {
    fn ask<T>(&self, what: String, ask: impl FnOnce() -> T) -> T {
        self.step.is(what);
        let answer = ask();
        self.step.is(self.source.step());
        answer
    }
}

impl Facts for Telling<'_> {
    fn cores(&self) -> u32 {
        ThisMachine.cores()
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        self.ask(format!("looking up user {name_or_uid}"), || ThisMachine.user(name_or_uid))
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        self.ask(format!("looking up group {name_or_gid}"), || ThisMachine.group(name_or_gid))
    }

    fn own_user(&self) -> Option<u32> {
        ThisMachine.own_user()
    }
}

/// The machine that we run on.
pub struct ThisMachine;

impl Facts for ThisMachine {
    fn cores(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cores).unwrap_or(u32::MAX)
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        let user = user::user(name_or_uid).ok().flatten()?;
        Some(match user.entry {
            Some(user::Entry { gid, home, shell }) => {
                UserId { name: user.name, uid: user.uid, gid: Some(gid), home, shell }
            }
            None => UserId::unknown(user.uid),
        })
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        user::group(name_or_gid).ok().flatten().map(|group| GroupId { name: group.name, gid: group.gid })
    }

    fn own_user(&self) -> Option<u32> {
        Some(nix::unistd::geteuid().as_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        read_text(path).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_text_file_is_refused_without_a_wait() {
        let scratch = tempfile::tempdir().unwrap();
        let fifo = scratch.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(refused(&fifo), "a FIFO, not a file");
        assert_eq!(refused(Path::new("/dev/zero")), "a character device, not a file");
        assert_eq!(refused(scratch.path()), "a directory, not a file");
        let path = scratch.path().join("file");
        std::fs::write(&path, b"a\nb\xff").unwrap();
        assert_eq!(refused(&path), "line 2: not UTF-8\nhint: save it as UTF-8");
        std::fs::write(&path, vec![b'#'; 4 * 1024 * 1024 + 1]).unwrap();
        assert_eq!(refused(&path), "longer than 4 MiB");
    }
}

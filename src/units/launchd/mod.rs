//! A configuration as a job of launchd: `launchd.plist(5)`.
//!
//! Pure: text from values. The sockets are launchd's then: they are there before handover is, stay while it is
//! replaced, and are as the property list says, so what the configuration says of them must say the same here. What
//! launchd cannot do is left to handover, and noted, as it is for systemd.

mod list;
mod sockets;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use super::MARK;
use crate::config::model::{Config, Start};
use list::{List, is_plain};

/// How much longer than the patience with workers launchd is to wait for handover itself.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest name of a file on macOS in bytes (`NAME_MAX`) less the suffix.
const LABEL_MAX: usize = 255 - SUFFIX.len();
/// The suffix of a property list's file.
const SUFFIX: &str = ".plist";

/// What a job is made from.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The job's name, unique on the machine; usually in reverse domain order: `org.example.myapp`.
    pub label: &'a str,
    /// The `handover` program; absolute.
    pub program: &'a Path,
    /// The file that the configuration was read from; absolute.
    pub file: &'a Path,
    /// Where standard error goes: our log and the output of workers; absolute. launchd adds to it and never
    /// begins it anew.
    pub log: &'a Path,
    /// The number of a user, by its name or number as the configuration has it; `None` where it is not known.
    pub uid: fn(&str) -> Option<u32>,
    /// The same of a group.
    pub gid: fn(&str) -> Option<u32>,
}

/// A job's property list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyList {
    /// `org.example.myapp.plist`; a file name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What launchd cannot do of that which the configuration says, for a person; also a comment of the text.
    pub notes: Vec<String>,
}

/// Why there can be no property list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The label.
    #[error(
        "{0:?} cannot be a label: 1 to {LABEL_MAX} letters, digits, `.`, `_` and `-`, of which a letter or digit comes first"
    )]
    Label(String),
    /// A path that cannot stand in a property list.
    #[error("{path:?} cannot stand in a property list: {reason}")]
    Path {
        /// Which.
        path: String,
        /// Why not.
        reason: &'static str,
    },
}

/// Makes the property list, to be put under `/Library/LaunchDaemons`. Every listener that launchd can hold is an entry of
/// `Sockets` under its own name.
///
/// # Errors
/// [`JobError`]: a label, or a path, that launchd cannot have.
pub fn property_list(job: &Job<'_>) -> Result<PropertyList, JobError> {
    check_label(job.label)?;
    let (program, file, log) = (path(job.program)?, path(job.file)?, path(job.log)?);
    let mut notes = Vec::new();
    let sockets = sockets::of(job, &mut notes);
    if job.config.install.start == Start::Nothing {
        notes.push(
            "[install] start = \"none\" is not done: launchd starts what lies in its directories; load the job from \
             elsewhere"
                .to_owned(),
        );
    }
    let mut list = List::default();
    notes.iter().for_each(|note| list.note(note));
    list.entry("Label");
    list.string(job.label);
    list.entry("ProgramArguments");
    list.open("array");
    [program, "run", file].into_iter().for_each(|word| list.string(word));
    list.close("array");
    life(&mut list, job.config);
    list.entry("StandardErrorPath");
    list.string(log);
    sockets::write(&mut list, &sockets);
    let text = list.document(&mark(file));
    Ok(PropertyList { name: format!("{}{SUFFIX}", job.label), text, notes })
}

/// When it is started, and how long its end may take.
fn life(list: &mut List, config: &Config) {
    list.note("started with the machine, and again when it fails; a stop by `handover stop` lasts until somebody connects");
    list.entry("RunAtLoad");
    list.line("<true/>");
    list.entry("KeepAlive");
    list.open("dict");
    list.entry("SuccessfulExit");
    list.line("<false/>");
    list.close("dict");
    list.entry("ThrottleInterval");
    list.integer(1);
    list.note("how long a stop may take: longer than each stop_timeout; 0 is endless");
    list.entry("ExitTimeOut");
    list.integer(exit_timeout(config));
    list.note("without this launchd slows the job down as one that nobody waits for");
    list.entry("ProcessType");
    list.string("Interactive");
}

/// Whole seconds from launchd's SIGTERM to its SIGKILL.
fn exit_timeout(config: &Config) -> u64 {
    let mut longest = Duration::ZERO;
    for pool in config.pools.values() {
        match pool.policy.stop_timeout.duration() {
            Some(timeout) => longest = longest.max(timeout),
            None => return 0,
        }
    }
    let whole = longest.saturating_add(MARGIN);
    whole.as_secs().saturating_add(u64::from(whole.subsec_nanos() > 0))
}

/// The comment by which a property list is known to be made from a file.
fn mark(file: &str) -> String {
    list::comment(&format!("{}{file}", MARK.trim_start_matches("# ")))
}

/// Whether the text of a property list is one that was made from this file.
pub fn is_made_from(text: &str, file: &Path) -> bool {
    let marked = file.to_str().map(mark);
    marked.is_some_and(|mark| text.lines().take(list::HEAD_LINES).any(|line| line == mark))
}

/// A label names a file, and stands in commands (`launchctl print system/LABEL`).
fn check_label(label: &str) -> Result<(), JobError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins_well = label.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && label.chars().all(is_plain) && label.len() <= LABEL_MAX {
        Ok(())
    } else {
        Err(JobError::Label(label.to_owned()))
    }
}

fn path(path: &Path) -> Result<&str, JobError> {
    let fault = |reason| JobError::Path { path: path.display().to_string(), reason };
    let text = path.to_str().ok_or_else(|| fault("it is not UTF-8"))?;
    if !path.is_absolute() {
        return Err(fault("it is not absolute"));
    }
    if is_plain(text) { Ok(text) } else { Err(fault("it has a character that XML has no place for")) }
}

//! Which way lines go, and what they are made into for it.
//!
//! Pure but for [`Destination::of`], which looks once at where standard error leads.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::Metadata;

use super::journal::{self, What};
use super::output::Line;
use super::render::{Format, Origin, Record, log_line, worker_line};
use super::writer::Item;
use crate::config::model::LogFormat;

/// Where standard error leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// To the journal: `JOURNAL_STREAM` names its device and inode (`systemd.exec(5)`).
    pub journal: bool,
    /// To the journal, and it takes records beside it: not from inside a root directory without its socket.
    pub native: bool,
    /// To a terminal.
    pub terminal: bool,
    /// Colours are wanted there: a terminal, without `NO_COLOR`, and not a dumb one.
    pub colour: bool,
}

impl Destination {
    /// Looks at standard error (or what is given for it) and the variables `JOURNAL_STREAM`, `NO_COLOR`, `TERM`.
    pub fn of<F: AsFd + IsTerminal>(stderr: &F, variable: impl Fn(&str) -> Option<String>) -> Self {
        let terminal = stderr.is_terminal();
        let plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || variable("TERM").is_some_and(|term| term == "dumb");
        let journal = variable("JOURNAL_STREAM").is_some_and(|stream| {
            nix::sys::stat::fstat(stderr.as_fd())
                .is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
        });
        Self { journal, native: journal && journal::is_there(), terminal, colour: terminal && !plain }
    }
}

/// Which way lines go, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// As records to the journal.
    pub native: bool,
    /// As text to standard error; with `native` only while the journal cannot be reached.
    pub text: Format,
}

impl Form {
    /// As records, for whoever takes them as they are.
    pub const RECORDS: Self = Self { native: true, text: Format::Json };

    /// `log.format`, resolved for a destination.
    pub fn choose(wanted: LogFormat, to: Destination) -> Self {
        let native = match wanted {
            LogFormat::Auto => to.native,
            LogFormat::Journal => true,
            LogFormat::Human | LogFormat::Json => false,
        };
        Self { native, text: Format::choose(wanted, to) }
    }

    /// A line of a worker, read at `when`.
    pub fn worker_line(self, when: SystemTime, origin: &Arc<Origin>, line: Line) -> Item {
        if !self.native {
            return worker_line(self.text, when, origin, &line).into();
        }
        self.record(when, What::Worker { origin: Arc::clone(origin), line })
    }

    /// An event of our own log.
    pub fn log_line(self, when: SystemTime, metadata: &'static Metadata<'static>, record: Record) -> Item {
        if !self.native {
            return log_line(self.text, when, &record).into();
        }
        self.record(when, What::Own { metadata, record })
    }

    fn record(self, when: SystemTime, what: What) -> Item {
        Item::Record(Box::new(journal::Record { when, around: self.text, what }))
    }
}

/// Text alone.
impl From<Format> for Form {
    fn from(text: Format) -> Self {
        Self { native: false, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_destination_unless_it_is_set() {
        let to = |journal, terminal| Destination { journal, terminal, ..Destination::default() };
        let text = |wanted, to| {
            let form = Form::choose(wanted, to);
            assert_eq!(form.native, wanted == LogFormat::Journal, "no record where the journal takes none");
            form.text
        };
        assert_eq!(text(LogFormat::Auto, to(true, false)), Format::Journal);
        assert_eq!(text(LogFormat::Auto, to(false, true)), Format::Terminal { colour: false });
        assert_eq!(text(LogFormat::Auto, to(false, false)), Format::Json);
        assert_eq!(text(LogFormat::Human, to(false, false)), Format::Plain);
        assert_eq!(text(LogFormat::Json, to(true, false)), Format::Json);
        assert_eq!(
            text(LogFormat::Journal, to(false, false)),
            Format::Json,
            "the way around is that of auto"
        );
        let native = Destination { native: true, ..to(true, false) };
        let records =
            [LogFormat::Auto, LogFormat::Human, LogFormat::Json].map(|w| Form::choose(w, native).native);
        assert_eq!(records, [true, false, false]);
    }
    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = nix::sys::stat::fstat(&file).unwrap();
        let of = |stream: String| {
            Destination::of(&file, |name| (name == "JOURNAL_STREAM").then(|| stream.clone()))
        };
        assert!(of(format!("{}:{}", stat.st_dev, stat.st_ino)).journal);
        assert!(!of(format!("{}:{}", stat.st_dev, stat.st_ino + 1)).journal);
        assert!(!of(String::new()).journal);
    }
}

//! What the scripted workers say of themselves: `started`, `ready`, `asked`, `ended`, `forked`.
//!
//! It comes from the workers directly, so a test can compare it with what handover says.

use std::path::Path;
use std::time::Instant;

use super::inbox::Inbox;
use super::scratch::Scratch;

/// One report.
#[derive(Clone, Debug)]
pub struct Report {
    /// `started`, `ready`, `asked`, `ended` or `forked child=PID`.
    pub what: String,
    /// `HANDOVER_SLOT`
    pub slot: u32,
    /// `HANDOVER_GENERATION`
    pub generation: u64,
    /// `HANDOVER_WORKER`
    pub worker: u64,
    /// Its pid.
    pub pid: u32,
    /// When it came.
    pub at: Instant,
}

impl Report {
    fn parse(text: &str, at: Instant) -> Self {
        let (what, _) = text.split_once(" slot=").unwrap_or((text, ""));
        Self {
            what: what.to_owned(),
            slot: number(text, "slot=").unwrap_or(u32::MAX),
            generation: number(text, "generation=").unwrap_or(0),
            worker: number(text, "worker=").unwrap_or(0),
            pid: number(text, "pid=").unwrap_or(0),
            at,
        }
    }

    /// The pid of the forked child, in a report that says so.
    pub fn child(&self) -> Option<u32> {
        number(&self.what, "child=")
    }
}

/// The number that follows `key` in a text of `key=value` words.
pub fn number<T: std::str::FromStr>(text: &str, key: &str) -> Option<T> {
    text.split_whitespace().find_map(|word| word.strip_prefix(key))?.parse().ok()
}

/// The socket on which workers report.
pub struct Reports(Inbox);

impl Reports {
    /// A socket in `scratch`.
    pub fn new(scratch: &Scratch) -> Self {
        Self(Inbox::new(scratch, "reports"))
    }

    /// For `WORKER_REPORT`.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The next report, of those that were not waited for yet, for which `wanted` is true.
    #[track_caller]
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Report) -> bool) -> Report {
        match self.0.wait(|text| wanted(&Report::parse(text, Instant::now()))) {
            Some((at, text)) => Report::parse(&text, at),
            None => panic!("no worker reported {what}; reported: {:#?}", self.0.all()),
        }
    }

    /// The next report, of those that were not waited for yet, that says `what`.
    #[track_caller]
    pub fn wait_for(&self, what: &str) -> Report {
        self.wait(what, |report| report.what == what)
    }

    /// All reports so far.
    pub fn seen(&self) -> Vec<Report> {
        self.0.all().iter().map(|(at, text)| Report::parse(text, *at)).collect()
    }

    /// How many reports say `what` so far.
    pub fn count(&self, what: &str) -> usize {
        self.seen().iter().filter(|report| report.what == what).count()
    }
}

//! The journal's own protocol: records with fields instead of lines of text.
//!
//! A [`Record`] is a line of a worker or an event of our own log. Workers' lines are written ([`fields`]) and sent
//! (`socket`) here, because none may be lost; our own events are written and sent by `tracing-journald` (`events`),
//! which cannot say whether it succeeded, after a look whether the journal is there. All of this runs on the writer's
//! thread and may block: a journal that stalls must stop neither the loop nor a watchdog (docs/decisions/0014).
//!
//! The journal's path is fixed. A record goes where the system's administrator reads, so neither a variable nor the
//! configuration may lead it elsewhere.

mod events;
pub mod fields;
mod socket;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use tracing::Metadata;

use self::events::Events;
use self::socket::Socket;
use super::output::Line;
use super::render::{self, Format, Origin, log_line, worker_line};

/// Where journald listens for records (`systemd-journald.service(8)`).
const PATH: &str = "/run/systemd/journal/socket";
/// How often, and how long apart, a journal that was there a moment ago is tried before the way around it is taken:
/// a second in all, less than the end of the daemon waits for the last lines.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Whether the journal can be reached now. Does not block.
pub fn is_there() -> bool {
    Socket::at(Path::new(PATH)).connect().is_ok()
}

/// What goes to the journal.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it happened, or was read; the journal has its own time.
    pub when: SystemTime,
    /// How it is written to standard error while the journal cannot be reached.
    pub around: Format,
    /// What it is.
    pub what: What,
}

/// A line of a worker, or an event of our own.
#[derive(Clone, Debug)]
pub enum What {
    /// A line that a worker wrote.
    Worker {
        /// Who wrote it.
        origin: Arc<Origin>,
        /// The line.
        line: Line,
    },
    /// An event of our own log.
    Own {
        /// Where in our code it comes from.
        metadata: &'static Metadata<'static>,
        /// What it says.
        record: render::Record,
    },
}

impl Record {
    /// As a line of text, newline included.
    pub fn text(&self) -> Vec<u8> {
        match &self.what {
            What::Worker { origin, line } => worker_line(self.around, self.when, origin, line),
            What::Own { record, .. } => log_line(self.around, self.when, record),
        }
    }

    /// The bytes that it takes while it waits, about.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + match &self.what {
                What::Worker { line, .. } => line.text.len(),
                What::Own { record, .. } => record.bytes(),
            }
    }
}

/// The way to the journal. Belongs to the writer's thread.
pub struct Journal {
    name: String,
    socket: Socket,
    events: Events,
    /// The last record arrived, so the journal is worth a wait.
    reached: bool,
}

impl Journal {
    /// For the daemon of this name. Nothing is opened before there is something to send.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            socket: Socket::at(Path::new(PATH)),
            events: Events::new(name),
            reached: false,
        }
    }

    /// Sends a record. Blocks while the journal's queue is full, and for a second where it was there before and
    /// is gone.
    ///
    /// # Errors
    /// The journal is not there, or does not take it: nothing was sent.
    pub fn put(&mut self, record: &Record) -> io::Result<()> {
        let tries = if self.reached { TRIES } else { 1 };
        for remaining in (0..tries).rev() {
            match self.try_put(record) {
                Ok(()) => {
                    self.reached = true;
                    return Ok(());
                }
                Err(error) if remaining == 0 => {
                    self.reached = false;
                    return Err(error);
                }
                Err(_) => thread::park_timeout(PAUSE),
            }
        }
        Ok(())
    }

    fn try_put(&mut self, record: &Record) -> io::Result<()> {
        match &record.what {
            What::Worker { origin, line } => {
                self.socket.send(&fields::worker_record(&self.name, origin, line))
            }
            What::Own { metadata, record } => {
                self.socket.probe()?;
                self.events.send(metadata, record)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
    use crate::observe::Stream;

    pub(super) fn origin() -> Origin {
        Origin {
            pool: PoolName::new("web"),
            slot: SlotIndex(2),
            generation: Generation(3),
            worker: WorkerId(7),
            pid: 4711,
            stream: Stream::Stderr,
        }
    }

    fn line(text: &str) -> Record {
        let line = Line { text: text.into(), ..Line::default() };
        let what = What::Worker { origin: Arc::new(origin()), line };
        Record { when: SystemTime::UNIX_EPOCH, around: Format::Journal, what }
    }

    fn journal(path: &Path) -> Journal {
        Journal { socket: Socket::at(path), ..Journal::new("myapp") }
    }

    #[test]
    fn one_that_was_never_there_is_not_waited_for_and_one_that_comes_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut journal = journal(&path);
        assert_eq!(journal.put(&line("lost")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let server = UnixDatagram::bind(&path).unwrap();
        journal.put(&line("found")).unwrap();
        assert!(server.recv(&mut [0; 4096]).unwrap() > 0);
    }

    #[test]
    fn one_that_was_there_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut journal = journal(&path);
        let first = UnixDatagram::bind(&path).unwrap();
        journal.put(&line("one")).unwrap();
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let returns = thread::spawn(move || UnixDatagram::bind(&path).unwrap());
        journal.put(&line("two")).unwrap();
        let mut buffer = [0; 4096];
        let length = returns.join().unwrap().recv(&mut buffer).unwrap();
        assert!(buffer[..length].windows(3).any(|part| part == b"two"));
    }

    #[test]
    fn a_record_can_take_the_way_around() {
        assert_eq!(line("hello").text(), b"<6>web/2[4711]: hello\n");
    }
}

//! Where the writer's thread puts things: standard error, and the journal with standard error as the way around it.
//!
//! A record is sent to the journal or, where that cannot be reached, written as a line of text: in one of the two
//! places each line is found. Changing from one to the other is said once, as every other line of our log.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use super::journal::{Journal, Record};
use super::writer::Item;

/// How long the thread rests when standard error is non-blocking and full.
const RETRY: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Outlet<W> {
    stderr: W,
    journal: Option<Journal>,
    /// The journal cannot be reached; records that took the way around it.
    around: Option<u64>,
}

impl<W: Write> Outlet<W> {
    /// Without a journal records are written as text.
    pub(super) fn new(stderr: W, journal: Option<Journal>) -> Self {
        Self { stderr, journal, around: None }
    }

    /// Writes it, and blocks for as long as that takes.
    ///
    /// # Errors
    /// Those of standard error.
    pub(super) fn put(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Text(line) => write_whole(&mut self.stderr, line),
            Item::Record(record) => self.put_record(record),
        }
    }

    fn put_record(&mut self, record: &Record) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            match journal.put(record) {
                Ok(()) => {
                    if let Some(records) = self.around.take() {
                        tracing::info!(
                            records,
                            "journal reached: what it missed was written to standard error"
                        );
                    }
                    return Ok(());
                }
                Err(error) => self.go_around(&error),
            }
        }
        write_whole(&mut self.stderr, &record.text())
    }

    fn go_around(&mut self, error: &io::Error) {
        if self.around.is_none() {
            // Queued as all lines are; it is said on the way around, too.
            tracing::warn!(%error, "journal not reached: lines are written to standard error until it is");
        }
        *self.around.get_or_insert(0) += 1;
    }
}

/// Writes all of it. Somebody who shares the stream may have made it non-blocking; then it is tried again.
fn write_whole(sink: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(RETRY),
            Err(error) => return Err(error),
        }
    }
    sink.flush()
}

//! Lines of one worker for which our writer has no room yet: those of one of its pipes, or the records of its channel.
//!
//! While the worker lives, whoever reads stops where lines wait, so there are few. When it has ended nothing slows it
//! down any more, and what all of them hold together is bounded (`unwritten`).

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;
use std::time::SystemTime;

use crate::daemon::worker::output::SharedTail;
use crate::daemon::worker::output_budget::Unwritten;
use crate::observe::{Form, Line, Origin, Room, Writer};
use crate::os::clock;

/// What a reader costs beside its lines, about: its task, and the tail that it holds.
const READER_BYTES: usize = 4 * 1024;
/// What a line gets when it is written, about: its time and its origin.
const ORIGIN_BYTES: usize = 256;

/// Where the lines go, and as what.
pub(in crate::daemon) struct Way {
    pub(in crate::daemon) origin: Arc<Origin>,
    pub(in crate::daemon) tail: SharedTail,
    pub(in crate::daemon) writer: Writer,
    pub(in crate::daemon) unwritten: Unwritten,
    /// What becomes of a line at the moment when it is written.
    pub(in crate::daemon) form: Box<dyn Fn() -> Form>,
}

/// A line for which the writer had no room yet. It is rendered when it is written: that makes it longer.
struct Waiting {
    read: SystemTime,
    line: Line,
}

impl Waiting {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.line.bytes()
    }
}

/// See the module.
pub(in crate::daemon) struct Backlog {
    pub(in crate::daemon) way: Way,
    waiting: VecDeque<Waiting>,
    /// Bytes for the reader itself, once its worker has ended.
    charged: usize,
}

impl Backlog {
    pub(in crate::daemon) fn new(way: Way) -> Self {
        Self { way, waiting: VecDeque::new(), charged: 0 }
    }

    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The bytes for which there must be room before the next line can be written; `None`: none waits.
    pub(in crate::daemon) fn next(&self) -> Option<usize> {
        self.waiting.front().map(|next| next.line.bytes() + ORIGIN_BYTES)
    }

    /// Takes lines in, and into the worker's tail.
    pub(in crate::daemon) fn keep(&mut self, lines: impl IntoIterator<Item = Line>) {
        let read = clock::wall_time();
        for line in lines {
            self.way.tail.borrow_mut().push(&line.text);
            let line = Waiting { read, line };
            self.way.unwritten.keep_line(line.bytes());
            self.waiting.push_back(line);
        }
    }

    /// Writes the next line.
    pub(in crate::daemon) fn write(&mut self, room: Room) {
        if let Some(next) = self.waiting.pop_front() {
            self.way.unwritten.release_line(next.bytes());
            room.fill((self.way.form)().worker_line(next.read, &self.way.origin, next.line));
        }
    }

    /// The worker has ended, so nothing slows it down: what is beyond the common limit is lost, the latest
    /// lines first.
    pub(in crate::daemon) fn lose_what_is_too_much(&mut self) {
        if self.charged == 0 {
            self.charged = READER_BYTES;
            self.way.unwritten.charge(READER_BYTES);
        }
        while self.way.unwritten.is_too_much()
            && let Some(line) = self.waiting.pop_back()
        {
            self.way.unwritten.lose_line(line.bytes());
        }
        self.waiting.shrink_to_fit();
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.way.unwritten.release(self.charged);
    }
}

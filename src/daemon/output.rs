//! A worker's standard output or error: from its pipe, line by line, to our writer and into its tail.
//!
//! One task a pipe. A worker that floods is slowed by its full pipe, because nothing is read while the
//! writer has no room; the loop is never involved. When the worker has ended, what lies in the pipe is taken
//! into the tail at once, so that the report of the end can name the last words.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

use crate::observe::output::LINE_MAX;
use crate::observe::{Line, Splitter, Tail, Writer};

/// Read from a pipe in one go.
const CHUNK: usize = 16 * 1024;
/// What is taken of a pipe whose worker has ended before that is reported; others may still write to it.
const LAST_WORDS_MAX: usize = 1024 * 1024;
/// A pump answers at once; one that does not must not hold up the report of an exit.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// The last lines of a worker, both streams, shared with the table.
pub(super) type SharedTail = Rc<RefCell<Tail>>;

/// Lines that all pumps have read and not yet passed on: what the end of the daemon waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Unwritten(Rc<watch::Sender<usize>>);

impl Unwritten {
    fn add(&self, lines: usize) {
        self.0.send_modify(|count| *count += lines);
    }

    fn done_with_one(&self) {
        self.0.send_modify(|count| *count -= 1);
    }

    /// Returns when there are none.
    pub(super) async fn written(&self) {
        // The sender lives as long as this borrow.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// The other end of a pump's task.
pub(super) struct Pump {
    drain: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Pump {
    /// Starts a task that carries lines, as `render` makes them, until the pipe is closed by all who hold it.
    pub(super) fn start(
        pipe: pipe::Receiver,
        tail: SharedTail,
        writer: Writer,
        unwritten: Unwritten,
        render: impl Fn(&Line) -> Vec<u8> + 'static,
    ) -> Self {
        let (drain, orders) = mpsc::unbounded_channel();
        let splitter = Splitter::new(LINE_MAX);
        let task = Task { pipe, splitter, tail, writer, unwritten, render, waiting: VecDeque::new() };
        tokio::task::spawn_local(task.run(orders));
        Self { drain }
    }

    /// Returns when what is in the pipe now is in the tail.
    pub(super) async fn drain(&self) {
        let (done, taken) = oneshot::channel();
        if self.drain.send(done).is_ok() {
            let _ = tokio::time::timeout(DRAIN_DEADLINE, taken).await;
        }
    }
}

struct Task<R> {
    pipe: pipe::Receiver,
    splitter: Splitter,
    tail: SharedTail,
    writer: Writer,
    unwritten: Unwritten,
    render: R,
    /// Rendered lines for which the writer had no room yet.
    waiting: VecDeque<Vec<u8>>,
}

impl<R: Fn(&Line) -> Vec<u8>> Task<R> {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let mut ordered = true;
        loop {
            let next = self.waiting.front().cloned();
            let empty = next.is_none();
            tokio::select! {
                order = orders.recv(), if ordered => match order {
                    Some(done) => {
                        self.take_last_words();
                        let _ = done.send(());
                    }
                    None => ordered = false,
                },
                // Nothing is queued by a future that is dropped before it has finished.
                () = self.writer.line(next.unwrap_or_default()), if !empty => {
                    self.waiting.pop_front();
                    self.unwritten.done_with_one();
                }
                readable = self.pipe.readable(), if empty => {
                    if readable.is_err() || !self.take() {
                        break;
                    }
                }
            }
        }
        self.take_rest();
        // Whoever orders a drain from now on is told at once that there is nothing left.
        drop(orders);
        while let Some(line) = self.waiting.pop_front() {
            self.writer.line(line).await;
            self.unwritten.done_with_one();
        }
    }

    /// Reads once. False: the pipe is closed.
    fn take(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        match self.pipe.try_read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                let lines = self.splitter.push(&buffer[..length]);
                self.keep(lines);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn take_last_words(&mut self) {
        let mut buffer = [0; CHUNK];
        let mut taken = 0;
        while taken < LAST_WORDS_MAX {
            match self.pipe.try_read(&mut buffer) {
                Ok(length) if length > 0 => {
                    taken += length;
                    let lines = self.splitter.push(&buffer[..length]);
                    self.keep(lines);
                }
                _ => break,
            }
        }
        // The worker will not finish its last line.
        self.take_rest();
    }

    fn take_rest(&mut self) {
        let rest = self.splitter.finish();
        self.keep(rest.into_iter().collect());
    }

    fn keep(&mut self, lines: Vec<Line>) {
        self.unwritten.add(lines.len());
        for line in lines {
            self.tail.borrow_mut().push(&line.text);
            self.waiting.push_back((self.render)(&line));
        }
    }
}

//! A worker's standard output or error: from its pipe, line by line, to our writer and into its tail.
//!
//! One task a pipe. A worker that floods is slowed by its full pipe, because nothing is read while the
//! writer has no room; the loop is never involved. When the worker has ended, what lies in the pipe is taken
//! into the tail at once, so that the report of the end can name the last words. Workers may end for ever while
//! nobody reads our standard error, and leave processes behind that hold their pipes: `Unwritten` bounds both.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::daemon::worker::line_queue::{Backlog, Way};
use crate::daemon::worker::output_budget::Stray;
use crate::observe::output::LINE_MAX;
use crate::observe::{Origin, Splitter, Tail};

/// Read from a pipe in one go.
const CHUNK: usize = 16 * 1024;
/// What is taken of a pipe whose worker has ended before that is reported: what a pipe holds where nobody has
/// changed that (`pipe(7)`). Others may still write to it, and what is left is read when there is room.
const LAST_WORDS_MAX: usize = 64 * 1024;
/// A pump answers at once; one that does not must not hold up the report of an exit.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// The last lines of a worker, both streams, shared with the table.
pub(in crate::daemon) type SharedTail = Rc<std::cell::RefCell<Tail>>;

/// The other end of a pump's task. Dropping it says that nothing is left of the worker's process group.
pub(in crate::daemon) struct Pump {
    drain: Option<oneshot::Sender<oneshot::Sender<()>>>,
    /// Dropped with the pump.
    _attended: oneshot::Sender<()>,
}

/// The task's end of a pump.
struct Orders {
    drain: oneshot::Receiver<oneshot::Sender<()>>,
    attended: oneshot::Receiver<()>,
}

impl Pump {
    /// Starts a task that carries lines until the pipe is closed by all who hold it.
    pub(in crate::daemon) fn start(pipe: pipe::Receiver, way: Way) -> Self {
        // Two that carry one value each: a queue would take more memory than all the rest of the pump.
        let (drain, drained) = oneshot::channel();
        let (attended, left) = oneshot::channel();
        let mut task =
            Task { pipe: Some(pipe), splitter: Splitter::new(LINE_MAX), backlog: Backlog::new(way) };
        let mut orders = Orders { drain: drained, attended: left };
        tokio::task::spawn_local(async move { task.run(&mut orders).await });
        Self { drain: Some(drain), _attended: attended }
    }

    /// Returns when what is in the pipe now is in the tail. Once: the worker has ended.
    pub(in crate::daemon) async fn drain(&mut self) {
        let (done, taken) = oneshot::channel();
        if self.drain.take().is_some_and(|drain| drain.send(done).is_ok()) {
            let _ = tokio::time::timeout(DRAIN_DEADLINE, taken).await;
        }
    }
}

struct Task {
    /// `None`: closed by all who held it, or by us.
    pipe: Option<pipe::Receiver>,
    splitter: Splitter,
    backlog: Backlog,
}

impl Task {
    /// By reference: a future that owned it would have room for it twice, for every pipe.
    async fn run(&mut self, orders: &mut Orders) {
        let (mut to_drain, mut attended) = (true, true);
        let mut stray: Option<Stray> = None;
        while self.pipe.is_some() || !self.backlog.is_empty() {
            let next = self.backlog.next();
            tokio::select! {
                order = &mut orders.drain, if to_drain => {
                    to_drain = false;
                    self.take_last_words();
                    if let Ok(done) = order {
                        let _ = done.send(());
                    }
                }
                _ = &mut orders.attended, if attended => {
                    (attended, to_drain) = (false, false);
                    self.take_last_words();
                    stray = self.pipe.is_some().then(|| self.backlog.way.unwritten.keep_stray());
                }
                // Nothing is queued by a future that is dropped before it has finished.
                room = self.backlog.way.writer.room(next.unwrap_or_default()), if next.is_some() => self.backlog.write(room),
                open = readable(self.pipe.as_ref()), if next.is_none() => {
                    if !open || !self.take() {
                        self.close();
                    }
                }
                () = given_up(stray.as_mut()) => {
                    self.say_given_up();
                    self.close();
                }
            }
            if self.pipe.is_none() {
                stray = None;
            }
        }
        // Whoever orders a drain from now on is told at once that there is nothing left.
    }

    /// Reads once. False: the pipe is closed.
    fn take(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        match self.pipe.as_ref().map_or(Ok(0), |pipe| pipe.try_read(&mut buffer)) {
            Ok(length) => {
                self.split(&buffer[..length]);
                length > 0
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn split(&mut self, bytes: &[u8]) {
        self.backlog.keep(self.splitter.push(bytes));
    }

    fn take_last_words(&mut self) {
        let mut buffer = [0; CHUNK];
        let mut taken = 0;
        while taken < LAST_WORDS_MAX
            && let Some(pipe) = &self.pipe
        {
            // The pipe itself is asked: the executor may not have noticed yet what came last.
            match nix::unistd::read(pipe.as_fd(), &mut buffer) {
                Ok(length) if length > 0 => {
                    taken += length;
                    self.split(&buffer[..length]);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                _ => self.pipe = None,
            }
        }
        // The worker will not finish its last line.
        self.take_rest();
        self.backlog.lose_what_is_too_much();
    }

    fn close(&mut self) {
        self.pipe = None;
        self.take_rest();
    }

    fn take_rest(&mut self) {
        self.backlog.keep(self.splitter.finish());
    }

    fn say_given_up(&self) {
        let way = &self.backlog.way;
        let Origin { pool, slot, worker, stream, .. } = &*way.origin;
        if let Some(held_back) = way.unwritten.may_warn() {
            tracing::warn!(
                %pool, slot = slot.0, worker = worker.0, stream = stream.as_str(), held_back,
                "output closed: a process that left the worker's group still holds it, and there are too many of them"
            );
        }
    }
}

/// Waits until there is something to read; false: there will never be.
async fn readable(pipe: Option<&pipe::Receiver>) -> bool {
    match pipe {
        Some(pipe) => pipe.readable().await.is_ok(),
        None => false,
    }
}

async fn given_up(stray: Option<&mut Stray>) {
    match stray {
        Some(stray) => stray.given_up().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};
    use std::sync::{Arc, mpsc as channel};

    use super::*;
    use crate::daemon::worker::output_budget::{BYTES_MAX, STRAYS_MAX, Unwritten};
    use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
    use crate::observe::{Format, Stream, Writer};

    /// Takes nothing before the gate is opened; then it takes all.
    struct Gate(channel::Receiver<()>, channel::Sender<usize>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        writer: Writer,
        unwritten: Unwritten,
        gate: Option<channel::Sender<()>>,
        written: channel::Receiver<usize>,
    }

    impl Scene {
        fn new() -> Self {
            let (gate, closed) = channel::channel();
            let (out, written) = channel::channel();
            let writer = Writer::start(Gate(closed, out)).unwrap();
            Self { writer, unwritten: Unwritten::default(), gate: Some(gate), written }
        }

        fn pump(&self) -> (Pump, PipeWriter, SharedTail) {
            let (ours, theirs) = io::pipe().unwrap();
            let pipe = pipe::Receiver::from_owned_fd(ours.into()).unwrap();
            let origin = Origin {
                pool: PoolName::new("web"),
                slot: SlotIndex(0),
                generation: Generation(1),
                worker: WorkerId(1),
                pid: 1,
                stream: Stream::Stdout,
            };
            let tail = SharedTail::default();
            let (writer, unwritten) = (self.writer.clone(), self.unwritten.clone());
            let (origin, form) = (Arc::new(origin), Box::new(|| Format::Json.into()));
            let way = Way { origin, tail: tail.clone(), writer, unwritten, form };
            (Pump::start(pipe, way), theirs, tail)
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let test = async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("too slow") };
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn workers_that_end_while_nobody_reads_leave_no_more_than_the_limit() {
        const LINES: usize = 60_000;
        const WORKERS: usize = 4;
        let mut scene = Scene::new();
        run(async {
            for number in 0..WORKERS {
                let (mut pump, mut theirs, tail) = scene.pump();
                theirs.write_all(&[b"\n".repeat(LINES - 1), b"bye".to_vec()].concat()).unwrap();
                drop(theirs);
                pump.drain().await;
                assert_eq!(tail.borrow().lines().last(), Some("bye"), "{number}");
                assert!(scene.unwritten.bytes() <= BYTES_MAX, "{number}");
            }
            let lost = scene.unwritten.lost();
            assert!(lost > 0);
            drop(scene.gate.take());
            scene.unwritten.written().await;
            assert_eq!(scene.unwritten.lost(), lost);
            assert!(scene.writer.flush(Duration::from_secs(30)));
            let written = scene.written.try_iter().count();
            assert_eq!(written + usize::try_from(lost).unwrap(), LINES * WORKERS);
            while scene.unwritten.bytes() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn a_living_worker_loses_nothing_though_the_limit_is_reached() {
        let mut scene = Scene::new();
        scene.unwritten.charge(BYTES_MAX + 1);
        run(async {
            let (_pump, mut theirs, _) = scene.pump();
            theirs.write_all(&b"\n".repeat(60_000)).unwrap();
            drop(scene.gate.take());
            drop(theirs);
            let mut written = 0;
            while written < 60_000 {
                tokio::task::yield_now().await;
                written += scene.written.try_iter().count();
            }
            assert_eq!(scene.unwritten.lost(), 0);
        });
    }

    #[test]
    fn of_the_pipes_that_strays_hold_open_only_the_latest_are_kept() {
        let scene = Scene::new();
        run(async {
            let mut held = Vec::new();
            for _ in 0..STRAYS_MAX + 2 {
                let (mut pump, theirs, _) = scene.pump();
                pump.drain().await;
                drop(pump);
                held.push(theirs);
                while scene.unwritten.strays_ever() < held.len() as u64 {
                    tokio::task::yield_now().await;
                }
            }
            while held[..2].iter_mut().any(|theirs| theirs.write_all(b"x").is_ok()) {
                tokio::task::yield_now().await;
            }
            assert!(held[2..].iter_mut().all(|theirs| theirs.write_all(b"x").is_ok()));
            assert_eq!(scene.unwritten.strays(), STRAYS_MAX);
            drop(held);
            while scene.unwritten.strays() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}

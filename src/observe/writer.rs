//! One way out for all lines: a thread with a bounded queue in front of standard error and the journal.
//!
//! Standard error may be a full pipe, the journal may stall, and the loop must not wait for it. So a thread writes,
//! and the loop only queues. Our own log never waits: past its share of the queue a line is dropped, counted, and
//! the count is written when there is room. Output of workers is never dropped: who brings it waits for room, so
//! the worker is slowed by its own full pipe. Each line is one `write`, so that whoever shares the stream does not
//! cut it. While nothing is written the thread sleeps without a wake-up.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::journal::{Journal, Record, What};
use super::outlet::Outlet;
use super::output::Line;
use super::render::Origin;

/// Bytes of our own log that may wait.
const LOG_BYTES_MAX: usize = 256 * 1024;
/// Bytes of workers' output that may wait.
const OUTPUT_BYTES_MAX: u32 = 1024 * 1024;

/// Says how many log lines were dropped.
type Report = Arc<dyn Fn(u64) + Send + Sync>;

/// What is to be written.
#[derive(Clone, Debug)]
pub enum Item {
    /// To standard error, as it is: a line, newline included.
    Text(Vec<u8>),
    /// To the journal.
    Record(Box<Record>),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(line) => line.len(),
            Self::Record(record) => record.bytes(),
        }
    }
}

impl From<Vec<u8>> for Item {
    fn from(line: Vec<u8>) -> Self {
        Self::Text(line)
    }
}

/// The way out. Cheap to clone; the thread ends when the last clone is gone and all is written.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
    _open: Arc<Open>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing will ever be.
    work: Condvar,
    /// Something was written.
    progress: Condvar,
    /// Room for output of workers, in bytes.
    room: Semaphore,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    log_bytes: usize,
    queued: u64,
    done: u64,
    dropped: u64,
    lost: u64,
    closed: bool,
    report: Option<Report>,
}

enum Entry {
    /// With the bytes that it counts as.
    Log(Item, usize),
    Output(Item, u32),
}

/// Alive while a [`Writer`] is.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

impl Writer {
    /// Starts the thread that writes to standard error, and records to the journal.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn to_stderr(journal: Journal) -> io::Result<Self> {
        let mut outlet = Outlet::new(io::stderr(), Some(journal));
        Self::through(move |item| outlet.put(item))
    }

    /// Starts the thread that writes to `sink`, records as text.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let mut outlet = Outlet::new(sink, None);
        Self::through(move |item| outlet.put(item))
    }

    /// Starts the thread that gives each line of a worker to `take`, with the time when it was read. What comes in another form
    /// than [`Form::RECORDS`](super::Form::RECORDS) is lost, and so is a line at which `take` panics.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn to_function(
        mut take: impl FnMut(SystemTime, &Origin, &Line) + Send + 'static,
    ) -> io::Result<Self> {
        Self::through(move |item| {
            let Item::Record(record) = item else { return Err(io::ErrorKind::Unsupported.into()) };
            let What::Worker { origin, line } = &record.what else { return Ok(()) };
            catch_unwind(AssertUnwindSafe(|| take(record.when, origin, line)))
                .map_err(|_| io::ErrorKind::Other.into())
        })
    }

    fn through(put: impl FnMut(&Item) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            room: Semaphore::new(OUTPUT_BYTES_MAX as usize),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("output".into()).spawn(move || writer.run(put))?;
        Ok(Self { _open: Arc::new(Open(Arc::clone(&shared))), shared })
    }

    /// How dropped lines are reported: called on the writer's thread with their number, once there is room for
    /// lines of our own. It may log.
    pub fn report_drops_with(&self, report: impl Fn(u64) + Send + Sync + 'static) {
        self.shared.lock().report = Some(Arc::new(report));
    }

    /// Queues a line of our own log; `false` if there was no room and it was dropped.
    pub fn try_line(&self, line: impl Into<Item>) -> bool {
        let line = line.into();
        let bytes = line.bytes();
        let mut state = self.shared.lock();
        if state.log_bytes + bytes > LOG_BYTES_MAX {
            state.dropped += 1;
            return false;
        }
        state.log_bytes += bytes;
        self.shared.push(state, Entry::Log(line, bytes));
        true
    }

    /// Waits for room for a line of a worker's output that is about `bytes` long. The line itself is needed only
    /// when there is room; dropping the future gives up the place in the queue for it.
    pub async fn room(&self, bytes: usize) -> Room {
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, OUTPUT_BYTES_MAX);
        // An error would mean that the semaphore was closed, which nobody does.
        let taken = self.shared.room.acquire_many(cost).await;
        let cost = taken.map_or(0, |permit| {
            permit.forget();
            cost
        });
        Room { shared: Arc::clone(&self.shared), cost }
    }

    /// Waits until all that was queued before is written, at most for `within`; `true` if it is. Blocks: for the
    /// end of the program.
    pub fn flush(&self, within: Duration) -> bool {
        let state = self.shared.lock();
        let wanted = state.queued;
        let waited = self.shared.progress.wait_timeout_while(state, within, |state| state.done < wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.done >= wanted
    }

    /// Lines of our own log that found no room, and lines that could not be written (a closed standard error).
    pub fn losses(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.dropped, state.lost)
    }
}

/// Room for one line of a worker's output. It is free again when this is dropped, or the line is written.
#[must_use]
pub struct Room {
    shared: Arc<Shared>,
    cost: u32,
}

impl Room {
    /// Queues the line.
    pub fn fill(mut self, line: impl Into<Item>) {
        let cost = std::mem::take(&mut self.cost);
        self.shared.push(self.shared.lock(), Entry::Output(line.into(), cost));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.room.add_permits(self.cost as usize);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, entry: Entry) {
        state.queue.push_back(entry);
        state.queued += 1;
        drop(state);
        self.work.notify_one();
    }

    fn run(&self, mut put: impl FnMut(&Item) -> io::Result<()>) {
        let mut reported = 0;
        while let Some(entry) = self.next() {
            let result = put(entry.item());
            let drops = self.finished(&entry, result.is_err(), &mut reported);
            self.progress.notify_all();
            if let Some((drops, report)) = drops {
                report(drops);
            }
        }
    }

    /// The next line to write; `None` when nothing is left and nobody can queue any more.
    fn next(&self) -> Option<Entry> {
        let state = self.lock();
        let idle = |state: &mut State| state.queue.is_empty() && !state.closed;
        let mut state = self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.queue.pop_front()
    }

    /// Gives the room back; and the report of drops, once the log that was queued is written.
    fn finished(&self, entry: &Entry, lost: bool, reported: &mut u64) -> Option<(u64, Report)> {
        let mut state = self.lock();
        state.done += 1;
        state.lost += u64::from(lost);
        match entry {
            Entry::Log(_, bytes) => state.log_bytes -= bytes,
            Entry::Output(_, cost) => self.room.add_permits(*cost as usize),
        }
        let drops = state.dropped - *reported;
        if drops == 0 || state.log_bytes > 0 {
            return None;
        }
        *reported = state.dropped;
        state.report.as_ref().map(|report| (drops, Arc::clone(report)))
    }
}

impl Entry {
    fn item(&self) -> &Item {
        match self {
            Self::Log(item, _) | Self::Output(item, _) => item,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Takes a write each time it is allowed to.
    struct Gate {
        allow: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allow.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Writer, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (open, allow) = mpsc::channel();
        let (taken, lines) = mpsc::channel();
        (Writer::start(Gate { allow, taken }).unwrap(), open, lines)
    }

    async fn line(writer: &Writer, line: Vec<u8>) {
        writer.room(line.len()).await.fill(line);
    }

    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(DEADLINE, test).await.expect("too slow") })
    }

    #[test]
    fn lines_come_out_in_order_and_a_flush_waits_for_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writer = Writer::start(ours).unwrap();
        assert!(writer.try_line(b"one\n".to_vec()));
        run(line(&writer, b"two\n".to_vec()));
        assert!(writer.flush(DEADLINE));
        drop(writer);
        assert_eq!(io::read_to_string(theirs).unwrap(), "one\ntwo\n", "and the thread ended");
    }

    #[test]
    fn our_own_log_is_dropped_counted_and_reported_when_nobody_reads() {
        let (writer, open, lines) = gate();
        let (reports, reported) = mpsc::channel();
        writer.report_drops_with(move |number| {
            let _ = reports.send(number);
        });
        let line = vec![b'x'; 64 * 1024];
        let kept = (0..10).filter(|_| writer.try_line(line.clone())).count();
        assert!((4..10).contains(&kept), "{kept}");
        assert!(!writer.flush(Duration::ZERO));
        for _ in 0..kept {
            open.send(()).unwrap();
        }
        for _ in 0..kept {
            assert_eq!(lines.recv_timeout(DEADLINE).unwrap(), line);
        }
        assert_eq!(reported.recv_timeout(DEADLINE).unwrap(), 10 - kept as u64);
        assert_eq!(writer.losses(), (10 - kept as u64, 0));
    }

    #[test]
    fn output_of_workers_waits_for_room_and_is_never_dropped() {
        let (writer, open, lines) = gate();
        run(async {
            let text = vec![b'x'; OUTPUT_BYTES_MAX as usize / 2];
            line(&writer, text.clone()).await;
            line(&writer, text.clone()).await;
            let mut third = Box::pin(line(&writer, b"third\n".to_vec()));
            tokio::select! {
                biased;
                () = &mut third => panic!("there was no room"),
                () = tokio::task::yield_now() => {}
            }
            assert!(writer.try_line(b"our own\n".to_vec()), "a flooding worker leaves room for our own log");
            open.send(()).unwrap();
            third.await;
        });
        for _ in 0..3 {
            open.send(()).unwrap();
        }
        let all: Vec<_> = (0..4).map(|_| lines.recv_timeout(DEADLINE).unwrap()).collect();
        assert!(all.iter().any(|line| line == b"third\n") && all.iter().any(|line| line == b"our own\n"));
    }

    #[test]
    fn a_closed_standard_error_stops_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let writer = Writer::start(ours).unwrap();
        run(async {
            for _ in 0..100 {
                line(&writer, vec![b'x'; 64 * 1024]).await;
            }
        });
        assert!(writer.try_line(b"log\n".to_vec()));
        assert!(writer.flush(DEADLINE));
        assert_eq!(writer.losses(), (0, 101));
    }

    #[test]
    fn a_non_blocking_standard_error_loses_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let reader = thread::spawn(move || io::read_to_string(theirs).unwrap().len());
        let writer = Writer::start(ours).unwrap();
        run(async {
            for _ in 0..50 {
                line(&writer, vec![b'x'; 100_000]).await;
            }
        });
        assert!(writer.flush(DEADLINE));
        drop(writer);
        assert_eq!(reader.join().unwrap(), 5_000_000);
    }
}

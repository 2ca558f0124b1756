//! A service on plain TCP with a thread for each connection: one command a line, one line as its answer.
//!
//! | command | answer |
//! |---|---|
//! | `PING` | `PONG` |
//! | `ECHO text` | the text |
//! | `WAIT ms` | `DONE`, so much later (a minute at most) |
//! | `STATS` | who answers, and what it has done |
//! | `QUIT` | `BYE`, and the end of the connection |
//!
//! `BYE` also comes after an answer, or while nothing is asked, when the worker finishes: the client connects again, and gets another worker. A command
//! that is followed by `BYE` or by the end of the connection instead of its answer was not carried out.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use handover::worker::{Connection, Guard, Worker};
use handover_services::log;

/// So many connections at once; more wait in the socket's queue, where another worker may take them.
const CONNECTIONS_MAX: usize = 256;
/// A longer line ends its connection.
const LINE_MAX: u64 = 4_096;
/// How long a client may say nothing, or not read its answers.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest that `WAIT` waits.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What all connections share.
struct Service {
    worker: Worker,
    connections: AtomicU64,
    commands: AtomicU64,
    /// Rung when there is something new to show.
    news: SyncSender<()>,
}

fn main() -> ExitCode {
    log::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    // First, while there is one thread: it takes the fds and variables that the process was started with.
    let worker = Worker::options().client("lines 1.0").drain_on_signals(true).connect()?;
    worker.feed_watchdog()?;
    // Where nobody passes it a socket.
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "tcp://127.0.0.1:8080".to_owned());
    let listener = worker.listener("lines").or_bind(&address)?;
    let tracker = worker.tracker();
    let (news, told) = sync_channel(1);
    let counts = || AtomicU64::new(0);
    let service = Service { worker: worker.clone(), connections: counts(), commands: counts(), news };
    let service = Arc::new(service);
    {
        let service = Arc::clone(&service);
        thread::Builder::new().name("status".to_owned()).spawn(move || service.tell_status(&told))?;
    }
    worker.ready();

    let mut incoming = listener.incoming()?;
    loop {
        // A worker that is full does not hang.
        incoming.pulse().rest(|| tracker.wait_for_room(CONNECTIONS_MAX));
        let Some(connection) = incoming.next() else { break };
        let (connection, guard, service) = (connection?, tracker.enter(), Arc::clone(&service));
        let serve = move || {
            // A client that went away, or took too long, is its own affair.
            let _ = service.serve(connection, &guard);
        };
        if let Err(error) = thread::Builder::new().spawn(serve) {
            eprintln!("a connection is dropped: {error}");
        }
    }
    drop(incoming);
    drop(listener);
    match tracker.finish(None) {
        0 => eprintln!("finished"),
        cut => eprintln!("finished, {cut} connections are cut: the time is up"),
    }
    worker.close();
    Ok(())
}

impl Service {
    fn serve(&self, connection: Connection, guard: &Guard) -> io::Result<()> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let _ = self.news.try_send(());
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let mut writer = connection.try_clone()?;
        // What is waited for is the next command: then the connection is idle, and may be closed when it is time to finish.
        let idle = connection.try_clone()?;
        let mut reader = BufReader::new(connection);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = guard.idle(&idle, |_| reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line));
            // Without its end it is no command: the client went, was too slow, or says too much.
            if read.is_err() || line.pop() != Some(b'\n') {
                return writer.write_all(b"BYE\n");
            }
            let answer = self.answer(&String::from_utf8_lossy(&line));
            // In one write, so that it is either there or not.
            let last = answer == "BYE" || guard.is_draining();
            let bye = if last && answer != "BYE" { "BYE\n" } else { "" };
            writer.write_all(format!("{answer}\n{bye}").as_bytes())?;
            if last {
                return Ok(());
            }
        }
    }

    fn answer(&self, line: &str) -> String {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let _ = self.news.try_send(());
        let (command, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        match command {
            "PING" => "PONG".to_owned(),
            "ECHO" => rest.to_owned(),
            "WAIT" => {
                let Ok(ms) = rest.parse() else { return "ERROR milliseconds are a number".to_owned() };
                wait(Duration::from_millis(ms).min(WAIT_MAX));
                "DONE".to_owned()
            }
            "STATS" => self.stats(),
            "QUIT" => "BYE".to_owned(),
            _ => "ERROR one of PING, ECHO, WAIT, STATS, QUIT".to_owned(),
        }
    }

    fn stats(&self) -> String {
        let me = match self.worker.identity() {
            Some(me) => format!("slot={} generation={}", me.slot, me.generation),
            None => "alone".to_owned(),
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{me} pid={} connections={} commands={}",
            std::process::id(),
            count(&self.connections),
            count(&self.commands)
        )
    }

    /// The line in `handover status`: at most once a second, and never while nothing happens.
    fn tell_status(&self, told: &Receiver<()>) {
        while told.recv().is_ok() {
            let commands = self.commands.load(Ordering::Relaxed);
            let connections = self.connections.load(Ordering::Relaxed);
            self.worker.status(&format!("{connections} connections, {commands} commands so far"));
            wait(Duration::from_secs(1));
        }
    }
}

/// Waits so long.
fn wait(time: Duration) {
    let (_never, nothing) = sync_channel::<()>(0);
    let _ = nothing.recv_timeout(time);
}

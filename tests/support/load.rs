//! A load client: closed loop (so many clients, each asks again when it has its answer) or open loop (so many
//! new connections a second, whatever becomes of them), with a connection for each request or kept alive.
//!
//! Bounded in every way: clients, requests a second, and time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Connection;
use super::scratch::Address;
use super::tally::Tally;
use super::{deadline, left};

/// No load runs longer.
const LONGEST: Duration = Duration::from_secs(120);
/// The clients of an open loop: enough that the rate holds while some of them wait for an answer.
const OPEN_CLIENTS: u32 = 24;
/// Kept-alive connections are renewed after so many requests, so that new ones are made all the time.
const REQUESTS_A_CONNECTION: u32 = 50;

/// What to do.
#[derive(Clone)]
pub struct Load {
    address: Address,
    path: String,
    clients: u32,
    /// The time between two requests: of one client (closed loop), of all together (open loop).
    pace: Duration,
    open_loop: bool,
    keep_alive: bool,
}

impl Load {
    /// `clients` that each ask again when they have their answer, at most 250 times a second each.
    pub fn closed(address: &Address, clients: u32) -> Self {
        let pace = Duration::from_millis(4);
        Self {
            address: address.clone(),
            path: "/".to_owned(),
            clients,
            pace,
            open_loop: false,
            keep_alive: false,
        }
    }

    /// So many new connections a second, with one request each.
    pub fn open(address: &Address, rate: u32) -> Self {
        let pace = Duration::from_secs(1) / rate;
        let clients = OPEN_CLIENTS;
        Self {
            address: address.clone(),
            path: "/".to_owned(),
            clients,
            pace,
            open_loop: true,
            keep_alive: false,
        }
    }

    /// Keeps connections and asks on them again (closed loop).
    #[must_use]
    pub fn keep_alive(mut self) -> Self {
        self.keep_alive = true;
        self
    }

    /// Asks for this instead of `/`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Begins, and returns once the first answers are there.
    #[track_caller]
    pub fn start(self) -> Running {
        let shared = Arc::new(Shared {
            load: self,
            begun: Instant::now(),
            tickets: AtomicU64::new(0),
            done: Mutex::default(),
            changed: Condvar::new(),
        });
        let threads = (0..shared.load.clients)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.client())
            })
            .collect();
        let running = Running { shared, threads };
        running.wait_for(20);
        running
    }
}

#[derive(Default)]
struct Progress {
    answered: u64,
    stop: bool,
}

struct Shared {
    load: Load,
    begun: Instant,
    tickets: AtomicU64,
    done: Mutex<Progress>,
    changed: Condvar,
}

impl Shared {
    fn client(&self) -> Tally {
        let mut tally = Tally::default();
        let mut kept: Option<(Connection, Option<u32>, u32)> = None;
        let mut next = self.begun;
        while self.pause_until(self.due(&mut next)) {
            let began = Instant::now();
            let (mut connection, pid, used) = match kept.take() {
                Some(kept) => kept,
                None => match Connection::open(&self.load.address) {
                    Ok(connection) => {
                        tally.connections += 1;
                        (connection, None, 0)
                    }
                    Err(failure) => {
                        tally.fail(failure, None, began);
                        continue;
                    }
                },
            };
            let keep = self.load.keep_alive && used + 1 < REQUESTS_A_CONNECTION;
            match connection.get(&self.load.path, keep) {
                Ok(answer) => {
                    tally.count(&answer, began.elapsed());
                    if keep && !answer.closing {
                        kept = Some((connection, Some(answer.pid()), used + 1));
                    }
                    self.answered();
                }
                Err(failure) => tally.fail(failure, pid, began),
            }
        }
        tally
    }

    /// When the next request is due.
    fn due(&self, next: &mut Instant) -> Instant {
        if self.load.open_loop {
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
            return self.begun + self.load.pace * u32::try_from(ticket).unwrap_or(u32::MAX);
        }
        let due = *next;
        *next = due.max(Instant::now()) + self.load.pace;
        due
    }

    /// Waits until then; false where the load is to end before.
    fn pause_until(&self, then: Instant) -> bool {
        let mut progress = self.done.lock().expect("no client panics");
        loop {
            let now = Instant::now();
            if progress.stop || now > self.begun + LONGEST {
                return false;
            }
            if now >= then {
                return true;
            }
            progress = self.changed.wait_timeout(progress, then - now).expect("no client panics").0;
        }
    }

    fn answered(&self) {
        self.done.lock().expect("no client panics").answered += 1;
    }
}

/// A load that runs.
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Running {
    /// Waits until `more` requests have been answered from now on.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        self.wait_until(self.answered() + more);
    }

    /// How many requests have been answered.
    pub fn answered(&self) -> u64 {
        self.shared.done.lock().expect("no client panics").answered
    }

    /// Waits until so many requests have been answered in all.
    #[track_caller]
    pub fn wait_until(&self, wanted: u64) {
        let deadline = deadline();
        while self.answered() < wanted {
            let answered = self.answered();
            assert!(
                self.shared.begun.elapsed() < LONGEST,
                "the load is over: none lasts longer than {LONGEST:?}"
            );
            assert!(Instant::now() < deadline, "only {answered} of {wanted} requests were answered");
            std::thread::park_timeout(left(deadline).min(Duration::from_millis(2)));
        }
    }

    /// Ends, once each client has what it waits for.
    pub fn stop(mut self) -> Tally {
        self.end();
        let mut all = Tally { took: self.shared.begun.elapsed(), ..Tally::default() };
        for thread in self.threads.drain(..) {
            all.add(thread.join().expect("no client panics"));
        }
        all
    }

    fn end(&mut self) {
        self.shared.done.lock().expect("no client panics").stop = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

//! The load generator: one thread and one `epoll` for all connections, so that it takes as little of the machine as it
//! can; it runs on the same cores as what it measures, and says so on the page.
//!
//! Closed loop: so many clients, each asks again when it has its answer; for the most that a server can do. Open loop: so
//! many requests a second, whatever becomes of them, and a request's time counts from when it was *due*; so a server that
//! stops answering is charged for everybody who would have come meanwhile.
//!
//! A connection that has had its answer is reset by the client, not closed: else a run would fill the machine with
//! connections in `TIME_WAIT`, and the later rounds would pay for the earlier ones.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::sys::{self, Epoll, SECOND};

/// How long an open loop waits for the last answers.
const PATIENCE: u64 = 5 * SECOND;

/// How requests follow each other.
#[derive(Clone, Copy)]
pub enum Pace {
    /// So many clients, each as fast as it is answered.
    Closed(usize),
    /// So many requests a second.
    Open(u64),
}

/// What to do.
#[derive(Clone, Copy)]
pub struct Load {
    /// Whom to ask.
    pub address: SocketAddr,
    /// How fast.
    pub pace: Pace,
    /// Whether connections are kept; else each request has its own.
    pub keep_alive: bool,
    /// Nanoseconds before anything is counted.
    pub warm_up: u64,
    /// Nanoseconds in which it is.
    pub duration: u64,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    /// How long each answer took, in nanoseconds, connecting included.
    pub latencies: Vec<u64>,
    /// The longest time between two answers.
    pub gap: u64,
    /// Requests without a whole answer, by what happened.
    pub failed: BTreeMap<String, u64>,
    /// When each process gave its last answer.
    pub last_of: BTreeMap<u32, u64>,
    /// How long was counted.
    pub took: u64,
}

impl Tally {
    /// How many failed.
    pub fn lost(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// One client: at most one connection, at most one request.
#[derive(Default)]
struct Client {
    socket: Option<Socket>,
    /// When the request in hand was due; `None` where there is none.
    due: Option<u64>,
    sent: bool,
    answer: Vec<u8>,
}

struct Generator {
    load: Load,
    epoll: Epoll,
    request: Vec<u8>,
    clients: Vec<Client>,
    free: Vec<usize>,
    begun: u64,
    last: u64,
    tally: Tally,
}

impl Load {
    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// Where this process itself cannot go on: no fds, no addresses.
    pub fn run(self) -> io::Result<Tally> {
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        let request = format!("GET / HTTP/1.1\r\nHost: bench\r\nConnection: {connection}\r\n\r\n");
        let begun = sys::now();
        let mut generator = Generator {
            load: self,
            epoll: Epoll::new()?,
            request: request.into_bytes(),
            clients: Vec::new(),
            free: Vec::new(),
            begun,
            last: begun + self.warm_up,
            tally: Tally::default(),
        };
        generator.run()?;
        Ok(generator.tally)
    }
}

impl Generator {
    fn end(&self) -> u64 {
        self.begun + self.load.warm_up + self.load.duration
    }

    fn run(&mut self) -> io::Result<()> {
        let mut next = match self.load.pace {
            Pace::Closed(clients) => {
                (0..clients).try_for_each(|_| self.ask(self.begun))?;
                u64::MAX
            }
            Pace::Open(_) => self.begun,
        };
        let mut tokens = Vec::new();
        loop {
            let now = sys::now();
            while next <= now && next < self.end() {
                self.ask(next)?;
                let Pace::Open(rate) = self.load.pace else { break };
                next += SECOND / rate;
            }
            if self.is_over(now) {
                break;
            }
            let until = if now < self.end() { next.min(self.end()) } else { self.end() + PATIENCE };
            self.epoll.wait(&mut tokens, Some(until.saturating_sub(now)))?;
            for token in tokens.drain(..) {
                self.go_on(token)?;
            }
        }
        self.count_the_rest();
        Ok(())
    }

    fn is_over(&self, now: u64) -> bool {
        let waits_for_none =
            self.free.len() == self.clients.len() || matches!(self.load.pace, Pace::Closed(_));
        now >= self.end() && (waits_for_none || now >= self.end() + PATIENCE)
    }

    /// Who still waits after all that patience has no answer; a closed loop is cut off in the middle.
    fn count_the_rest(&mut self) {
        let now = sys::now();
        self.tally.took = self.load.duration;
        let given_up = self.clients.iter().filter_map(|client| client.due).filter(|due| now - due >= SECOND);
        let count = given_up.count() as u64;
        if count > 0 {
            self.tally.failed.insert("no answer".to_owned(), count);
        }
    }

    /// Begins a request that was due then.
    fn ask(&mut self, due: u64) -> io::Result<()> {
        let place = self.free.pop().unwrap_or(self.clients.len());
        if place == self.clients.len() {
            self.clients.push(Client::default());
        }
        self.clients[place].due = Some(due);
        self.begin(place)
    }

    fn begin(&mut self, place: usize) -> io::Result<()> {
        let client = &mut self.clients[place];
        client.sent = false;
        client.answer.clear();
        if client.socket.is_none() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
            socket.set_linger(Some(Duration::ZERO))?;
            let result = socket.connect(&self.load.address.into());
            if let Err(error) = result
                && error.raw_os_error() != Some(libc::EINPROGRESS)
            {
                return self.fail(place, &error.kind().to_string());
            }
            let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
            self.epoll.add(socket.as_raw_fd(), place, events)?;
            client.socket = Some(socket);
        }
        self.go_on(place)
    }

    fn go_on(&mut self, place: usize) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
        let Some(mut socket) = client.socket.as_ref() else { return Ok(()) };
        if client.due.is_none() {
            // A kept connection that the server has ended while nothing was asked.
            client.socket = None;
            return Ok(());
        }
        if !client.sent {
            return match socket.write(&self.request) {
                Ok(_whole) => {
                    client.sent = true;
                    Ok(())
                }
                Err(error) if is_not_yet(&error) => Ok(()),
                Err(error) => self.fail(place, &error.kind().to_string()),
            };
        }
        let mut bytes = [0; 4096];
        match socket.read(&mut bytes) {
            Ok(0) => self.fail(place, "closed without an answer"),
            Ok(count) => {
                client.answer.extend_from_slice(&bytes[..count]);
                match whole(&client.answer) {
                    Some(answer) => self.answered(place, answer),
                    None => Ok(()),
                }
            }
            Err(error) if is_not_yet(&error) => Ok(()),
            Err(error) => self.fail(place, &error.kind().to_string()),
        }
    }

    fn answered(&mut self, place: usize, answer: Answer) -> io::Result<()> {
        let now = sys::now();
        let due = self.clients[place].due.take().unwrap_or(now);
        let is_open = matches!(self.load.pace, Pace::Open(_));
        if due >= self.begun + self.load.warm_up && (is_open || now < self.end()) {
            self.tally.latencies.push(now - due);
            self.tally.gap = self.tally.gap.max(now.saturating_sub(self.last));
            self.last = now;
            self.tally.last_of.insert(answer.pid, now);
        }
        if !self.load.keep_alive || answer.closes {
            self.clients[place].socket = None;
        }
        self.next(place, now)
    }

    fn fail(&mut self, place: usize, why: &str) -> io::Result<()> {
        *self.tally.failed.entry(why.to_owned()).or_default() += 1;
        self.clients[place].due = None;
        self.clients[place].socket = None;
        if !matches!(self.load.pace, Pace::Open(_)) {
            // A closed loop against a server that refuses would fail for ever.
            return Err(io::Error::other(format!("the server under load failed: {why}")));
        }
        self.next(place, sys::now())
    }

    fn next(&mut self, place: usize, now: u64) -> io::Result<()> {
        if matches!(self.load.pace, Pace::Closed(_)) && now < self.end() {
            self.clients[place].due = Some(now);
            return self.begin(place);
        }
        self.free.push(place);
        Ok(())
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

/// A whole answer.
pub struct Answer {
    /// Who gave it; 0 where it does not say.
    pub pid: u32,
    /// When that process carried out its first statement; 0 where it does not say.
    pub began: u64,
    closes: bool,
}

/// Reads an answer; `None` while a part of it is missing.
pub fn whole(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let length: usize = after(&head, "content-length:")?.parse().ok()?;
    let body = std::str::from_utf8(bytes.get(end..end + length)?).ok()?;
    let number = |name: &str| after(body, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(Answer {
        pid: u32::try_from(number("pid=")).unwrap_or(0),
        began: number("began="),
        closes: after(&head, "connection:") == Some("close"),
    })
}

/// The word that follows `name`.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name).and_then(|(_, rest)| rest.split_whitespace().next())
}

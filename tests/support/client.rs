//! One HTTP/1.1 client connection that says exactly how it went.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::reports::number;
use super::scratch::Address;

/// How long a client waits for anything.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body.
    pub body: String,
    /// The server said `Connection: close`.
    pub closing: bool,
}

impl Answer {
    /// The worker's pid.
    pub fn pid(&self) -> u32 {
        number(&self.body, "pid=").unwrap_or(0)
    }

    /// The worker's generation.
    pub fn generation(&self) -> u64 {
        number(&self.body, "generation=").unwrap_or(0)
    }

    /// The program's version.
    pub fn version(&self) -> String {
        number(&self.body, "version=").unwrap_or_default()
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// The connection was reset before a byte of the answer came.
    Reset,
    /// The connection was closed before a byte of the answer came.
    Empty,
    /// Nothing came for too long.
    TimedOut,
    /// The answer broke off.
    Cut,
    /// Kept alive: closed while it was idle, crossing a request of which no byte was answered.
    Crossed,
    /// Something else.
    Odd,
}

/// A connection.
pub struct Connection {
    socket: Socket,
    answered: u32,
    pending: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: &Address) -> Result<Self, Failure> {
        Self::try_open(address).map_err(|error| match error.kind() {
            _ if error.raw_os_error() == Some(libc::EINPROGRESS) => Failure::TimedOut,
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::Refused,
            ErrorKind::ConnectionReset => Failure::Reset,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::TimedOut,
            _ => Failure::Odd,
        })
    }

    fn try_open(address: &Address) -> io::Result<Self> {
        let (domain, to) = match address {
            Address::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        // The write timeout bounds `connect` as well: socket(7), SO_SNDTIMEO.
        socket.set_write_timeout(Some(CLIENT_PATIENCE))?;
        socket.set_read_timeout(Some(CLIENT_PATIENCE))?;
        socket.connect(&to)?;
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Self { socket, answered: 0, pending: Vec::new() })
    }

    /// Asks for `path` and takes the whole answer.
    pub fn get(&mut self, path: &str, keep_alive: bool) -> Result<Answer, Failure> {
        self.ask(path, keep_alive)?;
        self.answer()
    }

    /// Only asks.
    pub fn ask(&mut self, path: &str, keep_alive: bool) -> Result<(), Failure> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n");
        self.socket.write_all(request.as_bytes()).map_err(|error| self.failure(&error))
    }

    /// Waits for the first byte of the answer, and leaves it there.
    pub fn wait_for_answer(&self) {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let _ = self.socket.peek(&mut byte);
    }

    /// Only takes the answer.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(answer) = self.whole_answer() {
                self.answered += 1;
                return Ok(answer);
            }
            match self.socket.read(&mut chunk) {
                Ok(0) if !self.pending.is_empty() => return Err(Failure::Cut),
                Ok(0) if self.answered > 0 => return Err(Failure::Crossed),
                Ok(0) => return Err(Failure::Empty),
                Ok(n) => self.pending.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    /// The answer, once it is there as its `Content-Length` says; without one, never (all our servers send it).
    fn whole_answer(&mut self) -> Option<Answer> {
        let end = self.pending.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.pending[..end]).to_ascii_lowercase();
        let length: usize = head.split("content-length:").nth(1)?.lines().next()?.trim().parse().ok()?;
        if self.pending.len() < end + length {
            return None;
        }
        let message: Vec<u8> = self.pending.drain(..end + length).collect();
        let body = String::from_utf8_lossy(&message[end..]).into_owned();
        Some(Answer { body, closing: head.contains("connection: close") })
    }

    fn failure(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if !self.pending.is_empty() => Failure::Cut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if self.answered > 0 => Failure::Crossed,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
            _ => Failure::Odd,
        }
    }
}

/// Asks once, on a connection of its own.
pub fn get(address: &Address, path: &str) -> Result<Answer, Failure> {
    Connection::open(address)?.get(path, false)
}

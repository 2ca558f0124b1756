//! The accept loop of a program with threads.
//!
//! It waits with `poll(2)`, level-triggered, and takes one connection for each time that it wakes up: workers that share a socket so get
//! fair shares without losing throughput. (With `EPOLLEXCLUSIVE` the kernel wakes the same one again and again.)

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::listener::Listener;
use super::pulse::Pulse;
use crate::os::accept::Acceptor;
use crate::os::kind::Family;
use crate::os::poll::{Entry, poll};

/// How long nothing is accepted when the process or the system has no fds or memory left for it.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A connection that was accepted: blocking, and close-on-exec.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use handover::worker::Connection;
///
/// fn echo(mut connection: Connection) -> std::io::Result<()> {
///     let mut buffer = [0; 1024];
///     let length = connection.read(&mut buffer)?;
///     connection.write_all(&buffer[..length])
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Connection {
    pub(super) fn new(family: Family, fd: OwnedFd) -> Self {
        match family {
            Family::Unix => Self::Unix(fd.into()),
            _ => Self::Tcp(fd.into()),
        }
    }

    /// One that goes over TCP.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// # let http = worker.listener("http").or_bind("tcp://127.0.0.1:0")?;
    /// # let address = std::net::TcpListener::from(http.sockets()[0].try_clone()?).local_addr()?;
    /// let _client = std::net::TcpStream::connect(address)?;
    /// let connection = http.incoming()?.next().expect("one waits")?;
    /// let second_handle = connection.try_clone()?;
    /// let stream = connection.into_tcp().expect("it goes over TCP");
    /// assert_eq!(stream.local_addr()?, address);
    /// # drop(second_handle);
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// The connection, where it does not.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            other => Err(other),
        }
    }

    /// How long a read may wait for the client; `None`: for ever, which is what holds at first. It holds for all handles of the connection.
    ///
    /// ```no_run
    /// # fn f(connection: handover::worker::Connection) -> std::io::Result<()> {
    /// // A client that says nothing does not keep its thread for ever.
    /// connection.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    /// connection.set_write_timeout(Some(std::time::Duration::from_secs(30)))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where `timeout` is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// The same for a write, which waits where the client does not read.
    ///
    /// # Errors
    /// As there.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// A second handle of it.
    ///
    /// # Errors
    /// Where the process has no fds left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Connections as they come: from [`Listener::incoming`].
///
/// Ends when draining begins or the listener is removed; of a socket that the process bound itself, after what waited in its queue.
/// It has a [`Pulse`] that beats whenever the loop comes round: a loop whose body hangs is found out. Errors of a single connection
/// (the client went) are passed over, and when there are no fds left it waits a little; what it gives as an error is the end.
///
/// It belongs to the thread that made it. Make one for each accepting thread.
///
/// ```no_run
/// # use std::sync::mpsc::SyncSender;
/// # use handover::worker::{Connection, Error, Listener};
/// fn accept(http: &Listener, queue: &SyncSender<Connection>) -> Result<(), Error> {
///     let mut incoming = http.incoming()?;
///     while let Some(connection) = incoming.next() {
///         let connection = connection?;
///         // A queue that is full is no program that hangs.
///         let _ = incoming.pulse().rest(|| queue.send(connection));
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Incoming<'listener> {
    listener: &'listener Listener,
    families: Vec<Family>,
    acceptor: Acceptor,
    pulse: Pulse,
    /// Which socket is looked at first.
    turn: usize,
    has_failed: bool,
}

impl<'listener> Incoming<'listener> {
    pub(super) fn new(listener: &'listener Listener, families: Vec<Family>) -> Result<Self, Error> {
        let pulse = Pulse::new(Arc::clone(&listener.core), true)?;
        Ok(Self { listener, families, acceptor: Acceptor::new(), pulse, turn: 0, has_failed: false })
    }

    /// Its pulse, to [rest](Pulse::rest) where the loop waits for a free place.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn is_over(&self) -> bool {
        self.listener.is_over(&self.listener.core.lock())
    }

    /// One connection, or none after one wake-up.
    fn take_one(&mut self, timeout: Option<Duration>) -> io::Result<Option<Connection>> {
        let sockets = &self.listener.sockets;
        let mut entries: Vec<_> = sockets.iter().map(|socket| Entry::readable(socket.as_fd())).collect();
        entries.push(Entry::readable(self.pulse.as_fd()));
        if !poll(&mut entries, timeout)? {
            return Ok(None);
        }
        for step in 0..sockets.len() {
            let at = (self.turn + step) % sockets.len();
            if entries[at].is_readable() {
                self.turn = at + 1;
                let accepted = self.acceptor.accept(sockets[at].as_fd(), false)?;
                return Ok(accepted.map(|fd| Connection::new(self.families[at], fd)));
            }
        }
        Ok(None)
    }

    /// What is left in the queue of a socket that nobody else has.
    fn take_left(&mut self) -> Option<io::Result<Option<Connection>>> {
        if !self.listener.is_own {
            return None;
        }
        match self.take_one(Some(Duration::ZERO)) {
            Ok(None) => None,
            taken => Some(taken),
        }
    }
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<Connection>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            self.pulse.beat();
            let taken = if self.is_over() { self.take_left()? } else { self.take_one(None) };
            match taken {
                Ok(None) => {}
                Ok(Some(connection)) => return Some(Ok(connection)),
                Err(error) if is_of_one(&error) => {}
                Err(error) if is_exhaustion(&error) => {
                    // Only to be woken; connections are left to those who have room.
                    let _ = poll(&mut [Entry::readable(self.pulse.as_fd())], Some(EXHAUSTED));
                }
                Err(error) => {
                    self.has_failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Errors that belong to the connection that would have been accepted: `accept(2)`, "Error handling".
pub(super) fn is_of_one(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    const OF_ONE: [i32; 10] = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::EPERM,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
    ];
    #[cfg(target_os = "macos")]
    const OF_ONE: [i32; 2] = [libc::ECONNABORTED, libc::EPROTO];
    error.raw_os_error().is_some_and(|number| OF_ONE.contains(&number))
}

/// That there is no room now.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number.is_some_and(|n| [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].contains(&n))
}

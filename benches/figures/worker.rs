//! The program that is measured: this very binary, started as `figures worker`. A small HTTP server with one thread that
//! takes its socket as fd 3, says `READY=1`, and on SIGTERM finishes what it has accepted. Its answer tells its pid
//! and the moment of its first statement.
//!
//! `--boot MS` makes it slow to start, `--idle` takes no socket and does nothing, `--fd N` is for supervisors that pass
//! their sockets under other numbers. `figures activate PROGRAM…` is what a service manager does: it passes standard
//! input on as fd 3, in the variables of `sd_listen_fds(3)`, and becomes the program.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use crate::sys::{self, Epoll, MILLISECOND, SECOND};

const LISTENER: usize = 0;
const TERMINATION: usize = 1;
/// Connections have tokens from here on.
const FIRST: usize = 2;

/// What it was asked to be.
struct Order {
    boot: u64,
    idle: bool,
    fd: i32,
}

impl Order {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut order = Self { boot: 0, idle: false, fd: 3 };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--boot" => order.boot = rest.next()?.parse().ok()?,
                "--idle" => order.idle = true,
                "--fd" => order.fd = rest.next()?.parse().ok()?,
                _ => return None,
            }
        }
        Some(order)
    }
}

/// `figures worker …`
pub fn run(arguments: &[String]) -> ExitCode {
    let began = sys::now();
    let Some(order) = Order::parse(arguments) else {
        eprintln!("worker: [--boot MS] [--idle] [--fd N]");
        return ExitCode::from(2);
    };
    match work(&order, began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(order: &Order, began: u64) -> io::Result<()> {
    sys::pause(order.boot * MILLISECOND);
    if order.idle {
        ready();
        loop {
            sys::pause(3600 * SECOND);
        }
    }
    let listener = TcpListener::from(sys::inherited(order.fd)?);
    listener.set_nonblocking(true)?;
    let mut server = Server::new(listener, began)?;
    ready();
    server.serve()
}

fn ready() {
    if let (Some(path), Ok(socket)) = (std::env::var_os("NOTIFY_SOCKET"), UnixDatagram::unbound()) {
        let _ = socket.send_to(b"READY=1", path);
    }
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    answered: bool,
}

struct Server {
    epoll: Epoll,
    listener: Option<TcpListener>,
    /// Readable once it is to end.
    termination: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// The answers: the connection stays, and it is closed.
    keep: Vec<u8>,
    close: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener, began: u64) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let termination = sys::termination()?;
        epoll.add(listener.as_raw_fd(), LISTENER, libc::EPOLLIN | libc::EPOLLEXCLUSIVE)?;
        epoll.add(termination.as_raw_fd(), TERMINATION, libc::EPOLLIN)?;
        let body = format!("pid={} began={began}\n", std::process::id());
        let answer = |connection: &str| {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}")
                .into_bytes()
        };
        Ok(Self {
            epoll,
            listener: Some(listener),
            termination,
            connections: Vec::new(),
            free: Vec::new(),
            keep: answer("keep-alive"),
            close: answer("close"),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut tokens = Vec::new();
        while self.listener.is_some() || self.free.len() < self.connections.len() {
            self.epoll.wait(&mut tokens, None)?;
            for token in tokens.drain(..) {
                match token {
                    LISTENER => self.accept()?,
                    TERMINATION => self.drain()?,
                    token => self.read(token - FIRST),
                }
            }
        }
        Ok(())
    }

    /// Takes one connection: another worker may have been faster, and another one may be free for the next.
    fn accept(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let place = self.free.pop().unwrap_or(self.connections.len());
        if place == self.connections.len() {
            self.connections.push(None);
        }
        self.epoll.add(stream.as_raw_fd(), place + FIRST, libc::EPOLLIN)?;
        self.connections[place] = Some(Connection { stream, unread: Vec::new(), answered: false });
        self.read(place);
        Ok(())
    }

    /// Accepts nothing more, and lets those go that wait for nothing.
    fn drain(&mut self) -> io::Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        self.epoll.remove(listener.as_raw_fd())?;
        self.epoll.remove(self.termination.as_raw_fd())?;
        for place in 0..self.connections.len() {
            let idle = |connection: &Connection| connection.answered && connection.unread.is_empty();
            if self.connections[place].as_ref().is_some_and(idle) {
                self.let_go(place);
            }
        }
        Ok(())
    }

    fn let_go(&mut self, place: usize) {
        if self.connections[place].take().is_some() {
            self.free.push(place);
        }
    }

    fn read(&mut self, place: usize) {
        let draining = self.listener.is_none();
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        let mut bytes = [0; 4096];
        let stays = match connection.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                connection.unread.extend_from_slice(&bytes[..count]);
                // Where the client is gone, so is the connection.
                connection.answer(draining, &self.keep, &self.close).is_ok_and(|stays| stays)
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if !stays {
            self.let_go(place);
        }
    }
}

impl Connection {
    /// Answers a whole request; false where the connection is to be closed.
    fn answer(&mut self, draining: bool, keep: &[u8], close: &[u8]) -> io::Result<bool> {
        if !self.unread.ends_with(b"\r\n\r\n") {
            return Ok(true);
        }
        let asked = b"onnection: close";
        let closes = draining || self.unread.windows(asked.len()).any(|window| window == asked);
        self.stream.write_all(if closes { close } else { keep })?;
        self.unread.clear();
        self.answered = true;
        Ok(!closes)
    }
}

/// `figures activate PROGRAM ARGUMENT…`
pub fn activate(words: &[String]) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else { return ExitCode::from(2) };
    let mut command = Command::new(program);
    command.args(arguments).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "http");
    command.env("LISTEN_PID", std::process::id().to_string());
    let error = match sys::place_at_3() {
        Ok(()) => command.stdin(Stdio::null()).exec(),
        Err(error) => error,
    };
    eprintln!("activate: {program}: {error}");
    ExitCode::FAILURE
}

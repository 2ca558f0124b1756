//! The workers of the figure `messages`: this very binary, started as `figures talker`. One asks, the others send back what they get. On the
//! SDK, and on plain sockets with the same lines.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use handover::worker::{PoolName, Sender, SlotIndex, Target, Worker};
use serde_json::value::RawValue;

use crate::sys::{self, Epoll, MILLISECOND};

/// What is sent: a small message.
const DATA: &str = "{\"room\":\"lobby\",\"text\":\"hello, is anybody there?\"}";

/// How much is asked.
#[derive(Clone, Copy)]
pub struct Asking {
    /// How many messages are sent, each of which is answered by another one.
    pub count: usize,
    /// How many are under way.
    pub window: usize,
    /// To how many others, in turns.
    pub peers: usize,
}

/// What it took, in nanoseconds.
#[derive(Default)]
pub struct Took {
    /// All of it.
    pub all: u64,
    /// Each message until its answer; only where one at a time is under way.
    pub each: Vec<u64>,
}

impl Took {
    /// Writes it where the bench looks for it.
    fn write(&self, path: &Path) -> io::Result<()> {
        let numbers: Vec<String> = std::iter::once(&self.all).chain(&self.each).map(u64::to_string).collect();
        let part = path.with_extension("part");
        std::fs::write(&part, numbers.join(" "))?;
        std::fs::rename(part, path)
    }

    /// Reads it; `None` while it is not there.
    pub fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut numbers = text.split(' ').filter_map(|number| number.parse().ok());
        Some(Self { all: numbers.next()?, each: numbers.collect() })
    }
}

/// Sends, and notes answers, with whatever carries them.
fn ask(
    asking: Asking,
    mut send: impl FnMut(usize) -> io::Result<()>,
    mut next: impl FnMut() -> io::Result<usize>,
) -> io::Result<Took> {
    // Once around first, so that all of them have started.
    for peer in 0..asking.peers {
        send(peer)?;
        next()?;
    }
    let begun = sys::now();
    let mut last = begun;
    let mut took = Took::default();
    for number in 0..asking.window.min(asking.count) {
        send(number % asking.peers)?;
    }
    for number in 0..asking.count {
        let peer = next()?;
        if asking.window == 1 {
            let now = sys::now();
            took.each.push(now - last);
            last = now;
        }
        if number + asking.window < asking.count {
            send(peer)?;
        }
    }
    took.all = sys::now() - begun;
    Ok(took)
}

/// `figures talker …`
pub fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse().unwrap_or(0);
    let done = match words[..] {
        ["echo"] => echo(),
        ["plain-echo"] => plain_echo(),
        ["ask", result, count, window, peers] => {
            let asking = Asking { count: number(count), window: number(window), peers: number(peers) };
            ask_workers(Path::new(result), asking)
        }
        _ => return ExitCode::from(2),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("talker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo() -> io::Result<()> {
    let worker = Worker::options().messages(true).connect().map_err(io::Error::other)?;
    worker.ready();
    for message in worker.messages() {
        let data: Box<RawValue> = message.to().map_err(io::Error::other)?;
        if let Sender::Worker { worker: from, .. } = message.from() {
            worker.send(Target::Worker(*from), &data).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn ask_workers(result: &Path, asking: Asking) -> io::Result<()> {
    let worker = Worker::options().messages(true).connect().map_err(io::Error::other)?;
    worker.ready();
    // The bench says so when the others are ready.
    while !result.with_extension("go").exists() && !worker.is_draining() {
        sys::pause(MILLISECOND);
    }
    let data: Box<RawValue> = serde_json::from_str(DATA)?;
    let mut messages = worker.messages();
    let send = |peer: usize| {
        let slot = SlotIndex(u32::try_from(peer).unwrap_or(0));
        worker.send(Target::Slot(PoolName::new("echo"), slot), &data).map_err(io::Error::other)
    };
    let next = || match messages.next().as_ref().map(handover::worker::Message::from) {
        Some(Sender::Worker { slot, .. }) => Ok(slot.0 as usize),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    };
    ask(asking, send, next)?.write(result)?;
    worker.wait_for_drain();
    Ok(())
}

/// The line of a message, as a worker writes it.
fn line(data: &str) -> String {
    format!("{{\"type\":\"message\",\"to\":{{\"pool\":\"echo\",\"slot\":0}},\"data\":{data}}}\n")
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    _kind: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn read_line(text: &str) -> io::Result<Line<'_>> {
    Ok(serde_json::from_str(text)?)
}

/// Its standard input is a socket.
fn plain_echo() -> io::Result<()> {
    let socket = UnixStream::from(sys::inherited(0)?);
    let (mut reader, mut writer) = (BufReader::new(socket.try_clone()?), socket);
    let mut text = String::new();
    while reader.read_line(&mut text)? > 0 {
        writer.write_all(line(read_line(&text)?.data.get()).as_bytes())?;
        text.clear();
    }
    Ok(())
}

/// Asks over plain sockets, one for each other process.
pub fn ask_sockets(sockets: &[UnixStream], asking: Asking) -> io::Result<Took> {
    let epoll = Epoll::new()?;
    let mut readers = Vec::new();
    for (place, socket) in sockets.iter().enumerate() {
        epoll.add(socket.as_raw_fd(), place, libc::EPOLLIN)?;
        readers.push(BufReader::new(socket.try_clone()?));
    }
    let send = |peer: usize| (&sockets[peer]).write_all(line(DATA).as_bytes());
    let (mut tokens, mut came, mut text) = (Vec::new(), VecDeque::new(), String::new());
    let next = || {
        loop {
            if let Some(peer) = came.pop_front() {
                return Ok(peer);
            }
            epoll.wait(&mut tokens, None)?;
            for peer in tokens.drain(..) {
                loop {
                    text.clear();
                    if readers[peer].read_line(&mut text)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    read_line(&text)?;
                    came.push_back(peer);
                    if readers[peer].buffer().is_empty() {
                        break;
                    }
                }
            }
        }
    };
    ask(asking, send, next)
}

//! The receiving half of a pipe: what was read, and what of it was acknowledged.
//!
//! It reads and writes as much as it can without waiting, and says what to wait for. No item leaves it before its
//! acknowledgement is written: if that cannot be, the sender is gone or has taken the item back, and the item is dropped here.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::task::Poll;

use serde::de::DeserializeOwned;

use super::encode::{put_ack, put_receiver_hello, put_refused};
use super::error::{Fault, ReceiveError};
use super::lines::{Inbound, Line};
use super::{CREDITS_MAX, Item, ItemId};
use crate::os::passing::{Receive, receive_now, send_now};
use crate::os::stream::shut_down;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// The longest reason that is sent, in bytes.
const REASON_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Receiving<T> {
    inbound: Inbound,
    buffer: Box<[u8]>,
    greeted: bool,
    /// Read, and given out when `out` is written.
    staged: VecDeque<Result<Item<T>, ReceiveError>>,
    /// Numbers, the first and the last, of staged items without a line in `out`.
    taken: Option<(u64, u64)>,
    out: Vec<u8>,
    written: usize,
    /// What follows when `staged` is given out.
    halt: Option<ReceiveError>,
    ended: bool,
    dropped: u64,
    wants_write: bool,
}

impl<T> Receiving<T> {
    /// A new pipe: says hello, which has room on a socket that is new.
    pub(super) fn new(socket: BorrowedFd<'_>, credits: usize) -> Self {
        let mut out = Vec::new();
        put_receiver_hello(&mut out, credits.clamp(1, CREDITS_MAX));
        let mut new = Self {
            inbound: Inbound::default(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            greeted: false,
            staged: VecDeque::new(),
            taken: None,
            out,
            written: 0,
            halt: None,
            ended: false,
            dropped: 0,
            wants_write: false,
        };
        // Where it fails, reading says so.
        let _ = new.flush(socket);
        new
    }

    /// What to wait for after `Pending`: room to write, else something to read.
    pub(super) const fn wants_write(&self) -> bool {
        self.wants_write
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes what is to be said; false: not all of it.
    fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        while self.written < self.out.len() {
            match send_now(socket, &self.out[self.written..], &[]) {
                Ok(taken) => self.written += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Ends the pipe: says why where that can still be said, and closes what came.
    fn end(&mut self, socket: BorrowedFd<'_>, error: ReceiveError) -> ReceiveError {
        let word = match &error {
            ReceiveError::FdsLost { .. } => "fds_lost",
            _ => "protocol",
        };
        put_refused(&mut self.out, None, word, &reason(&error));
        let _ = self.flush(socket);
        let _ = shut_down(socket, Shutdown::Both);
        self.inbound.clear();
        self.ended = true;
        error
    }
}

/// An error in words, as long as a reason may be.
fn reason(error: &impl ToString) -> String {
    let mut text = error.to_string();
    let mut end = text.len().min(REASON_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

impl<T: DeserializeOwned> Receiving<T> {
    /// Gives at most `max` items that have come, at the end of `items`, and how many; 0 is the end of the pipe. Where none has,
    /// `receive` may wait for one.
    pub(super) fn poll(
        &mut self,
        socket: BorrowedFd<'_>,
        max: usize,
        items: &mut Vec<Item<T>>,
        receive: Receive,
    ) -> Poll<Result<usize, ReceiveError>> {
        loop {
            self.stage(max);
            if !self.staged.is_empty() {
                // One acknowledgement is for all that have come by now.
                while self.staged.len() < max && self.goes_on() && self.read(socket, receive_now) {
                    self.stage(max);
                }
                self.acknowledge();
                match self.flush(socket) {
                    Ok(true) => return Poll::Ready(self.give(max, items)),
                    Ok(false) => {
                        self.wants_write = true;
                        return Poll::Pending;
                    }
                    Err(_gone) => self.withdrawn(socket),
                }
            }
            if let Some(error) = self.halt.take() {
                return Poll::Ready(Err(self.end(socket, error)));
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            // What is left of hello must not wait for something to come.
            self.wants_write = matches!(self.flush(socket), Ok(false));
            if !self.read(socket, if self.wants_write { receive_now } else { receive }) {
                return Poll::Pending;
            }
        }
    }

    /// Whether more can come.
    const fn goes_on(&self) -> bool {
        self.halt.is_none() && !self.ended
    }

    /// Reads once; false: nothing was there.
    fn read(&mut self, socket: BorrowedFd<'_>, receive: Receive) -> bool {
        match receive(socket, &mut self.buffer) {
            Ok(received) if received.length == 0 => self.halt = self.end_of_file(),
            Ok(received) => self.inbound.feed(received, &self.buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.halt = self.end_of_file(),
            Err(error) => self.halt = Some(ReceiveError::Io(error)),
        }
        true
    }

    /// Takes lines that have come, up to `max` items, and prepares their answers.
    fn stage(&mut self, max: usize) {
        while self.staged.len() < max && self.goes_on() {
            let line = match self.inbound.next() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(Fault::FdsLost) => {
                    self.halt = Some(self.lost());
                    break;
                }
                Err(Fault::Protocol(what)) => {
                    self.halt = Some(ReceiveError::Protocol(what));
                    break;
                }
            };
            match line {
                Line::Hello { version: 1.., .. } if !self.greeted => self.greeted = true,
                Line::Hello { .. } if self.greeted => self.broken("a second hello came"),
                Line::Hello { .. } => self.broken("hello offers no version that is known"),
                _ if !self.greeted => self.broken("a line came before hello"),
                Line::Item { id, data: Ok(data), fds } => {
                    self.taken = match self.taken {
                        Some((re, to)) if to + 1 == id => Some((re, id)),
                        _ => {
                            self.acknowledge();
                            Some((id, id))
                        }
                    };
                    self.staged.push_back(Ok(Item { data, fds }));
                }
                Line::Item { id, data: Err(error), .. } => {
                    self.acknowledge();
                    put_refused(&mut self.out, Some(id), "bad_request", &reason(&error));
                    self.staged.push_back(Err(ReceiveError::Data { id: ItemId(id), error }));
                }
                _ => {}
            }
        }
    }

    /// Says that what is noted in `taken` is.
    fn acknowledge(&mut self) {
        self.taken.take().into_iter().for_each(|(re, to)| put_ack(&mut self.out, re, to));
    }

    /// The sender does not keep the rules.
    fn broken(&mut self, what: &str) {
        self.halt = Some(ReceiveError::Protocol(what.to_owned()));
    }

    /// Gives out what is acknowledged, up to the first error.
    fn give(&mut self, max: usize, items: &mut Vec<Item<T>>) -> Result<usize, ReceiveError> {
        let mut given = 0;
        while given < max && self.staged.front().is_some_and(Result::is_ok) {
            items.extend(self.staged.pop_front().and_then(Result::ok));
            given += 1;
        }
        match self.staged.front() {
            Some(Err(_)) if given == 0 => self.staged.pop_front().map_or(Ok(0), |error| error.map(|_| 0)),
            _ => Ok(given),
        }
    }

    /// The sender does not take acknowledgements any more: what it did not get one for is still its own.
    fn withdrawn(&mut self, socket: BorrowedFd<'_>) {
        self.dropped +=
            (self.staged.iter().filter(|staged| staged.is_ok()).count() + self.inbound.whole_lines()) as u64;
        self.staged.clear();
        self.taken = None;
        self.halt = None;
        self.inbound.clear();
        self.out.clear();
        let _ = shut_down(socket, Shutdown::Both);
        self.ended = true;
    }

    fn lost(&self) -> ReceiveError {
        ReceiveError::FdsLost { items: self.inbound.whole_lines().max(1) }
    }

    /// Nothing comes any more: well, unless a line lacks its end.
    fn end_of_file(&mut self) -> Option<ReceiveError> {
        self.ended = true;
        let broken = self.inbound.is_within_a_line();
        broken.then(|| ReceiveError::Protocol("the stream ended within a line".to_owned()))
    }
}

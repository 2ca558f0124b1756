//! The sending half of a pipe: what is under way, what of it is written, what was acknowledged.
//!
//! It reads and writes as much as it can without waiting, and says what to wait for. An item is in one place at any time: with the caller,
//! in `in_flight` (until the receiver says that it has it), or in `refused`. What was not begun to be written goes back to the caller.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::encode::Message;
use super::error::{End, Unsent};
use super::flight::InFlight;
use super::lines::{Inbound, Line};
use super::{CREDITS_MAX, Item, ItemId};
use crate::os::clock::monotonic_usec;
use crate::os::passing::{Receive, receive, receive_now, send_now, waits_for_receivers};
use crate::os::stream::{Until, shut_down};

/// How much is read at once: acknowledgements are short.
const READ_BYTES: usize = 4 << 10;
/// While there are credits, acknowledgements are looked for this often, in microseconds; see docs/pipes.md.
const NOTE_USEC: u64 = 1_000;

/// An item that the receiver refused. It is the sender's again.
///
/// ```
/// use handover::pipe::{Refused, Sender};
///
/// fn say_why(sender: &mut Sender<String>) {
///     while let Some(Refused { id, item, reason, .. }) = sender.next_refused() {
///         eprintln!("item {id}, {}: {reason}", item.data);
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused<T> {
    /// Its number.
    pub id: ItemId,
    /// The item, as it was sent.
    pub item: Item<T>,
    /// Why, for programs: `bad_request` is data that is not what the receiver expects.
    pub error: String,
    /// Why, for people; may be empty.
    pub reason: String,
}

#[derive(Debug)]
pub(super) struct Sending<T> {
    inbound: Inbound,
    buffer: Box<[u8]>,
    /// The receiver's, when it has said hello.
    credits: Option<usize>,
    in_flight: InFlight<T>,
    refused: VecDeque<Refused<T>>,
    taken: u64,
    /// What is written last; no fds belong to what is left of it.
    message: Message,
    /// When it was last looked for acknowledgements before something was sent, in microseconds.
    noted: u64,
    ended: Option<End>,
    /// What to wait for: credits come with acknowledgements.
    blocked: Until,
}

impl<T> Sending<T> {
    /// A new pipe: says hello, which has room on a socket that is new.
    pub(super) fn new(socket: BorrowedFd<'_>) -> Self {
        let mut new = Self {
            inbound: Inbound::default(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            credits: None,
            in_flight: InFlight::new(),
            refused: VecDeque::new(),
            taken: 0,
            message: Message::hello(),
            noted: 0,
            ended: None,
            blocked: Until::Readable,
        };
        new.flush(socket);
        new
    }

    pub(super) const fn in_flight(&self) -> &InFlight<T> {
        &self.in_flight
    }

    /// The last item whose line was begun; 0 where there is none.
    pub(super) fn last(&self) -> ItemId {
        ItemId(self.in_flight.next() - 1)
    }

    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) const fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// What to wait for after [`Unsent::WouldBlock`].
    pub(super) const fn blocked(&self) -> Until {
        self.blocked
    }

    pub(super) fn next_refused(&mut self) -> Option<Refused<T>> {
        self.refused.pop_front()
    }

    /// Whether a line is begun and not yet written to its end.
    pub(super) fn has_rest(&self) -> bool {
        self.ended.is_none() && !self.message.rest().is_empty()
    }

    /// Ends the pipe: everything that was not taken, in the order of its numbers.
    pub(super) fn withdraw(&mut self, socket: BorrowedFd<'_>) -> Vec<(ItemId, Item<T>)> {
        // Nothing can be acknowledged from here on, and what was is still read. Not so on macOS, where this would
        // throw it away (bsd/kern/uipc_socket.c: sorflush).
        let ways = if cfg!(target_os = "macos") { Shutdown::Write } else { Shutdown::Both };
        let _ = shut_down(socket, ways);
        let _ = self.read_all(socket);
        let refused = self.refused.drain(..).map(|refused| (refused.id, refused.item));
        let mut all: Vec<_> =
            self.in_flight.take_all().map(|(id, item)| (ItemId(id), item)).chain(refused).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// How many items may be sent now.
    fn room(&mut self) -> Result<usize, Unsent> {
        if let Some(end) = &self.ended {
            return Err(Unsent::Ended(end.clone()));
        }
        let Some(credits) = self.credits else {
            self.blocked = Until::Readable;
            return Err(Unsent::WouldBlock);
        };
        match credits.saturating_sub(self.in_flight.len() + self.refused.len()) {
            0 if self.in_flight.is_empty() => Err(Unsent::RefusedWaiting),
            0 => {
                self.blocked = Until::Readable;
                Err(Unsent::WouldBlock)
            }
            room => Ok(room),
        }
    }

    /// Takes note of what has come where it is needed, or has not been done for a while: a read an item would cost more than the
    /// rest of what this side does for it.
    fn note(&mut self, socket: BorrowedFd<'_>) {
        let now = monotonic_usec();
        let room = self.credits.is_some_and(|credits| credits > self.in_flight.len() + self.refused.len());
        if !room || now.saturating_sub(self.noted) >= NOTE_USEC {
            self.noted = now;
            self.tend(socket);
        }
    }

    /// Whether an item could be sent now.
    pub(super) fn ready(&mut self, socket: BorrowedFd<'_>) -> Result<(), Unsent> {
        self.note(socket);
        self.flush(socket);
        self.room()?;
        self.blocked = Until::Either;
        if self.has_rest() { Err(Unsent::WouldBlock) } else { Ok(()) }
    }

    /// Writes what is left of a line.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) {
        while self.has_rest() {
            match send_now(socket, self.message.rest(), &[]) {
                Ok(taken) => self.message.wrote(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.end(socket, End::of(&error)),
            }
        }
    }

    /// Reads what has come, and takes note of it.
    pub(super) fn tend(&mut self, socket: BorrowedFd<'_>) {
        self.tend_with(socket, receive_now);
    }

    /// As [`Self::tend`], and the end that stands behind it, if it has come, too.
    pub(super) fn tend_whole(&mut self, socket: BorrowedFd<'_>) {
        if self.ended.is_none() {
            self.ended = self.read_all(socket).err();
        }
    }

    /// As [`Self::tend`], but waits for something to come if the socket is one that waits; false: it is not, and nothing had come.
    pub(super) fn tend_patiently(&mut self, socket: BorrowedFd<'_>) -> bool {
        self.tend_with(socket, receive)
    }

    fn tend_with(&mut self, socket: BorrowedFd<'_>, receive: Receive) -> bool {
        if self.ended.is_some() {
            return true;
        }
        self.read(socket, receive).unwrap_or_else(|end| {
            self.ended = Some(end);
            true
        })
    }

    /// Nothing can be written any more. Acknowledgements that have come still count.
    fn end(&mut self, socket: BorrowedFd<'_>, end: End) {
        let said = self.read_all(socket).err().filter(|said| *said != End::Closed);
        self.ended.get_or_insert(said.unwrap_or(end));
    }

    /// Reads until there is no more; an error is the end.
    fn read_all(&mut self, socket: BorrowedFd<'_>) -> Result<(), End> {
        while self.read(socket, receive_now)? {}
        Ok(())
    }

    /// Reads until a read is short, which means that there was no more; false: nothing had come. An error is the end.
    fn read(&mut self, socket: BorrowedFd<'_>, receive: Receive) -> Result<bool, End> {
        let mut receive = receive;
        let mut any = false;
        loop {
            let length = match receive(socket, &mut self.buffer) {
                Ok(received) if received.length == 0 => return Err(End::Closed),
                Ok(received) => {
                    let length = received.length;
                    self.inbound.feed(received, &self.buffer);
                    length
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(End::of(&error)),
            };
            self.take_lines()?;
            if length < self.buffer.len() {
                return Ok(true);
            }
            (any, receive) = (true, receive_now);
        }
    }

    fn take_lines(&mut self) -> Result<(), End> {
        let protocol = |what: &str| End::Protocol(what.to_owned());
        while let Some(line) =
            self.inbound.next::<IgnoredAny>().map_err(|fault| End::Protocol(fault.to_string()))?
        {
            match (line, self.credits) {
                (Line::Hello { version: 1.., credits: Some(credits @ 1..) }, None) => {
                    self.credits = Some(usize::try_from(credits).unwrap_or(CREDITS_MAX).min(CREDITS_MAX));
                }
                (Line::Refused { re: None, error, reason }, _) => return Err(End::Refused { error, reason }),
                (Line::Hello { .. }, Some(_)) => return Err(protocol("a second hello came")),
                (Line::Hello { .. }, None) => return Err(protocol("hello offers no version or no credits")),
                (_, None) => return Err(protocol("a line came before hello")),
                (Line::Ack { re, to }, _) => self.taken += self.in_flight.remove_all(re, to),
                (Line::Refused { re: Some(re), error, reason }, _) => {
                    if let Some(item) = self.in_flight.remove(re) {
                        self.refused.push_back(Refused { id: ItemId(re), item, error, reason });
                    }
                }
                // An answer to nothing, or something new.
                _ => {}
            }
        }
        Ok(())
    }
}

impl<T: Serialize> Sending<T> {
    /// Sends items from the front of `items`, as many as there is room for and one message carries, and gives the number of the last.
    /// They are then in flight, and [`Self::has_rest`] may hold.
    pub(super) fn offer(
        &mut self,
        socket: BorrowedFd<'_>,
        items: &mut VecDeque<Item<T>>,
    ) -> Result<ItemId, Unsent> {
        self.ready(socket)?;
        let room = self.room()?;
        let first = self.in_flight.next();
        self.message.begin();
        while let Some(item) = items.front().filter(|_| self.message.items() < room) {
            match self.message.add(self.in_flight.next(), item) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) if self.message.items() == 0 => return Err(why),
                Err(_later) => break,
            }
            items.pop_front().into_iter().for_each(|item| self.in_flight.push(item));
        }
        self.message.finish(first);
        let mut fds: Vec<BorrowedFd<'_>> = Vec::with_capacity(self.message.fds());
        fds.extend(self.in_flight.fds_from(first));
        match send_now(socket, self.message.rest(), &fds) {
            Ok(taken) => {
                self.message.wrote(taken);
                self.flush(socket);
                Ok(self.last())
            }
            Err(error) => {
                drop(fds);
                for _ in 0..self.message.items() {
                    self.in_flight.pop().into_iter().for_each(|item| items.push_front(item));
                }
                self.message.begin();
                Err(self.not_written(socket, &error))
            }
        }
    }

    fn not_written(&mut self, socket: BorrowedFd<'_>, error: &io::Error) -> Unsent {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.blocked = Until::Either;
            Unsent::WouldBlock
        } else if !waits_for_receivers(error) {
            self.end(socket, End::of(error));
            Unsent::Ended(self.ended.clone().unwrap_or(End::Closed))
        } else if self.in_flight.is_empty() {
            Unsent::FdsInFlight
        } else {
            // The receiver takes fds off the way as it takes items.
            self.blocked = Until::Readable;
            Unsent::WouldBlock
        }
    }
}

//! The sending half of a pipe: what is under way, what of it is written, what was acknowledged.
//!
//! It reads and writes as much as it can without waiting, and says what to wait for. An item is in one place at any time: with the caller,
//! in `in_flight` (until the receiver says that it has it), or in `refused`. What was not begun to be written goes back to the caller.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;

use super::error::{End, Unsent};
use super::lines::{Inbound, Line, put_item, put_sender_hello};
use super::{CREDITS_MAX, DATA_MAX, FDS_PER_ITEM_MAX, Item, ItemId};
use crate::os::passing::{FDS_MAX, receive_now, send_now, waits_for_receivers};
use crate::os::stream::{Until, shut_down};

/// How many bytes of lines go into one system call, unless one line alone has more.
const MESSAGE_BYTES: usize = 64 << 10;
/// How much is read at once: acknowledgements are short.
const READ_BYTES: usize = 4 << 10;

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
    /// The receiver's, when it has said hello.
    credits: Option<usize>,
    in_flight: BTreeMap<u64, Item<T>>,
    refused: VecDeque<Refused<T>>,
    /// The last item whose line was begun.
    last: u64,
    taken: u64,
    /// Bytes to be written, and how many of them are; no fds belong to what is left.
    rest: Vec<u8>,
    written: usize,
    ended: Option<End>,
    /// What to wait for: credits come with acknowledgements.
    blocked: Until,
}

impl<T> Sending<T> {
    /// A new pipe: says hello, which has room on a socket that is new.
    pub(super) fn new(socket: BorrowedFd<'_>) -> Self {
        let mut rest = Vec::new();
        put_sender_hello(&mut rest);
        let mut new = Self {
            inbound: Inbound::default(),
            credits: None,
            in_flight: BTreeMap::new(),
            refused: VecDeque::new(),
            last: 0,
            taken: 0,
            rest,
            written: 0,
            ended: None,
            blocked: Until::Readable,
        };
        new.flush(socket);
        new
    }

    pub(super) const fn in_flight(&self) -> &BTreeMap<u64, Item<T>> {
        &self.in_flight
    }

    /// The last item that was sent.
    pub(super) const fn last(&self) -> ItemId {
        ItemId(self.last)
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
        self.ended.is_none() && self.written < self.rest.len()
    }

    /// Ends the pipe: everything that was not taken, in the order of its numbers.
    pub(super) fn withdraw(&mut self, socket: BorrowedFd<'_>) -> Vec<(ItemId, Item<T>)> {
        // Nothing can be acknowledged from here on, and what was is still read. Not so on macOS, where this would
        // throw it away (bsd/kern/uipc_socket.c: sorflush).
        let ways = if cfg!(target_os = "macos") { Shutdown::Write } else { Shutdown::Both };
        let _ = shut_down(socket, ways);
        let _ = self.read(socket);
        let mut all = std::mem::take(&mut self.in_flight);
        all.extend(self.refused.drain(..).map(|refused| (refused.id.0, refused.item)));
        all.into_iter().map(|(id, item)| (ItemId(id), item)).collect()
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

    /// Whether an item could be sent now.
    pub(super) fn ready(&mut self, socket: BorrowedFd<'_>) -> Result<(), Unsent> {
        self.tend(socket);
        self.flush(socket);
        self.room()?;
        self.blocked = Until::Either;
        if self.has_rest() { Err(Unsent::WouldBlock) } else { Ok(()) }
    }

    /// Writes what is left of a line.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) {
        while self.has_rest() {
            match send_now(socket, &self.rest[self.written..], &[]) {
                Ok(taken) => self.written += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.end(socket, End::of(&error)),
            }
        }
    }

    /// Reads what has come, and takes note of it.
    pub(super) fn tend(&mut self, socket: BorrowedFd<'_>) {
        if self.ended.is_none()
            && let Err(end) = self.read(socket)
        {
            self.ended = Some(end);
        }
    }

    /// Nothing can be written any more. Acknowledgements that have come still count.
    fn end(&mut self, socket: BorrowedFd<'_>, end: End) {
        let said = self.read(socket).err().filter(|said| *said != End::Closed);
        self.ended.get_or_insert(said.unwrap_or(end));
    }

    /// Reads until there is no more; an error is the end.
    fn read(&mut self, socket: BorrowedFd<'_>) -> Result<(), End> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match receive_now(socket, &mut buffer) {
                Ok(received) if received.length == 0 => return Err(End::Closed),
                Ok(received) => self.inbound.feed(received, &buffer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(End::of(&error)),
            }
            self.take_lines()?;
        }
    }

    fn take_lines(&mut self) -> Result<(), End> {
        let protocol = |what: &str| End::Protocol(what.to_owned());
        while let Some(line) = self.inbound.next().map_err(|fault| End::Protocol(fault.to_string()))? {
            match (line, self.credits) {
                (Line::Hello { version: 1.., credits: Some(credits @ 1..) }, None) => {
                    self.credits = Some(usize::try_from(credits).unwrap_or(CREDITS_MAX).min(CREDITS_MAX));
                }
                (Line::Refused { re: None, error, reason }, _) => return Err(End::Refused { error, reason }),
                (Line::Hello { .. }, Some(_)) => return Err(protocol("a second hello came")),
                (Line::Hello { .. }, None) => return Err(protocol("hello offers no version or no credits")),
                (_, None) => return Err(protocol("a line came before hello")),
                (Line::Ack { re }, _) if re <= self.last => {
                    self.taken += u64::from(self.in_flight.remove(&re).is_some());
                }
                (Line::Refused { re: Some(re), error, reason }, _) if re <= self.last => {
                    if let Some(item) = self.in_flight.remove(&re) {
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
        let mut lines = Lines::default();
        while let Some(item) = items.front().filter(|_| lines.spans.len() < room) {
            match lines.add(item) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) if lines.spans.is_empty() => return Err(why),
                Err(_later) => break,
            }
            // Numbers begin with 1, and there are as many spans as items that were moved.
            let id = self.last + lines.spans.len() as u64;
            self.in_flight.extend(items.pop_front().map(|item| (id, item)));
        }
        lines.put(self.last + 1, &mut self.rest);
        self.written = 0;
        let first = self.last + 1;
        let fds: Vec<BorrowedFd<'_>> =
            self.in_flight.range(first..).flat_map(|(_, item)| item.fds.iter().map(AsFd::as_fd)).collect();
        match send_now(socket, &self.rest, &fds) {
            Ok(taken) => {
                self.written = taken;
                self.last += lines.spans.len() as u64;
                self.flush(socket);
                Ok(ItemId(self.last))
            }
            Err(error) => {
                self.rest.clear();
                let back = self.in_flight.split_off(&first);
                back.into_values().rev().for_each(|item| items.push_front(item));
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

/// The lines of one message, before it is known how many fds travel with the first of them.
#[derive(Default)]
struct Lines {
    data: Vec<u8>,
    /// For each item: how many fds it has, and where its data ends.
    spans: Vec<(usize, usize)>,
    fds: usize,
}

impl Lines {
    /// Adds an item; false: not in this message.
    fn add<T: Serialize>(&mut self, item: &Item<T>) -> Result<bool, Unsent> {
        let fds = item.fds.len();
        if fds > FDS_PER_ITEM_MAX {
            return Err(Unsent::TooManyFds { fds });
        }
        let begin = self.data.len();
        if self.fds + fds > FDS_MAX || begin > MESSAGE_BYTES {
            return Ok(false);
        }
        serde_json::to_writer(&mut self.data, &item.data).map_err(Unsent::NotJson)?;
        let data = &mut self.data[begin..];
        if data.len() > DATA_MAX {
            return Err(Unsent::TooLarge { bytes: data.len() });
        }
        // JSON has line breaks between tokens only: those of a `RawValue`.
        data.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        if begin > 0 && self.data.len() > MESSAGE_BYTES {
            self.data.truncate(begin);
            return Ok(false);
        }
        self.fds += fds;
        self.spans.push((fds, self.data.len()));
        Ok(true)
    }

    /// Writes them out, the first one with the fds of all.
    fn put(&self, first: u64, out: &mut Vec<u8>) {
        out.clear();
        let (mut begin, mut ahead) = (0, self.fds);
        for (id, (fds, end)) in (first..).zip(&self.spans) {
            let later = if begin == 0 { ahead - fds } else { 0 };
            put_item(out, id, *fds, later, &self.data[begin..*end]);
            (begin, ahead) = (*end, 0);
        }
    }
}

//! The lines of a pipe as they are written: short ones, and items gathered into one message. Pure.

use serde::Serialize;

use super::error::Unsent;
use super::{DATA_MAX, FDS_PER_ITEM_MAX, Item};
use crate::os::passing::FDS_MAX;

/// The version of the page that this speaks.
pub(super) const VERSION: u64 = 1;

/// How many bytes of lines go into one system call, unless one line alone has more.
const MESSAGE_BYTES: usize = 64 << 10;

/// Room for all that stands before the data of an item; checked by a test.
const HEAD_MAX: usize = 80;

/// A number, faster than `write!` does it.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        // Below 10, so nothing is cut off.
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

/// The first line of a sender.
pub(super) fn put_sender_hello(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"hello\",\"version\":");
    put_number(out, VERSION);
    out.extend_from_slice(b"}\n");
}

/// The first line of a receiver.
pub(super) fn put_receiver_hello(out: &mut Vec<u8>, credits: usize) {
    out.extend_from_slice(b"{\"type\":\"hello\",\"version\":");
    put_number(out, VERSION);
    out.extend_from_slice(b",\"credits\":");
    put_number(out, credits as u64);
    out.extend_from_slice(b"}\n");
}

/// Items `re` to `to` were taken.
pub(super) fn put_ack(out: &mut Vec<u8>, re: u64, to: u64) {
    out.extend_from_slice(b"{\"type\":\"ack\",\"re\":");
    put_number(out, re);
    if to > re {
        out.extend_from_slice(b",\"to\":");
        put_number(out, to);
    }
    out.extend_from_slice(b"}\n");
}

/// An item, or without `re` the pipe, is refused. `error` is a word of ours.
pub(super) fn put_refused(out: &mut Vec<u8>, re: Option<u64>, error: &str, reason: &str) {
    out.extend_from_slice(b"{\"type\":\"refused\"");
    if let Some(re) = re {
        out.extend_from_slice(b",\"re\":");
        put_number(out, re);
    }
    let reason = serde_json::Value::from(reason);
    out.extend_from_slice(format!(",\"error\":\"{error}\",\"reason\":{reason}}}\n").as_bytes());
}

/// What stands before the data of an item; `ahead` fds of later ones come with it.
fn put_head(out: &mut Vec<u8>, id: u64, fds: usize, ahead: usize) {
    out.extend_from_slice(b"{\"type\":\"item\",\"id\":");
    put_number(out, id);
    if fds > 0 {
        out.extend_from_slice(b",\"fds\":");
        put_number(out, fds as u64);
    }
    if ahead > 0 {
        out.extend_from_slice(b",\"ahead\":");
        put_number(out, ahead as u64);
    }
    out.extend_from_slice(b",\"data\":");
}

/// The bytes of one message, and how many of them are written. The buffer is kept from one message to the next.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
    /// Up to here it is written.
    written: usize,
    items: usize,
    /// How many fds the first item has, and how many all of them.
    fds: (usize, usize),
}

impl Message {
    /// The first line of a sender.
    pub(super) fn hello() -> Self {
        let mut new = Self::default();
        put_sender_hello(&mut new.bytes);
        new
    }

    /// What is not written yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So many bytes more are written.
    pub(super) const fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// How many items it has.
    pub(super) const fn items(&self) -> usize {
        self.items
    }

    /// How many fds they have.
    pub(super) const fn fds(&self) -> usize {
        self.fds.1
    }

    /// Begins a new one, for items.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.items = 0;
        self.fds = (0, 0);
    }

    /// Adds an item; false: not in this message. [`Self::finish`] must follow when all are added.
    pub(super) fn add<T: Serialize>(&mut self, id: u64, item: &Item<T>) -> Result<bool, Unsent> {
        let fds = item.fds.len();
        if fds > FDS_PER_ITEM_MAX {
            return Err(Unsent::TooManyFds { fds });
        }
        let begin = self.bytes.len();
        if self.fds.1 + fds > FDS_MAX || begin > MESSAGE_BYTES {
            return Ok(false);
        }
        if self.items == 0 {
            // Its head says how many fds come with it, which is known at last.
            self.bytes.resize(HEAD_MAX, b' ');
            self.fds.0 = fds;
        } else {
            put_head(&mut self.bytes, id, fds, 0);
        }
        let added = self.add_data(item);
        if !matches!(added, Ok(true)) || (begin > 0 && self.bytes.len() > MESSAGE_BYTES) {
            self.bytes.truncate(begin);
            return added.map(|_| false);
        }
        self.fds.1 += fds;
        self.items += 1;
        Ok(true)
    }

    fn add_data<T: Serialize>(&mut self, item: &Item<T>) -> Result<bool, Unsent> {
        let begin = self.bytes.len();
        serde_json::to_writer(&mut self.bytes, &item.data).map_err(Unsent::NotJson)?;
        let data = &mut self.bytes[begin..];
        if data.len() > DATA_MAX {
            return Err(Unsent::TooLarge { bytes: data.len() });
        }
        // JSON has line breaks between tokens only: those of a `RawValue`.
        if data.contains(&b'\n') {
            data.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        }
        self.bytes.extend_from_slice(b"}\n");
        Ok(true)
    }

    /// Writes the head of the first item, `id`, into the room that was left for it.
    pub(super) fn finish(&mut self, id: u64) {
        if self.items == 0 {
            return;
        }
        let mut head = Vec::with_capacity(HEAD_MAX);
        put_head(&mut head, id, self.fds.0, self.fds.1 - self.fds.0);
        self.written = HEAD_MAX - head.len();
        self.bytes[self.written..HEAD_MAX].copy_from_slice(&head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &Message) -> &str {
        std::str::from_utf8(message.rest()).unwrap()
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 1, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_longest_head_has_room() {
        let mut head = Vec::new();
        put_head(&mut head, u64::MAX, FDS_PER_ITEM_MAX, FDS_MAX);
        assert!(head.len() <= HEAD_MAX, "{}", head.len());
    }

    #[test]
    fn the_first_line_of_a_message_says_how_many_fds_are_of_those_that_follow() {
        let fd = || std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        use std::os::fd::AsFd;
        let mut message = Message::default();
        for _twice in 0..2 {
            message.begin();
            for (id, fds) in [(9, 1), (10, 0), (11, 2)] {
                let item = Item { data: "x", fds: (0..fds).map(|_| fd()).collect() };
                assert!(message.add(id, &item).unwrap());
            }
            message.finish(9);
            let expected = "{\"type\":\"item\",\"id\":9,\"fds\":1,\"ahead\":2,\"data\":\"x\"}\n\
                            {\"type\":\"item\",\"id\":10,\"data\":\"x\"}\n\
                            {\"type\":\"item\",\"id\":11,\"fds\":2,\"data\":\"x\"}\n";
            assert_eq!(text(&message), expected);
            message.wrote(expected.len());
            assert!(message.rest().is_empty());
        }
    }

    #[test]
    fn what_cannot_be_added_leaves_nothing_behind() {
        let mut message = Message::default();
        message.begin();
        assert!(message.add(1, &Item::without_fds("x".repeat(DATA_MAX))).is_err());
        assert_eq!((message.items(), text(&message)), (0, ""));
        assert!(message.add(1, &Item::without_fds("x".repeat(MESSAGE_BYTES))).unwrap());
        assert!(!message.add(2, &Item::without_fds("x".to_owned())).unwrap(), "it is full");
        message.finish(1);
        assert_eq!(text(&message).matches('\n').count(), 1);
    }
}

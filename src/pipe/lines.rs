//! The lines of a pipe (docs/pipes.md): bytes and fds that came, cut into lines with the fds that belong to them; and lines
//! as they are written. Nothing here reads or writes.
//!
//! A pipe's lines keep the channel's rules and add one member, `ahead`, by which a line brings the fds of those that follow it, so that
//! many items travel in one system call. It also says where a message of the kernel ends, so that fds where none belong are still found out.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Fault;
use crate::os::passing::{FDS_MAX, Received};

/// The longest line in bytes, its newline included.
const LINE_MAX: usize = 1_048_576;
/// The largest number: 2⁵³-1, so that every language can hold it.
const NUMBER_MAX: u64 = 9_007_199_254_740_991;
/// The version of the page that this speaks.
pub(super) const VERSION: u64 = 1;

/// A line that means something.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// The first line of either side; `credits` is the receiver's.
    Hello { version: u64, credits: Option<u64> },
    /// An item, with the fds that are its own.
    Item { id: u64, data: &'a RawValue, fds: Vec<OwnedFd> },
    /// An item was taken.
    Ack { re: u64 },
    /// An item was refused, or where there is no `re`, all that is under way.
    Refused { re: Option<u64>, error: String, reason: String },
    /// Of a type that this side does not know.
    Unknown,
}

/// The members of a line, as they stand; unknown ones are passed over, and of two of a name the last one counts.
#[derive(Default)]
struct Members<'a> {
    kind: Option<String>,
    numbers: [Option<u64>; 6],
    error: Option<String>,
    reason: Option<String>,
    data: Option<&'a RawValue>,
}

const ID: usize = 0;
const RE: usize = 1;
const FDS: usize = 2;
const AHEAD: usize = 3;
const CREDITS: usize = 4;
const NUMBERS: [&str; 6] = ["id", "re", "fds", "ahead", "credits", "version"];
const VERSION_AT: usize = 5;

/// The name of a member, without a copy of it.
enum Name {
    Type,
    Number(usize),
    Error,
    Reason,
    Data,
    Unknown,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Known;
        impl Visitor<'_> for Known {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "type" => Name::Type,
                    "error" => Name::Error,
                    "reason" => Name::Reason,
                    "data" => Name::Data,
                    _ => NUMBERS.iter().position(|known| *known == name).map_or(Name::Unknown, Name::Number),
                })
            }
        }
        from.deserialize_str(Known)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key()? {
                    match name {
                        Name::Type => members.kind = Some(map.next_value()?),
                        Name::Number(which) => members.numbers[which] = Some(map.next_value()?),
                        Name::Error => members.error = Some(map.next_value()?),
                        Name::Reason => members.reason = Some(map.next_value()?),
                        Name::Data => members.data = Some(map.next_value()?),
                        Name::Unknown => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }
        from.deserialize_map(Object)
    }
}

/// What came and is not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    /// Where the first line begins that is not taken.
    start: usize,
    /// Up to here there is no newline.
    scanned: usize,
    fds: VecDeque<OwnedFd>,
    /// How many of `fds` a line has announced for those that follow it.
    ahead: usize,
    /// The kernel dropped fds.
    cut: bool,
}

impl Inbound {
    /// Takes what was read: the bytes are the first of `buffer`.
    pub(super) fn feed(&mut self, received: Received, buffer: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(&buffer[..received.length]);
        self.fds.extend(received.fds);
        self.cut |= received.fds_lost;
    }

    /// Whether a line has begun that has no end.
    pub(super) fn is_within_a_line(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// How many whole lines wait.
    pub(super) fn whole_lines(&self) -> usize {
        self.buffer[self.start..].iter().filter(|byte| **byte == b'\n').count()
    }

    /// Closes what waits.
    pub(super) fn clear(&mut self) {
        *self = Self { cut: self.cut, ..Self::default() };
    }

    /// The next whole line with its fds; `None` until more was read.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, Fault> {
        let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return self.all_taken().map(|()| None);
        };
        let (begin, end) = (self.start, self.scanned + end);
        if end - begin >= LINE_MAX {
            return Err(Fault::protocol("a line is too long"));
        }
        let text = std::str::from_utf8(&self.buffer[begin..end])
            .map_err(|_| Fault::protocol("a line is not UTF-8"))?;
        let members: Members<'_> = serde_json::from_str(text)
            .map_err(|error| Fault::protocol(format!("a line is not as it must be: {error}")))?;
        let number = |which: usize| match members.numbers[which] {
            Some(number) if number > NUMBER_MAX => {
                Err(Fault::protocol(format!("{} is too large", NUMBERS[which])))
            }
            number => Ok(number),
        };
        let own = number(FDS)?.unwrap_or(0);
        let ahead = number(AHEAD)?.unwrap_or(0);
        let fds = take(&mut self.fds, &mut self.ahead, own, ahead, self.cut)?;
        (self.start, self.scanned) = (end + 1, end + 1);
        let needed = |which: usize| {
            number(which)?.ok_or_else(|| Fault::protocol(format!("a line has no {}", NUMBERS[which])))
        };
        Ok(Some(match members.kind.as_deref() {
            None => return Err(Fault::protocol("a line has no type")),
            Some("hello") => Line::Hello { version: needed(VERSION_AT)?, credits: number(CREDITS)? },
            Some("item") => {
                let data = members.data.ok_or_else(|| Fault::protocol("an item has no data"))?;
                Line::Item { id: needed(ID)?, data, fds }
            }
            Some("ack") => Line::Ack { re: needed(RE)? },
            Some("refused") => Line::Refused {
                re: number(RE)?,
                error: members.error.ok_or_else(|| Fault::protocol("refused without an error"))?,
                reason: members.reason.unwrap_or_default(),
            },
            Some(_) => Line::Unknown,
        }))
    }

    /// When all whole lines are taken, the fds that are left must belong to lines to come; and where fds were dropped, nothing may follow.
    fn all_taken(&self) -> Result<(), Fault> {
        if self.cut {
            return Err(Fault::FdsLost);
        }
        let unread = self.buffer.len() - self.start;
        let announced = if unread == 0 { self.ahead } else { self.ahead + FDS_MAX };
        if self.fds.len() > announced {
            return Err(Fault::protocol("fds came that no line says"));
        }
        if unread >= LINE_MAX {
            return Err(Fault::protocol("a line is too long"));
        }
        Ok(())
    }
}

/// The fds of one line.
fn take(
    queue: &mut VecDeque<OwnedFd>,
    announced: &mut usize,
    own: u64,
    ahead: u64,
    cut: bool,
) -> Result<Vec<OwnedFd>, Fault> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (own, ahead) = (size(own), size(ahead));
    if own > super::FDS_PER_ITEM_MAX || ahead > FDS_MAX {
        return Err(Fault::protocol("a line says more fds than it may carry"));
    }
    if *announced > 0 && (ahead > 0 || own > *announced) {
        return Err(Fault::protocol("a line says other fds than were announced"));
    }
    if own > queue.len() {
        return Err(if cut { Fault::FdsLost } else { Fault::protocol("a line says fds that did not come") });
    }
    *announced = if *announced > 0 { *announced - own } else { ahead };
    Ok(queue.drain(..own).collect())
}

/// Writes a line that is built of numbers and text of our own.
fn put(out: &mut Vec<u8>, line: fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(line);
}

/// The first line of a sender.
pub(super) fn put_sender_hello(out: &mut Vec<u8>) {
    put(out, format_args!("{{\"type\":\"hello\",\"version\":{VERSION}}}\n"));
}

/// The first line of a receiver.
pub(super) fn put_receiver_hello(out: &mut Vec<u8>, credits: usize) {
    put(out, format_args!("{{\"type\":\"hello\",\"version\":{VERSION},\"credits\":{credits}}}\n"));
}

/// An item; `ahead` fds of later ones come with it.
pub(super) fn put_item(out: &mut Vec<u8>, id: u64, fds: usize, ahead: usize, data: &[u8]) {
    put(out, format_args!("{{\"type\":\"item\",\"id\":{id}"));
    if fds > 0 {
        put(out, format_args!(",\"fds\":{fds}"));
    }
    if ahead > 0 {
        put(out, format_args!(",\"ahead\":{ahead}"));
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.extend_from_slice(b"}\n");
}

/// An item was taken.
pub(super) fn put_ack(out: &mut Vec<u8>, re: u64) {
    put(out, format_args!("{{\"type\":\"ack\",\"re\":{re}}}\n"));
}

/// An item, or without `re` the pipe, is refused. `error` is a word of ours.
pub(super) fn put_refused(out: &mut Vec<u8>, re: Option<u64>, error: &str, reason: &str) {
    let reason = serde_json::Value::from(reason);
    put(out, format_args!("{{\"type\":\"refused\""));
    if let Some(re) = re {
        put(out, format_args!(",\"re\":{re}"));
    }
    put(out, format_args!(",\"error\":\"{error}\",\"reason\":{reason}}}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// What is read at once, with as many fds.
    fn feed(inbound: &mut Inbound, text: &str, fds: usize) {
        let fd = || std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        let fds = (0..fds).map(|_| fd()).collect();
        let received =
            Received { length: text.len(), fds, credentials: None, truncated: false, fds_lost: false };
        inbound.feed(received, text.as_bytes());
    }

    /// All lines, each as the number of its fds; and the fault that ends them.
    fn counts(inbound: &mut Inbound) -> (Vec<usize>, Option<String>) {
        let mut counts = Vec::new();
        loop {
            match inbound.next() {
                Ok(Some(Line::Item { fds, .. })) => counts.push(fds.len()),
                Ok(Some(_)) => counts.push(0),
                Ok(None) => return (counts, None),
                Err(fault) => return (counts, Some(fault.to_string())),
            }
        }
    }

    fn item(id: u64, fds: usize, ahead: usize) -> String {
        let mut out = Vec::new();
        put_item(&mut out, id, fds, ahead, b"0");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fds_that_come_ahead_of_their_lines_wait_for_them() {
        let mut inbound = Inbound::default();
        feed(&mut inbound, &(item(1, 1, 3) + &item(2, 2, 0)), 4);
        assert_eq!(counts(&mut inbound), (vec![1, 2], None));
        let line = item(3, 1, 0);
        feed(&mut inbound, &line[..5], 0);
        assert_eq!(counts(&mut inbound), (vec![], None));
        feed(&mut inbound, &line[5..], 0);
        feed(&mut inbound, &item(4, 0, 0), 0);
        feed(&mut inbound, &item(5, 2, 0), 2);
        assert_eq!(counts(&mut inbound), (vec![1, 0, 2], None));
    }

    #[test]
    fn fds_where_none_belong_are_found_out() {
        let faults = [
            (item(1, 0, 0), 1, "no line says"),
            (item(1, 1, 0), 2, "no line says"),
            (item(1, 1, 2), 2, ""),
            (item(1, 1, 0), 0, "did not come"),
            (item(1, 65, 0), 65, "may carry"),
            (item(1, 1, 1) + &item(2, 2, 0), 3, "announced"),
            (item(1, 1, 1) + &item(2, 1, 1), 3, "announced"),
        ];
        for (text, fds, expected) in faults {
            let mut inbound = Inbound::default();
            feed(&mut inbound, &text, fds);
            let (_, fault) = counts(&mut inbound);
            assert!(fault.as_deref().unwrap_or("").contains(expected), "{text}: {fault:?}");
            assert_eq!(fault.is_none(), expected.is_empty(), "{text}: {fault:?}");
        }
    }

    #[test]
    fn what_is_no_line_of_a_pipe_is_a_fault() {
        let bad = [
            "x\n",
            "[]\n",
            "\n",
            "{}\n",
            "{\"type\":1}\n",
            "{\"type\":\"item\",\"data\":1}\n",
            "{\"type\":\"item\",\"id\":1}\n",
            "{\"type\":\"item\",\"id\":-1,\"data\":1}\n",
            "{\"type\":\"ack\",\"re\":9007199254740992}\n",
            "{\"type\":\"refused\"}\n",
            "{\"type\":\"hello\"}\n",
        ];
        for text in bad {
            let mut inbound = Inbound::default();
            feed(&mut inbound, text, 0);
            assert!(inbound.next().is_err(), "{text}");
        }
        let mut inbound = Inbound::default();
        feed(&mut inbound, &"x".repeat(LINE_MAX), 0);
        assert!(inbound.next().is_err(), "it has no end");
    }

    #[test]
    fn unknown_types_and_members_are_passed_over_and_the_last_of_two_counts() {
        let mut inbound = Inbound::default();
        feed(
            &mut inbound,
            "{\"new\":[{}],\"\\u0074ype\":\"ack\",\"re\":1,\"re\":2}\n{\"type\":\"later\",\"fds\":1}\n",
            1,
        );
        assert!(matches!(inbound.next(), Ok(Some(Line::Ack { re: 2 }))));
        assert!(matches!(inbound.next(), Ok(Some(Line::Unknown))));
        assert!(matches!(inbound.next(), Ok(None)));
    }
}

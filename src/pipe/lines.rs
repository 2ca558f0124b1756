//! The lines of a pipe (docs/pipes.md): bytes and fds that came, cut into lines with the fds that belong to them. Nothing here reads or
//! writes.
//!
//! A pipe's lines keep the channel's rules and add one member, `ahead`, by which a line brings the fds of those that follow it, so that
//! many items travel in one system call. It also says where a message of the kernel ends, so that fds where none belong are still found out.

use std::collections::VecDeque;
use std::io::BufRead;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;

use super::error::Fault;
use super::members::{Members, Number, Quick, quick};
use crate::os::passing::{FDS_MAX, Received};

/// The longest line in bytes, its newline included.
const LINE_MAX: usize = 1_048_576;

/// A line that means something; `T` is what its data is read as.
#[derive(Debug)]
pub(super) enum Line<T> {
    /// The first line of either side; `credits` is the receiver's.
    Hello { version: u64, credits: Option<u64> },
    /// An item, with the fds that are its own. Its data may be no `T`.
    Item { id: u64, data: Result<T, serde_json::Error>, fds: Vec<OwnedFd> },
    /// Items `re` to `to` were taken.
    Ack { re: u64, to: u64 },
    /// An item was refused, or where there is no `re`, all that is under way.
    Refused { re: Option<u64>, error: String, reason: String },
    /// Of a type that this side does not know.
    Unknown,
}

/// What came and is not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    /// Where the first line begins that is not taken.
    start: usize,
    /// Up to here there is no newline.
    scanned: usize,
    fds: Fds,
}

/// Fds that came and are not taken yet.
#[derive(Debug, Default)]
struct Fds {
    queue: VecDeque<OwnedFd>,
    /// How many of them a line has announced for those that follow it.
    ahead: usize,
    /// The kernel dropped some.
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
        self.fds.queue.extend(received.fds);
        self.fds.cut |= received.fds_lost;
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
        *self = Self { fds: Fds { cut: self.fds.cut, ..Fds::default() }, ..Self::default() };
    }

    /// The next whole line with its fds; `None` until more was read.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Line<T>>, Fault> {
        let passed = self.scanned + (&self.buffer[self.scanned..]).skip_until(b'\n').unwrap_or(0);
        if passed == self.scanned || self.buffer[passed - 1] != b'\n' {
            self.scanned = passed;
            return self.all_taken().map(|()| None);
        }
        let (begin, end) = (self.start, passed - 1);
        if end - begin >= LINE_MAX {
            return Err(Fault::protocol("a line is too long"));
        }
        let line = std::str::from_utf8(&self.buffer[begin..end])
            .map_err(|_| Fault::protocol("a line is not UTF-8"))?;
        let line = match quick(line) {
            Some(Quick::Ack { re, to }) => Line::Ack { re, to },
            Some(Quick::Item { id, fds, ahead, data }) => match serde_json::from_str(data) {
                Ok(data) => Line::Item { id, data: Ok(data), fds: self.fds.take(fds, ahead)? },
                // Data of another type, or no single value and more members behind it.
                Err(_) => parse(line, &mut self.fds)?,
            },
            None => parse(line, &mut self.fds)?,
        };
        (self.start, self.scanned) = (passed, passed);
        Ok(Some(line))
    }

    /// When all whole lines are taken, the fds that are left must belong to lines to come; and where fds were dropped, nothing may follow.
    fn all_taken(&self) -> Result<(), Fault> {
        if self.fds.cut {
            return Err(Fault::FdsLost);
        }
        let unread = self.buffer.len() - self.start;
        let announced = if unread == 0 { self.fds.ahead } else { self.fds.ahead + FDS_MAX };
        if self.fds.queue.len() > announced {
            return Err(Fault::protocol("fds came that no line says"));
        }
        if unread >= LINE_MAX {
            return Err(Fault::protocol("a line is too long"));
        }
        Ok(())
    }
}

impl Fds {
    /// The fds of one line.
    fn take(&mut self, own: u64, ahead: u64) -> Result<Vec<OwnedFd>, Fault> {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (own, ahead) = (size(own), size(ahead));
        if own > super::FDS_PER_ITEM_MAX || ahead > FDS_MAX {
            return Err(Fault::protocol("a line says more fds than it may carry"));
        }
        if self.ahead > 0 && (ahead > 0 || own > self.ahead) {
            return Err(Fault::protocol("a line says other fds than were announced"));
        }
        if own > self.queue.len() {
            let missing = || Fault::protocol("a line says fds that did not come");
            return Err(if self.cut { Fault::FdsLost } else { missing() });
        }
        self.ahead = if self.ahead > 0 { self.ahead - own } else { ahead };
        Ok(self.queue.drain(..own).collect())
    }
}

/// Any line.
fn parse<T: DeserializeOwned>(line: &str, fds: &mut Fds) -> Result<Line<T>, Fault> {
    let members = Members::of(line)?;
    let number = |which: Number| members.number(which);
    let fds = fds.take(number(Number::Fds)?.unwrap_or(0), number(Number::Ahead)?.unwrap_or(0))?;
    Ok(match members.kind.as_deref() {
        None => return Err(Fault::protocol("a line has no type")),
        Some("hello") => {
            Line::Hello { version: members.needed(Number::Version)?, credits: number(Number::Credits)? }
        }
        Some("item") => {
            let data = members.data.ok_or_else(|| Fault::protocol("an item has no data"))?;
            Line::Item { id: members.needed(Number::Id)?, data: serde_json::from_str(data.get()), fds }
        }
        Some("ack") => {
            let re = members.needed(Number::Re)?;
            Line::Ack { re, to: number(Number::To)?.unwrap_or(re) }
        }
        Some("refused") => Line::Refused {
            re: number(Number::Re)?,
            error: members.error.ok_or_else(|| Fault::protocol("refused without an error"))?,
            reason: members.reason.unwrap_or_default(),
        },
        Some(_) => Line::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IgnoredAny;
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
            match inbound.next::<IgnoredAny>() {
                Ok(Some(Line::Item { fds, .. })) => counts.push(fds.len()),
                Ok(Some(_)) => counts.push(0),
                Ok(None) => return (counts, None),
                Err(fault) => return (counts, Some(fault.to_string())),
            }
        }
    }

    fn item(id: u64, fds: usize, ahead: usize) -> String {
        let ahead = if ahead > 0 { format!(",\"ahead\":{ahead}") } else { String::new() };
        format!("{{\"type\":\"item\",\"id\":{id},\"fds\":{fds}{ahead},\"data\":0}}\n")
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
            assert!(inbound.next::<IgnoredAny>().is_err(), "{text}");
        }
        let mut inbound = Inbound::default();
        feed(&mut inbound, &"x".repeat(LINE_MAX), 0);
        assert!(inbound.next::<IgnoredAny>().is_err(), "it has no end");
    }

    #[test]
    fn unknown_types_and_members_are_passed_over_and_the_last_of_two_counts() {
        let mut inbound = Inbound::default();
        feed(
            &mut inbound,
            "{\"new\":[{}],\"\\u0074ype\":\"ack\",\"re\":1,\"re\":2}\n{\"type\":\"later\",\"fds\":1}\n",
            1,
        );
        assert!(matches!(inbound.next::<IgnoredAny>(), Ok(Some(Line::Ack { re: 2, to: 2 }))));
        assert!(matches!(inbound.next::<IgnoredAny>(), Ok(Some(Line::Unknown))));
        assert!(matches!(inbound.next::<IgnoredAny>(), Ok(None)));
    }
}

//! Lines that wait to be written to one channel, in their order.
//!
//! Lines without fds leave together, as many as there are: with many messages a system call a line is most of what a message costs, and it
//! wakes the worker for each. A line with fds begins a call of its own, because they are attached to its first byte.

use std::collections::VecDeque;

use crate::daemon::fds::quota::Fd;

/// Bytes of lines that are written together, at most, unless one alone has more.
const JOINED_MAX: usize = 16 * 1024;
/// Room for so many lines is kept.
const KEPT_MAX: usize = 512;

/// A line that is not written yet.
struct Waiting {
    line: Vec<u8>,
    written: usize,
    fds: Vec<Fd>,
    is_message: bool,
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        &self.line[self.written..]
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    messages: usize,
    bytes: usize,
}

impl Queue {
    /// How many messages wait, and their bytes.
    pub(super) const fn messages(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    /// How many other lines wait.
    pub(super) fn answers(&self) -> usize {
        self.waiting.len() - self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a line.
    pub(super) fn put(&mut self, line: Vec<u8>, fds: Vec<Fd>, is_message: bool) {
        self.messages += usize::from(is_message);
        self.bytes += if is_message { line.len() } else { 0 };
        self.waiting.push_back(Waiting { line, written: 0, fds, is_message });
    }

    /// Lets `write` write what comes next, with its fds, and say how much went out; false: there was nothing.
    pub(super) fn write_next<E>(
        &mut self,
        write: impl FnOnce(&[u8], &[Fd]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let Some(next) = self.waiting.front() else { return Ok(false) };
        let fds: &[Fd] = if next.written == 0 { &next.fds } else { &[] };
        let may_join = fds.is_empty() && self.waiting.get(1).is_some_and(|second| second.fds.is_empty());
        let written = if may_join { write(&self.joined(), &[])? } else { write(next.rest(), fds)? };
        self.wrote(written);
        Ok(true)
    }

    /// The first line and those that may leave with it.
    fn joined(&self) -> Vec<u8> {
        let mut joined = Vec::new();
        for (at, line) in self.waiting.iter().enumerate() {
            if at > 0 && (!line.fds.is_empty() || joined.len() + line.line.len() > JOINED_MAX) {
                break;
            }
            joined.extend_from_slice(line.rest());
        }
        joined
    }

    fn wrote(&mut self, mut written: usize) {
        while let Some(next) = self.waiting.front_mut() {
            let part = written.min(next.rest().len());
            next.written += part;
            written -= part;
            if !next.rest().is_empty() {
                break;
            }
            self.messages -= usize::from(next.is_message);
            self.bytes -= if next.is_message { next.line.len() } else { 0 };
            self.waiting.pop_front();
            if written == 0 {
                break;
            }
        }
        self.waiting.shrink_to(KEPT_MAX.min(self.waiting.len() * 2));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::os::fd::AsFd;

    use super::*;
    use crate::daemon::fds::quota::{Allowance, Pot};

    fn queue(lines: &[(&str, usize)]) -> Queue {
        let allowance = Allowance::new(Pot::of_all(1_000));
        let fd = || {
            let fd = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
            allowance.carry(crate::os::foreign::Foreign::new(fd))
        };
        let mut queue = Queue::default();
        for (line, fds) in lines {
            queue.put(line.as_bytes().to_vec(), (0..*fds).map(|_| fd()).collect(), true);
        }
        queue
    }

    /// Writes at most so many bytes at a time; what each write had.
    fn written(queue: &mut Queue, at_most: usize) -> Vec<(String, usize)> {
        let mut all = Vec::new();
        let mut write = |bytes: &[u8], fds: &[Fd]| -> Result<usize, Infallible> {
            let length = bytes.len().min(at_most);
            all.push((String::from_utf8_lossy(&bytes[..length]).into_owned(), fds.len()));
            Ok(length)
        };
        while queue.write_next(&mut write).unwrap() {}
        all
    }

    fn pairs(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        expected.iter().map(|(text, fds)| ((*text).to_owned(), *fds)).collect()
    }

    #[test]
    fn lines_leave_together_and_one_with_fds_begins_a_write() {
        let mut queue = queue(&[("a\n", 0), ("b\n", 0), ("c\n", 2), ("d\n", 0), ("e\n", 0)]);
        assert_eq!(queue.messages(), (5, 10));
        let expected = pairs(&[("a\nb\n", 0), ("c\n", 2), ("d\ne\n", 0)]);
        assert_eq!(written(&mut queue, 100), expected);
        assert!(queue.is_empty());
        assert_eq!(queue.messages(), (0, 0));
    }

    #[test]
    fn what_is_taken_in_parts_arrives_whole_and_its_fds_once() {
        let mut queue = queue(&[("abc\n", 1), ("def\n", 0), ("ghi\n", 1)]);
        let all = written(&mut queue, 3);
        let text: String = all.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(text, "abc\ndef\nghi\n");
        let with_fds: Vec<&str> =
            all.iter().filter(|(_, fds)| *fds > 0).map(|(text, _)| text.as_str()).collect();
        assert_eq!(with_fds, ["abc", "ghi"]);
    }

    #[test]
    fn no_more_is_joined_than_one_write_should_have() {
        let long = "x".repeat(JOINED_MAX - 1);
        let mut queue = queue(&[("a\n", 0), (&long, 0), (&long, 0), ("b\n", 0)]);
        let lengths: Vec<usize> =
            written(&mut queue, usize::MAX).iter().map(|(text, _)| text.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 2 * long.len() + 4);
        assert!(lengths.iter().all(|length| *length <= JOINED_MAX + 2), "{lengths:?}");
    }
}

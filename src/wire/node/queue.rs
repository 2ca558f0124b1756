//! What goes to a Node program: in order, one handle at a time.

use std::collections::VecDeque;

use crate::wire::value::Id;

/// How often Node itself sends a handle again (`MAX_HANDLE_RETRANSMISSIONS`).
const AGAIN_MAX: u32 = 3;

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub struct Write<'a, F> {
    /// At least one byte.
    pub bytes: &'a [u8],
    /// The fd to be attached to the first of them.
    pub fd: Option<&'a F>,
}

/// One line of the program's.
#[derive(Debug)]
pub(super) struct Entry<F> {
    /// With its newline.
    pub(super) bytes: Vec<u8>,
    /// Its handle.
    pub(super) fd: Option<F>,
    /// What it is a part of, if its arrival is to be told.
    pub(super) id: Option<Id>,
    /// Whether no part follows it.
    pub(super) is_last: bool,
    /// How often it was sent again.
    again: u32,
}

impl<F> Entry<F> {
    pub(super) const fn new(bytes: Vec<u8>, fd: Option<F>, id: Option<Id>, is_last: bool) -> Self {
        Self { bytes, fd, id, is_last, again: 0 }
    }
}

#[derive(Debug)]
enum Current<F> {
    Control(&'static [u8]),
    Entry(Entry<F>),
}

/// What became of a handle.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The line with this id has arrived, all parts of it.
    Arrived(Id),
    /// The line with this id was lost for good.
    Lost(Id),
    /// Nothing to be told.
    Nothing,
}

/// The queue. Node's acknowledgements overtake all that waits; the rest stays in order.
#[derive(Debug)]
pub(super) struct Queue<F> {
    control: VecDeque<&'static [u8]>,
    entries: VecDeque<Entry<F>>,
    current: Option<Current<F>>,
    written: usize,
    /// Sent, and not acknowledged: until then nothing but control goes.
    in_flight: Option<Entry<F>>,
}

impl<F> Queue<F> {
    pub(super) const fn new() -> Self {
        Self {
            control: VecDeque::new(),
            entries: VecDeque::new(),
            current: None,
            written: 0,
            in_flight: None,
        }
    }

    pub(super) fn put(&mut self, entry: Entry<F>) {
        self.entries.push_back(entry);
    }

    pub(super) fn put_control(&mut self, line: &'static [u8]) {
        self.control.push_back(line);
    }

    pub(super) fn next_write(&mut self) -> Option<Write<'_, F>> {
        if self.current.is_none() {
            self.written = 0;
            self.current = match self.control.pop_front() {
                Some(line) => Some(Current::Control(line)),
                None if self.in_flight.is_some() => None,
                None => self.entries.pop_front().map(Current::Entry),
            };
        }
        let is_first = self.written == 0;
        self.current.as_ref().map(|current| match current {
            Current::Control(line) => Write { bytes: &line[self.written..], fd: None },
            Current::Entry(entry) => {
                Write { bytes: &entry.bytes[self.written..], fd: entry.fd.as_ref().filter(|_| is_first) }
            }
        })
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        let Some(current) = &self.current else { return };
        let length = match current {
            Current::Control(line) => line.len(),
            Current::Entry(entry) => entry.bytes.len(),
        };
        self.written = length.min(self.written + bytes);
        if self.written == length
            && let Some(Current::Entry(entry)) = self.current.take()
        {
            self.in_flight = entry.fd.is_some().then_some(entry);
        }
    }

    pub(super) fn acknowledged(&mut self) -> Outcome {
        match self.in_flight.take() {
            Some(Entry { id: Some(id), is_last: true, .. }) => Outcome::Arrived(id),
            _ => Outcome::Nothing,
        }
    }

    pub(super) fn lost(&mut self) -> Outcome {
        let Some(mut entry) = self.in_flight.take() else { return Outcome::Nothing };
        if entry.again < AGAIN_MAX {
            entry.again += 1;
            self.entries.push_front(entry);
            return Outcome::Nothing;
        }
        let Some(id) = entry.id else { return Outcome::Nothing };
        self.entries.retain(|other| other.id != Some(id));
        Outcome::Lost(id)
    }

    /// How many lines wait, the one in flight included.
    pub(super) fn len(&self) -> usize {
        self.control.len()
            + self.entries.len()
            + usize::from(self.current.is_some())
            + usize::from(self.in_flight.is_some())
    }

    /// How many bytes they have.
    pub(super) fn size(&self) -> usize {
        let control = self.control.iter().map(|line| line.len());
        let current = match &self.current {
            Some(Current::Entry(entry)) => entry.bytes.len(),
            Some(Current::Control(line)) => line.len(),
            None => 0,
        };
        let in_flight = self.in_flight.iter().map(|entry| entry.bytes.len());
        control.chain(self.entries.iter().map(|entry| entry.bytes.len())).chain(in_flight).sum::<usize>()
            + current
    }
}

//! How many are served at a time. Nobody may lock the operator out: not those who may only look, and not those who
//! only listen, since such a connection lasts.

use std::cell::Cell;
use std::rc::Rc;

use crate::control::protocol::Level;

/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections at a time of clients that may not change anything.
pub const READERS_MAX: usize = 128;
/// Event streams at a time.
pub const STREAMS_MAX: usize = 224;
/// Event streams at a time of clients that may not change anything: the others of them can still see the status.
pub const READER_STREAMS_MAX: usize = 96;

/// Counts connections; see [`serve`](super::serve).
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) open: Cell<usize>,
    readers: Cell<usize>,
    streams: Cell<usize>,
    reader_streams: Cell<usize>,
    refused: Cell<u64>,
}

/// A place that is taken, as long as this lives.
#[derive(Debug)]
pub(super) struct Presence {
    traffic: Rc<Traffic>,
    counters: (Counter, Option<Counter>),
}

type Counter = fn(&Traffic) -> &Cell<usize>;

impl Traffic {
    /// Connections and event streams that were refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// A connection.
    pub(super) fn enter(self: &Rc<Self>, level: Option<Level>) -> Option<Presence> {
        let reader: Option<(Counter, usize)> =
            (level != Some(Level::Admin)).then_some((|traffic| &traffic.readers, READERS_MAX));
        self.count((|traffic| &traffic.open, CONNECTIONS_MAX), reader)
    }

    /// An event stream on a connection that has a place already.
    pub(super) fn listen(self: &Rc<Self>, level: Level) -> Option<Presence> {
        let reader: Option<(Counter, usize)> =
            (level != Level::Admin).then_some((|traffic| &traffic.reader_streams, READER_STREAMS_MAX));
        self.count((|traffic| &traffic.streams, STREAMS_MAX), reader)
    }

    fn count(
        self: &Rc<Self>,
        (all, all_max): (Counter, usize),
        some: Option<(Counter, usize)>,
    ) -> Option<Presence> {
        let is_full = |counter: Counter, max| counter(self).get() >= max;
        if is_full(all, all_max) || some.is_some_and(|(counter, max)| is_full(counter, max)) {
            self.refused.set(self.refused.get() + 1);
            return None;
        }
        let presence =
            Presence { traffic: Rc::clone(self), counters: (all, some.map(|(counter, _)| counter)) };
        presence.each(|counter| counter.set(counter.get() + 1));
        Some(presence)
    }
}

impl Presence {
    fn each(&self, change: impl Fn(&Cell<usize>)) {
        let (all, some) = self.counters;
        std::iter::once(all).chain(some).for_each(|counter| change(counter(&self.traffic)));
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.each(|counter| counter.set(counter.get() - 1));
    }
}

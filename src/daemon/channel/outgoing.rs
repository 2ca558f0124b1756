//! How many bytes of messages may wait for all workers together, beside the bound of each.
//!
//! Past the sum a worker may have a little waiting, and no more. So those who do not read cannot use up what the others need:
//! who takes its messages has an empty queue, and gets the next one.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that wait for all workers; beyond that each may have [`LITTLE`].
const BYTES_OF_ALL: usize = 64 * 1024 * 1024;
/// Bytes that may wait for one worker whatever waits for the others.
const LITTLE: usize = 64 * 1024;

/// What waits for all workers.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Outgoing {
    bytes: Cell<usize>,
}

/// What of that waits for one worker; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    all: Rc<Outgoing>,
    bytes: usize,
}

impl Share {
    pub(super) fn of(all: &Rc<Outgoing>) -> Self {
        Self { all: all.clone(), bytes: 0 }
    }

    /// May so many bytes be added to those that wait for this worker?
    pub(super) fn has_room(&self, waiting: usize, more: usize) -> bool {
        self.all.bytes.get() + more <= BYTES_OF_ALL || waiting + more <= LITTLE
    }

    /// So many bytes wait for it now.
    pub(super) fn settle(&mut self, bytes: usize) {
        self.all.bytes.set(self.all.bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_do_not_read_leave_a_little_for_each_of_the_others() {
        let all = Rc::new(Outgoing::default());
        let mut lazy: Vec<Share> = (0..64).map(|_| Share::of(&all)).collect();
        for share in &mut lazy {
            assert!(share.has_room(0, 1024 * 1024));
            share.settle(1024 * 1024);
        }
        let mut other = Share::of(&all);
        assert!(!other.has_room(0, LITTLE + 1) && other.has_room(0, LITTLE) && !other.has_room(1, LITTLE));
        other.settle(LITTLE);
        lazy.pop();
        assert!(other.has_room(LITTLE, 1000));
        drop((lazy, other));
        assert_eq!(all.bytes.get(), 0);
    }
}

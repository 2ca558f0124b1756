//! Which version two sides speak.
//!
//! A side speaks all versions from its oldest to its newest, and says so before it knows anything of the other. What a capability
//! can express needs no new version; see the table of compatibility in `docs/protocol.md`.

/// The newest version that this code speaks.
pub const NEWEST: u64 = 1;

/// The oldest version that this code speaks.
pub const OLDEST: u64 = 1;

/// The versions that a side speaks: all from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    oldest: u64,
    newest: u64,
}

impl Versions {
    /// What this code speaks.
    pub const OURS: Self = Self { oldest: OLDEST, newest: NEWEST };

    /// From `oldest` to `newest`; `None` where those are the wrong way round.
    pub const fn new(oldest: u64, newest: u64) -> Option<Self> {
        if oldest <= newest { Some(Self { oldest, newest }) } else { None }
    }

    /// The oldest that it speaks.
    pub const fn oldest(self) -> u64 {
        self.oldest
    }

    /// The newest that it speaks.
    pub const fn newest(self) -> u64 {
        self.newest
    }

    /// The version in which this side talks with one whose newest is `theirs`: the smaller of the two. `None` where that is older
    /// than the oldest here. Each side asks this of itself; it talks only if both agree.
    pub const fn agree(self, theirs: u64) -> Option<u64> {
        let spoken = if theirs < self.newest { theirs } else { self.newest };
        if spoken >= self.oldest { Some(spoken) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_speak_the_smaller_of_their_newest_versions_if_it_is_not_too_old_for_one() {
        // Versions of handover, versions of the worker, what they speak.
        let table = [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (1, 2), Some(2)),
            ((1, 3), (2, 5), Some(3)),
            ((2, 3), (1, 1), None),
            ((1, 1), (2, 3), None),
            ((2, 3), (3, 4), Some(3)),
        ];
        for ((oldest, newest), (worker_oldest, worker_newest), spoken) in table {
            let handover = Versions::new(oldest, newest).expect("in order");
            let worker = Versions::new(worker_oldest, worker_newest).expect("in order");
            let both = handover.agree(worker.newest()).and(worker.agree(handover.newest()));
            assert_eq!(both, spoken, "{handover:?} with {worker:?}");
        }
        assert_eq!(Versions::new(2, 1), None);
        assert_eq!(Versions::OURS.agree(NEWEST), Some(NEWEST));
    }
}

//! Restart pacing: how long a slot waits before its next start.
//!
//! Numbers only. The first death of a worker that had been ready is followed at once, whatever its age. Every other
//! start waits, twice as long each time, up to `backoff_max`. `burst` early failures in a row are a crash loop: from
//! then on the slot waits as long as it may, and says so. A worker that has been ready for `stable_after` ends the row.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::model::RestartPolicy;
use crate::id::Generation;
use crate::time::Monotonic;

/// A small reproducible source of jitter (SplitMix64). Not for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// `full`, shortened by up to a fifth: slots that died together do not come back together.
    pub(super) fn shorten(&mut self, full: Duration) -> Duration {
        let share = u32::try_from(self.next() % 1024).unwrap_or(0);
        full - full / (5 * 1024) * share
    }
}

/// How a worker failed, as far as pacing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// After it had been ready for `stable_after`.
    Stable,
    /// It had been ready, for less than that, and serves no more.
    EarlyDeath,
    /// It never became ready, or asked to be replaced before it was stable, or lost its channel before that.
    FailedStart,
}

/// What a slot remembers of failures in a row, with no worker in between that was ready for `stable_after`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pacing {
    /// The generation that failed; another one starts afresh.
    generation: Option<Generation>,
    /// Early failures in a row.
    failures: u32,
    /// Those of them that were followed after a wait.
    waits: u32,
    /// A death was followed at once: whatever comes next waits.
    followed_at_once: bool,
    /// No start before this moment.
    restart_at: Option<Monotonic>,
    /// `failures` reached `burst`.
    crash_loop: bool,
}

impl Pacing {
    /// A worker of `generation` failed. Returns the wait before the next start.
    pub(super) fn failed(
        &mut self,
        now: Monotonic,
        generation: Generation,
        kind: FailureKind,
        policy: &RestartPolicy,
        jitter: &mut Jitter,
    ) -> Duration {
        if self.generation != Some(generation) || kind == FailureKind::Stable {
            self.reset(generation);
        }
        if kind == FailureKind::Stable {
            self.followed_at_once = true;
            return Duration::ZERO;
        }
        let is_first = self.failures == 0 && !self.followed_at_once;
        self.failures = self.failures.saturating_add(1);
        self.crash_loop = self.failures >= policy.burst;
        if is_first && kind == FailureKind::EarlyDeath && !self.crash_loop {
            self.followed_at_once = true;
            return Duration::ZERO;
        }
        let wait = jitter.shorten(self.full_wait(policy));
        self.waits = self.waits.saturating_add(1);
        self.restart_at = Some(now + wait);
        wait
    }

    /// Forgets all failures, those of other generations too.
    pub(super) fn reset(&mut self, generation: Generation) {
        *self = Self { generation: Some(generation), ..Self::default() };
    }

    fn full_wait(&self, policy: &RestartPolicy) -> Duration {
        if self.crash_loop {
            return policy.backoff_max;
        }
        policy.backoff.saturating_mul(1 << self.waits.min(31)).min(policy.backoff_max)
    }

    /// May a worker of `generation` be started now?
    pub(super) fn allows(&self, now: Monotonic, generation: Generation) -> bool {
        self.generation != Some(generation) || self.restart_at.is_none_or(|at| at <= now)
    }

    /// When the next start may be, where that lies ahead.
    pub(super) fn restart_at(&self, now: Monotonic) -> Option<Monotonic> {
        self.restart_at.filter(|at| *at > now)
    }

    /// The generation whose failures a stable worker would make forgotten.
    pub(super) fn unsettled(&self) -> Option<Generation> {
        self.generation.filter(|_| self.failures > 0 || self.followed_at_once)
    }

    /// A worker of this generation failed, and none has been stable since.
    pub(super) fn has_failed(&self, generation: Option<Generation>) -> bool {
        self.failures > 0 && self.generation == generation
    }

    /// The slot fails again and again with workers of `generation`.
    pub(super) fn is_crash_loop(&self, generation: Option<Generation>) -> bool {
        self.crash_loop && self.generation == generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RestartPolicy = RestartPolicy {
        stable_after: Duration::from_secs(10),
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(30),
        burst: 5,
    };

    struct Slot(Pacing, Jitter);

    impl Slot {
        fn new() -> Self {
            Self(Pacing::default(), Jitter::new(1))
        }

        fn fails(&mut self, kind: FailureKind) -> Duration {
            self.0.failed(Monotonic::ZERO, Generation(1), kind, &POLICY, &mut self.1)
        }

        #[track_caller]
        fn waits(&mut self, kind: FailureKind, millis: u64) {
            let (wait, full) = (self.fails(kind), Duration::from_millis(millis));
            assert!(wait <= full && wait >= full / 5 * 4, "{wait:?} of {full:?}");
        }
    }

    #[test]
    fn failed_starts_wait_twice_as_long_each_time_until_the_verdict_and_then_as_long_as_they_may() {
        let mut slot = Slot::new();
        for millis in [100, 200, 400, 800, 30_000, 30_000] {
            slot.waits(FailureKind::FailedStart, millis);
        }
        assert!(slot.0.is_crash_loop(Some(Generation(1))));
    }

    #[test]
    fn the_first_early_death_is_followed_at_once_and_counts() {
        let mut slot = Slot::new();
        for millis in [0, 100, 200, 400] {
            slot.waits(FailureKind::EarlyDeath, millis);
        }
        assert!(!slot.0.is_crash_loop(Some(Generation(1))));
        slot.waits(FailureKind::EarlyDeath, 30_000);
        assert!(slot.0.is_crash_loop(Some(Generation(1))));
    }

    #[test]
    fn an_early_death_that_is_not_the_first_failure_waits() {
        let mut slot = Slot::new();
        slot.waits(FailureKind::FailedStart, 100);
        slot.waits(FailureKind::EarlyDeath, 200);
        slot.waits(FailureKind::FailedStart, 400);
    }

    #[test]
    fn a_stable_worker_ends_the_row_and_its_death_is_the_first_of_the_next() {
        let mut slot = Slot::new();
        for _ in 0..6 {
            slot.fails(FailureKind::FailedStart);
        }
        slot.waits(FailureKind::Stable, 0);
        assert!(slot.0.allows(Monotonic::ZERO, Generation(1)));
        assert!(!slot.0.is_crash_loop(Some(Generation(1))));
        slot.waits(FailureKind::EarlyDeath, 100);
    }

    #[test]
    fn another_generation_does_not_wait_for_the_failures_of_the_last() {
        let mut slot = Slot::new();
        for _ in 0..6 {
            slot.fails(FailureKind::FailedStart);
        }
        assert!(!slot.0.allows(Monotonic::ZERO, Generation(1)));
        assert!(slot.0.allows(Monotonic::ZERO, Generation(2)));
        assert!(!slot.0.is_crash_loop(Some(Generation(2))));
    }
}

//! Restart pacing: how long a slot waits before its next start.
//!
//! Numbers only. A worker that was ready for `stable_after` is followed at once; every other start waits,
//! twice as long each time, up to `backoff_max`. `burst` unstable deaths in a row are a crash loop: from
//! then on the slot waits as long as it may, and says so.

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

/// What a slot remembers of its unstable deaths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pacing {
    /// The generation whose deaths these are; another one starts afresh.
    generation: Option<Generation>,
    /// Unstable deaths in a row.
    deaths: u32,
    /// No start before this moment.
    restart_at: Option<Monotonic>,
    /// `deaths` reached `burst`.
    crash_loop: bool,
    /// Unstable workers in a row that wished to be replaced.
    wishes: u32,
}

impl Pacing {
    /// A worker of `generation` ended unasked after it had been ready for `ready_for`. Gives the wait
    /// before the next start.
    pub(super) fn ended(
        &mut self,
        now: Monotonic,
        generation: Generation,
        ready_for: Option<Duration>,
        policy: &RestartPolicy,
        jitter: &mut Jitter,
    ) -> Duration {
        if ready_for.is_some_and(|ready| ready >= policy.stable_after) {
            *self = Self { generation: Some(generation), ..Self::default() };
            return Duration::ZERO;
        }
        if self.generation != Some(generation) {
            *self = Self { generation: Some(generation), ..Self::default() };
        }
        self.deaths = self.deaths.saturating_add(1);
        self.crash_loop = self.deaths >= policy.burst;
        let wait = jitter.shorten(self.full_wait(policy));
        self.restart_at = Some(now + wait);
        wait
    }

    /// A worker of `generation` wishes to be replaced. That is no death: its successor comes at once.
    /// But workers that wish so again and again, without ever being stable, must not start without a pause.
    pub(super) fn wished(
        &mut self,
        now: Monotonic,
        generation: Generation,
        ready_for: Option<Duration>,
        policy: &RestartPolicy,
        jitter: &mut Jitter,
    ) {
        let was_stable = ready_for.is_some_and(|ready| ready >= policy.stable_after);
        if self.generation != Some(generation) || was_stable {
            *self = Self { generation: Some(generation), ..Self::default() };
        }
        if was_stable {
            return;
        }
        self.wishes = self.wishes.saturating_add(1);
        if self.wishes > 1 {
            self.restart_at = Some(now + jitter.shorten(policy.backoff));
        }
    }

    fn full_wait(&self, policy: &RestartPolicy) -> Duration {
        if self.crash_loop {
            return policy.backoff_max;
        }
        let doublings = self.deaths.saturating_sub(1).min(31);
        policy.backoff.saturating_mul(1 << doublings).min(policy.backoff_max)
    }

    /// May a worker of `generation` be started now?
    pub(super) fn allows(&self, now: Monotonic, generation: Generation) -> bool {
        self.generation != Some(generation) || self.restart_at.is_none_or(|at| at <= now)
    }

    /// When the next start may be, where that lies ahead.
    pub(super) fn restart_at(&self, now: Monotonic) -> Option<Monotonic> {
        self.restart_at.filter(|at| *at > now)
    }

    /// A worker has been ready for `stable_after`: what was before is forgotten.
    pub(super) fn settle(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
    }

    /// The generation whose deaths a stable worker would make forgotten.
    pub(super) fn unsettled(&self) -> Option<Generation> {
        self.generation.filter(|_| self.deaths > 0 || self.wishes > 0)
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

    fn deaths(count: u32) -> (Pacing, Vec<Duration>) {
        let mut pacing = Pacing::default();
        let mut jitter = Jitter::new(1);
        let waits = (0..count)
            .map(|_| pacing.ended(Monotonic::ZERO, Generation(1), None, &POLICY, &mut jitter))
            .collect();
        (pacing, waits)
    }

    #[test]
    fn waits_double_with_jitter_until_the_verdict_and_then_stay_at_the_longest() {
        let (pacing, waits) = deaths(6);
        let full = [100, 200, 400, 800, 30_000, 30_000].map(Duration::from_millis);
        for (wait, full) in waits.iter().zip(full) {
            assert!(*wait <= full && *wait >= full / 5 * 4, "{wait:?} of {full:?}");
        }
        assert!(pacing.is_crash_loop(Some(Generation(1))));
    }

    #[test]
    fn a_worker_that_was_stable_is_followed_at_once_and_clears_the_slate() {
        let (mut pacing, _) = deaths(6);
        let wait = pacing.ended(
            Monotonic::ZERO,
            Generation(1),
            Some(Duration::from_secs(10)),
            &POLICY,
            &mut Jitter::new(1),
        );
        assert_eq!(wait, Duration::ZERO);
        assert!(pacing.allows(Monotonic::ZERO, Generation(1)));
        assert!(!pacing.is_crash_loop(Some(Generation(1))));
    }

    #[test]
    fn the_first_wish_is_granted_at_once_and_the_next_ones_wait_without_a_verdict() {
        let mut pacing = Pacing::default();
        let mut wish = |ready: u64| {
            let ready = Some(Duration::from_secs(ready));
            pacing.wished(Monotonic::ZERO, Generation(1), ready, &POLICY, &mut Jitter::new(1));
            (pacing.allows(Monotonic::ZERO, Generation(1)), pacing.is_crash_loop(Some(Generation(1))))
        };
        assert_eq!(wish(1), (true, false));
        for _ in 0..10 {
            assert_eq!(wish(1), (false, false));
        }
        assert_eq!(wish(10), (true, false));
    }

    #[test]
    fn another_generation_does_not_wait_for_the_deaths_of_the_last() {
        let (pacing, _) = deaths(6);
        assert!(!pacing.allows(Monotonic::ZERO, Generation(1)));
        assert!(pacing.allows(Monotonic::ZERO, Generation(2)));
        assert!(!pacing.is_crash_loop(Some(Generation(2))));
    }
}

//! How often a line may be logged that a worker or a client can trigger.
//!
//! Pure: the caller says what time it is. Each place in the code that logs such a line has a limiter of its own
//! (found by name in [`Limits`]), so one noisy worker never hides another kind of trouble. What is held back is
//! counted, and the count goes out with the next line that passes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Monotonic;

/// Lines of one kind that may be logged in one [`PERIOD`].
pub const BURST: u32 = 10;
/// The time after which a kind may be logged again.
pub const PERIOD: Duration = Duration::from_secs(30);

/// Limits one kind of line.
#[derive(Clone, Copy, Debug)]
pub struct Limiter {
    burst: u32,
    period: Duration,
    since: Option<Monotonic>,
    passed: u32,
    held: u64,
}

impl Limiter {
    /// Lets `burst` lines pass in each `period`, which begins with the first of them.
    pub const fn new(burst: u32, period: Duration) -> Self {
        Self { burst, period, since: None, passed: 0, held: 0 }
    }

    /// May a line be logged now? If so, with the number of lines held back since the last one that was.
    pub fn pass(&mut self, now: Monotonic) -> Option<u64> {
        if self.since.is_none_or(|since| now.since(since) >= self.period) {
            self.since = Some(now);
            self.passed = 0;
        }
        if self.passed < self.burst {
            self.passed += 1;
            Some(std::mem::take(&mut self.held))
        } else {
            self.held += 1;
            None
        }
    }

    /// Lines held back and not yet reported.
    pub fn held(&self) -> u64 {
        self.held
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(BURST, PERIOD)
    }
}

/// A limiter for each kind of line, by the name of the place that logs it.
#[derive(Clone, Debug, Default)]
pub struct Limits(BTreeMap<&'static str, Limiter>);

impl Limits {
    /// As [`Limiter::pass`], for the lines of this place.
    pub fn pass(&mut self, place: &'static str, now: Monotonic) -> Option<u64> {
        self.0.entry(place).or_default().pass(now)
    }

    /// The places that hold lines back which are not yet reported, and how many.
    pub fn held(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(place, limiter)| (*place, limiter.held())).filter(|(_, held)| *held > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_held_back_is_reported_with_the_next_line_that_passes() {
        let mut limiter = Limiter::new(2, Duration::from_secs(10));
        let passed: Vec<_> = [0, 1, 2, 3, 9, 10, 11, 12].map(|s| limiter.pass(at(s))).into();
        assert_eq!(passed, [Some(0), Some(0), None, None, None, Some(3), Some(0), None]);
        assert_eq!(limiter.held(), 1);
    }

    #[test]
    fn one_kind_never_silences_another() {
        let mut limits = Limits::default();
        while limits.pass("a", at(0)).is_some() {}
        assert_eq!(limits.pass("b", at(0)), Some(0));
        assert_eq!(limits.held().collect::<Vec<_>>(), [("a", 1)]);
    }
}

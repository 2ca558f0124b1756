//! Time as a value.
//!
//! The pure modules never read a clock: whoever calls them says what time it is. A [`Monotonic`] is the
//! time since an origin that the caller chose once (the daemon: the one of `CLOCK_MONOTONIC`); it can be compared, moved
//! and written down, and it prints the same in every run with the same inputs.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, as the time since the origin of the caller's clock. Resolution: nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment that lies `since_origin` after the origin.
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The time since the origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; zero where it was not before `self`.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `timeout` from now, or `None` where that is never.
    pub fn after(self, timeout: Timeout) -> Option<Self> {
        timeout.0.map(|duration| self + duration)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    /// Saturates at the end of time instead of overflowing.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl fmt::Display for Monotonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// A span of time that may be endless (`"infinity"` in the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout(Option<Duration>);

impl Timeout {
    /// Never passes.
    pub const INFINITY: Self = Self(None);

    /// Passes after `duration`.
    pub const fn after(duration: Duration) -> Self {
        Self(Some(duration))
    }

    /// Its length, or `None` where it never passes.
    pub const fn duration(self) -> Option<Duration> {
        self.0
    }
}

impl From<Duration> for Timeout {
    fn from(duration: Duration) -> Self {
        Self(Some(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_moves_by_a_timeout_unless_that_is_endless() {
        let start = Monotonic::from_origin(Duration::from_secs(5));
        assert_eq!(start.after(Duration::from_secs(2).into()), Some(start + Duration::from_secs(2)));
        assert_eq!(start.after(Timeout::INFINITY), None);
        assert_eq!((start + Duration::MAX).since(start), Duration::MAX - Duration::from_secs(5));
        assert_eq!(start.since(start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(start.to_string(), "+5.000s");
    }
}

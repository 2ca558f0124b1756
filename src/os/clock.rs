//! The only reader of clocks: everything else is told the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that never goes back, with its origin at the moment it was started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// The time since the start. Stands still while the machine is suspended.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The moment that [`now`](Self::now) calls `since_start`, for a timer of the runtime.
    pub fn instant(&self, since_start: Duration) -> std::time::Instant {
        // An Instant cannot be constructed far beyond its range; a month away is as good as never for a
        // timer that is set afresh whenever something happens.
        const FAR: Duration = Duration::from_secs(30 * 24 * 3600);
        self.origin.checked_add(since_start).unwrap_or_else(|| self.origin + self.now() + FAR)
    }
}

/// Microseconds of `CLOCK_MONOTONIC`: what `MONOTONIC_USEC=` of `sd_notify(3)` must carry.
pub fn monotonic_usec() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1_000
}

/// The wall clock, as the time since 1970-01-01 00:00 UTC; for log records only, it may jump.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock, as a date.
pub fn wall_time() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + wall()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_go_forward() {
        let clock = Clock::start();
        let (first, usec) = (clock.now(), monotonic_usec());
        assert!(clock.now() >= first);
        assert!(monotonic_usec() >= usec && usec > 0);
        assert!(wall() > Duration::from_secs(1_700_000_000));
        assert!(clock.instant(Duration::from_secs(1)) > clock.instant(Duration::ZERO));
        let _never = clock.instant(Duration::MAX);
    }
}

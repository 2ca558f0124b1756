//! The only reader of clocks: everything else is told the time.
//!
//! There is one clock that never goes back, and its values are the kernel's own. So a moment that one process wrote down
//! means the same to another on this machine, until it is booted anew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock that timers of std and of the runtime follow. macOS counts the time of a sleep in its `CLOCK_MONOTONIC`.
#[cfg(target_os = "linux")]
const MONOTONIC: libc::clockid_t = libc::CLOCK_MONOTONIC;
/// See the other.
#[cfg(not(target_os = "linux"))]
const MONOTONIC: libc::clockid_t = libc::CLOCK_UPTIME_RAW;

/// `CLOCK_MONOTONIC` (`clock_gettime(2)`): the time since some moment before the boot of the machine. Stands still while the
/// machine is suspended.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(MONOTONIC, &raw mut time) };
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// The same in microseconds: what `MONOTONIC_USEC=` of `sd_notify(3)` must carry.
pub fn monotonic_usec() -> u64 {
    u64::try_from(monotonic().as_micros()).unwrap_or(u64::MAX)
}

/// The moment that [`monotonic`] calls `at`, for a timer of the runtime. One that has passed is now.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub fn instant(at: Duration) -> std::time::Instant {
    // An Instant cannot be constructed far beyond its range; a month away is as good as never for a timer that is set
    // afresh whenever something happens.
    const FAR: Duration = Duration::from_secs(30 * 24 * 3600);
    // The clock is read first, so that the timer does not run out before `at`.
    let left = at.saturating_sub(monotonic());
    std::time::Instant::now() + left.min(FAR)
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
        let (first, usec) = (monotonic(), monotonic_usec());
        assert!(monotonic() >= first);
        assert!(monotonic_usec() >= usec && usec > 0);
        assert!(wall() > Duration::from_secs(1_700_000_000));
        assert!(instant(first + Duration::from_secs(100)) > instant(Duration::ZERO));
        let _never = instant(Duration::MAX);
    }
}

//! Moments as text: RFC 3339 in UTC.
//!
//! Pure; thirty lines instead of a calendar library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: u64 = 86_400;

/// `2026-11-22T12:11:03.123456Z`; a moment before 1970 reads as 1970.
pub fn rfc3339(time: SystemTime) -> String {
    let since = since_epoch(time);
    let (hour, minute, second) = clock(since);
    let (year, month, day) = date(since.as_secs() / SECONDS_A_DAY);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// `12:11:03.123`, UTC: for a terminal.
pub fn time_of_day(time: SystemTime) -> String {
    let since = since_epoch(time);
    let (hour, minute, second) = clock(since);
    format!("{hour:02}:{minute:02}:{second:02}.{:03}", since.subsec_millis())
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

fn clock(since: Duration) -> (u64, u64, u64) {
    let second = since.as_secs() % SECONDS_A_DAY;
    (second / 3600, second / 60 % 60, second % 60)
}

/// The Gregorian date of a day counted from 1970-01-01. Counts in years that begin in March, so that the leap
/// day is the last of its year, and in eras of 400 years, after which the calendar repeats.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    const MARCH_0000_TO_1970: u64 = 719_468;
    let days = days + MARCH_0000_TO_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(micros)
    }

    #[test]
    fn known_moments_read_as_they_should() {
        // The second column is what `date --utc --date @N` prints.
        for (second, text) in [
            (0, "1970-01-01T00:00:00.000001Z"),
            (951_782_399, "2000-02-28T23:59:59.000001Z"),
            (951_782_400, "2000-02-29T00:00:00.000001Z"),
            (951_868_800, "2000-03-01T00:00:00.000001Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000001Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000001Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000001Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000001Z"),
        ] {
            assert_eq!(rfc3339(at(second * 1_000_000 + 1)), text);
        }
        assert_eq!(time_of_day(at(3_723_004_005)), "01:02:03.004");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn each_day_follows_the_day_before() {
        let mut before = date(0);
        for day in 1..200_000 {
            let next = date(day);
            let (year, month, day) = next;
            let follows = next == (before.0, before.1, before.2 + 1)
                || (day == 1 && before.2 >= 28 && (year, month) == (before.0, before.1 + 1))
                || (next == (before.0 + 1, 1, 1) && (before.1, before.2) == (12, 31));
            assert!(follows, "{before:?} then {next:?}");
            before = next;
        }
    }
}

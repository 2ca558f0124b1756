//! Durations, sizes and file modes as texts, both ways.
//!
//! The syntax is systemd's (`systemd.time(7)`, and the size suffixes of `systemd.resource-control(5)`),
//! because values are copied from unit files: a bare number is seconds, several spans add up, and K, M, G
//! and T count in 1024s.

use std::time::Duration;

use super::error::Wrong;

const MICROSECONDS_PER_SECOND: u128 = 1_000_000;

/// Names and lengths in microseconds, as in `systemd.time(7)`. A month is 30.44 days, a year 365.25.
const TIME_UNITS: &[(&[&str], u128)] = &[
    (&["us", "usec", "µs", "μs"], 1),
    (&["ms", "msec"], 1_000),
    (&["", "s", "sec", "second", "seconds"], MICROSECONDS_PER_SECOND),
    (&["m", "min", "minute", "minutes"], 60 * MICROSECONDS_PER_SECOND),
    (&["h", "hr", "hour", "hours"], 3_600 * MICROSECONDS_PER_SECOND),
    (&["d", "day", "days"], 86_400 * MICROSECONDS_PER_SECOND),
    (&["w", "week", "weeks"], 604_800 * MICROSECONDS_PER_SECOND),
    (&["M", "month", "months"], 2_629_800 * MICROSECONDS_PER_SECOND),
    (&["y", "year", "years"], 31_557_600 * MICROSECONDS_PER_SECOND),
];

const SIZE_UNITS: &[(&str, u128)] =
    &[("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];

/// What [`parse_duration`] takes less `infinity`: numbers, each followed by a unit or by space.
pub(super) fn duration_pattern() -> String {
    let names = TIME_UNITS.iter().flat_map(|(names, _)| *names).copied().filter(|name| !name.is_empty());
    let unit = format!("(?:{})", names.collect::<Vec<_>>().join("|"));
    let number = r"[0-9]+(?:\.[0-9]+)?";
    format!(r"^\s*{number}(?:(?:\s*{unit}\s*|\s+){number})*(?:\s*{unit})?\s*$")
}

/// What [`parse_size`] takes.
pub(super) const SIZE_PATTERN: &str = r"^\s*[0-9]+(?:\.[0-9]+)?\s*[KMGT]?(?:i?B)?\s*$";

/// What [`parse_mode`] takes.
pub(super) const MODE_PATTERN: &str = "^0*[0-7]{1,3}$";

/// Reads a duration; `None` is `infinity`. Resolution: microseconds; at most 2⁶⁴-2 of them, as in systemd.
pub(super) fn parse_duration(text: &str) -> Result<Option<Duration>, Wrong> {
    let text = text.trim();
    if text == "infinity" {
        return Ok(None);
    }
    let no_duration = || {
        Wrong::new(format!("{text:?} is not a duration"))
            .hint("write a number and a unit: \"500ms\", \"30s\", \"5min 20s\", \"12h\", or \"infinity\"")
    };
    if text.is_empty() {
        return Err(no_duration());
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = Decimal::split_from(rest).ok_or_else(no_duration)?;
        let unit_end = after.trim_start().find(|c: char| c.is_ascii_digit() || c.is_whitespace());
        let (unit, after) = after.trim_start().split_at(unit_end.unwrap_or(after.trim_start().len()));
        let microseconds = TIME_UNITS
            .iter()
            .find(|(names, _)| names.contains(&unit))
            .map(|(_, microseconds)| *microseconds)
            .ok_or_else(|| {
                Wrong::new(format!("{unit:?} is not a unit of time"))
                    .hint("units are us, ms, s, min, h, d, w, month and year")
            })?;
        total = total.saturating_add(number.times(microseconds));
        rest = after.trim_start();
    }
    match u64::try_from(total) {
        Ok(microseconds) if microseconds < u64::MAX => Ok(Some(Duration::from_micros(microseconds))),
        _ => Err(Wrong::new(format!("{text:?} is too long")).hint("\"infinity\" is for ever")),
    }
}

/// Reads a number of bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, Wrong> {
    let text = text.trim();
    let no_size = || {
        Wrong::new(format!("{text:?} is not a size"))
            .hint("write bytes, or a number with K, M, G or T: \"512M\" (counted in 1024s)")
    };
    let (number, unit) = Decimal::split_from(text).ok_or_else(no_size)?;
    let unit = unit.trim_start();
    let prefix = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit);
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == prefix).ok_or_else(no_size)?;
    u64::try_from(number.times(*bytes)).map_err(|_| Wrong::new(format!("{text:?} is too large")))
}

/// Reads a file mode in octal digits; at most `0777`.
pub(super) fn parse_mode(octal: &str) -> Result<u32, Wrong> {
    u32::from_str_radix(octal, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && octal.chars().all(|c| c.is_ascii_digit()))
        .ok_or_else(|| {
            Wrong::new(format!("{octal:?} is not a file mode")).hint("write octal digits, \"0660\" or 0o660")
        })
}

/// A number with up to 18 digits before and after its point.
struct Decimal {
    whole: u128,
    fraction: u128,
    /// 10 to the number of digits of `fraction`.
    scale: u128,
}

impl Decimal {
    const DIGITS_MAX: usize = 20;

    /// The number at the beginning of `text`, and what follows it.
    fn split_from(text: &str) -> Option<(Self, &str)> {
        let (whole, rest) = digits(text)?;
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => digits(rest)?,
            None => ("", rest),
        };
        if whole.len() > Self::DIGITS_MAX || fraction.len() > Self::DIGITS_MAX - 2 {
            return None;
        }
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        Some((Self { whole: whole.parse().ok()?, fraction: fraction.parse().unwrap_or(0), scale }, rest))
    }

    fn times(&self, unit: u128) -> u128 {
        self.whole.saturating_mul(unit).saturating_add(self.fraction.saturating_mul(unit) / self.scale)
    }
}

/// The digits at the beginning of `text`, at least one, and what follows them.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Writes a duration as systemd does: `5min 20s`. What is below a microsecond is lost.
pub(super) fn format_duration(duration: Duration) -> String {
    const UNITS: &[(&str, u128)] = &[
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];
    let mut rest = duration.as_micros();
    let mut parts = Vec::new();
    for (name, microseconds) in UNITS {
        if rest >= *microseconds {
            parts.push(format!("{}{name}", rest / microseconds));
            rest %= microseconds;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Writes a number of bytes in the largest unit that says it exactly: `512M`.
pub(super) fn format_size(bytes: u64) -> String {
    let (name, unit) = SIZE_UNITS
        .iter()
        .rev()
        .find(|(_, unit)| bytes > 0 && u128::from(bytes) % unit == 0)
        .unwrap_or(&SIZE_UNITS[0]);
    format!("{}{name}", u128::from(bytes) / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn microseconds(text: &str) -> Option<u128> {
        parse_duration(text).ok()?.map(|duration| duration.as_micros())
    }

    #[test]
    fn a_duration_is_read_as_systemd_reads_it() {
        for (text, expected) in [
            ("30", 30_000_000),
            ("0", 0),
            ("500ms", 500_000),
            ("5min 20s", 320_000_000),
            ("5min20s", 320_000_000),
            ("5 min 20", 320_000_000),
            (" 1.5h ", 5_400_000_000),
            ("12h", 43_200_000_000),
            ("2d 3us", 172_800_000_003),
            ("7µs", 7),
            ("1w", 604_800_000_000),
            ("1M", 2_629_800_000_000),
            ("1m", 60_000_000),
            ("1y", 31_557_600_000_000),
            ("0.000001s", 1),
        ] {
            assert_eq!(microseconds(text), Some(expected), "{text}");
        }
        assert_eq!(parse_duration("infinity"), Ok(None));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", " ", "s", "30x", "5 parsecs", "-1s", "1.", ".5s", "1e3", "infinity 3s", "١s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["18446744073709551615us", "99999999999999999999y", "999999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        assert!(parse_duration("18446744073709551614us").is_ok());
    }

    #[test]
    fn sizes_count_in_1024s_with_or_without_ib() {
        for (text, expected) in [
            ("0", 0),
            ("65536", 65536),
            ("4K", 4096),
            ("512M", 536_870_912),
            ("512MB", 536_870_912),
            ("512 MiB", 536_870_912),
            ("1.5G", 1_610_612_736),
            ("2TiB", 2_199_023_255_552),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "M", "4k", "1X", "-1", "99999999T", "1M 2K"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("77"), Ok(0o77));
        for text in ["", "0888", "1777", "+77", "rw-"] {
            assert!(parse_mode(text).is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(microseconds in 0..u64::MAX, bytes: u64) {
            let duration = Duration::from_micros(microseconds);
            proptest::prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(Some(duration)));
            proptest::prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "[0-9a-zA-Z. µ-]{0,30}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_mode(&text));
        }
    }
}

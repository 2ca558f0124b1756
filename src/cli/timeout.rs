//! A time as it is typed: `90s`, `5min 20s`, `1h`; a bare number is seconds.

use std::time::Duration;

/// Units of `systemd.time(7)` that make sense for waiting, in milliseconds.
const UNITS: [(&str, u64); 12] = [
    ("ms", 1),
    ("msec", 1),
    ("s", 1000),
    ("sec", 1000),
    ("second", 1000),
    ("seconds", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hours", 3_600_000),
];

/// Reads a time above zero.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time; as in 90s, 5min, 1h 30min".to_owned();
    let mut millis = 0_u64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" => 1000,
            name => UNITS.iter().find(|(unit, _)| *unit == name).ok_or_else(wrong)?.1,
        };
        rest = rest[letters..].trim_start();
        let part = number.checked_mul(unit).ok_or_else(wrong)?;
        millis = millis.checked_add(part).ok_or_else(wrong)?;
    }
    if millis == 0 { Err(wrong()) } else { Ok(Duration::from_millis(millis)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_written_in_the_configuration() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("5min 20s", 320), ("1h30m", 5400), (" 2 hours ", 7200)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for text in
            ["", "0", "0s", "-1s", "1.5s", "s", "5 parsecs", "99999999999999999999", "9999999999999999999h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

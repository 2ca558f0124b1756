//! One line of a pipe as its members (docs/pipes.md). Pure.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Fault;

/// The largest number: 2⁵³-1, so that every language can hold it.
const NUMBER_MAX: u64 = 9_007_199_254_740_991;

/// The members of a line, as they stand; unknown ones are passed over, and of two of a name the last one counts.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) kind: Option<String>,
    numbers: [Option<u64>; 7],
    pub(super) error: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) data: Option<&'a RawValue>,
}

/// A member that is a number.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Id,
    Re,
    To,
    Fds,
    Ahead,
    Credits,
    Version,
}

/// Their names, in the order of [`Number`].
const NUMBERS: [&str; 7] = ["id", "re", "to", "fds", "ahead", "credits", "version"];

impl<'a> Members<'a> {
    /// Reads a line without its newline.
    pub(super) fn of(line: &'a str) -> Result<Self, Fault> {
        serde_json::from_str(line)
            .map_err(|error| Fault::protocol(format!("a line is not as it must be: {error}")))
    }

    /// A number, where there is one.
    pub(super) fn number(&self, which: Number) -> Result<Option<u64>, Fault> {
        let which = which as usize;
        match self.numbers[which] {
            Some(number) if number > NUMBER_MAX => {
                Err(Fault::protocol(format!("{} is too large", NUMBERS[which])))
            }
            number => Ok(number),
        }
    }

    /// A number that must be there.
    pub(super) fn needed(&self, which: Number) -> Result<u64, Fault> {
        let missing = || Fault::protocol(format!("a line has no {}", NUMBERS[which as usize]));
        self.number(which)?.ok_or_else(missing)
    }
}

/// The name of a member, without a copy of it.
enum Name {
    Type,
    Number(usize),
    Error,
    Reason,
    Data,
    Unknown,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Known;
        impl Visitor<'_> for Known {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "type" => Name::Type,
                    "error" => Name::Error,
                    "reason" => Name::Reason,
                    "data" => Name::Data,
                    _ => NUMBERS.iter().position(|known| *known == name).map_or(Name::Unknown, Name::Number),
                })
            }
        }
        from.deserialize_str(Known)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key()? {
                    match name {
                        Name::Type => members.kind = Some(map.next_value()?),
                        Name::Number(which) => members.numbers[which] = Some(map.next_value()?),
                        Name::Error => members.error = Some(map.next_value()?),
                        Name::Reason => members.reason = Some(map.next_value()?),
                        Name::Data => members.data = Some(map.next_value()?),
                        Name::Unknown => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }
        from.deserialize_map(Object)
    }
}

/// A line of the two types that nearly all are of, written without spaces and its members in the order of the page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Quick<'a> {
    /// `data` is what stands where an item's data must: JSON of one value if the line is what it seems to be.
    Item { id: u64, fds: u64, ahead: u64, data: &'a str },
    /// Items `re` to `to` were taken.
    Ack { re: u64, to: u64 },
}

/// Reads such a line without a parser, which is several times faster. `None` says nothing but that [`Members`] has to look.
pub(super) fn quick(line: &str) -> Option<Quick<'_>> {
    if let Some(rest) = line.strip_prefix("{\"type\":\"item\",\"id\":") {
        let (id, rest) = number(rest)?;
        let (fds, rest) = member(rest, ",\"fds\":")?;
        let (ahead, rest) = member(rest, ",\"ahead\":")?;
        let data = rest.strip_prefix(",\"data\":")?.strip_suffix('}')?;
        return Some(Quick::Item { id, fds: fds.unwrap_or(0), ahead: ahead.unwrap_or(0), data });
    }
    let (re, rest) = number(line.strip_prefix("{\"type\":\"ack\",\"re\":")?)?;
    let (to, rest) = member(rest, ",\"to\":")?;
    (rest == "}").then_some(Quick::Ack { re, to: to.unwrap_or(re) })
}

/// A member that may be left out.
fn member<'a>(rest: &'a str, name: &str) -> Option<(Option<u64>, &'a str)> {
    match rest.strip_prefix(name) {
        Some(rest) => number(rest).map(|(number, rest)| (Some(number), rest)),
        None => Some((None, rest)),
    }
}

/// A number of so few digits that it is below [`NUMBER_MAX`], as JSON writes it.
fn number(rest: &str) -> Option<(u64, &str)> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at(digits);
    if !(1..=15).contains(&digits) || (digits > 1 && number.starts_with('0')) {
        return None;
    }
    Some((number.bytes().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_reads_what_it_knows_exactly_and_nothing_else() {
        let item = |id, fds, ahead, data| Some(Quick::Item { id, fds, ahead, data });
        let cases = [
            (r#"{"type":"item","id":7,"fds":2,"ahead":30,"data":{"a":1}}"#, item(7, 2, 30, r#"{"a":1}"#)),
            (r#"{"type":"item","id":0,"data":1}"#, item(0, 0, 0, "1")),
            (r#"{"type":"ack","re":12}"#, Some(Quick::Ack { re: 12, to: 12 })),
            (r#"{"type":"ack","re":12,"to":40}"#, Some(Quick::Ack { re: 12, to: 40 })),
            (r#"{"type": "ack","re":12}"#, None),
            (r#"{"type":"ack","re":012}"#, None),
            (r#"{"type":"ack","re":-1}"#, None),
            (r#"{"type":"ack","re":1.5}"#, None),
            (r#"{"type":"ack","re":1000000000000000}"#, None),
            (r#"{"type":"ack","re":12,"re":13}"#, None),
            (r#"{"type":"item","id":1,"fds":1,"fds":2,"data":1}"#, None),
            (r#"{"type":"item","id":1}"#, None),
            (r#"{"type":"item","id":1,"data":1"#, None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(quick(line), expected, "{line}");
        }
    }
}

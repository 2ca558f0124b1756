//! The members of one line, still as the text that stands there: nothing is read before somebody asks for it.
//!
//! So `data` stays byte for byte, unknown members cost nothing, and no input can make a tree larger than itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::kind::{Kind, MEMBERS};
use super::limits::{DEPTH_MAX, NUMBER_MAX};
use super::payload::Payload;
use super::value::{ErrorCode, Id};

/// What stands under each known name; of a name that appears twice, what stands last.
pub(super) struct Members<'a> {
    known: BTreeMap<&'static str, &'a RawValue>,
    total: usize,
}

impl<'a> Members<'a> {
    /// Reads one line without its newline.
    pub(super) fn of_line(text: &'a str) -> Result<Self, Fault> {
        // What opens no more than that cannot nest deeper, wherever it is closed.
        let opened = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
        if opened > DEPTH_MAX && depth(text) > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        if !text.trim_start().starts_with('{') {
            return Err(match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => Fault::NotAnObject,
                Err(error) => Fault::not_json(&error),
            });
        }
        serde_json::from_str(text).map_err(|error| Fault::not_json(&error))
    }

    /// Reads an object that stands in a line; `None` where it is another value.
    pub(super) fn of_value(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// What stands under `name`.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.known.get(name).copied()
    }

    /// How many members there are, unknown ones included.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// What stands under `name`, as a value; `None` where there is nothing or another value.
    pub(super) fn lenient<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }
}

/// How deep the objects and arrays of a text nest. Says nothing about whether it is JSON.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A member's name if it is known.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(MEMBERS.iter().copied().find(|known| *known == name)))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members { known: BTreeMap::new(), total: 0 };
                while let Some(Name(name)) = map.next_key()? {
                    members.total += 1;
                    match name {
                        Some(name) => drop(members.known.insert(name, map.next_value()?)),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The members of a line of a known type.
pub struct Reading<'a> {
    kind: &'static Kind,
    members: &'a Members<'a>,
}

impl<'a> Reading<'a> {
    /// Reads the members that `kind` declares.
    pub(super) fn new(kind: &'static Kind, members: &'a Members<'a>) -> Self {
        Self { kind, members }
    }

    /// That `member` is not what it must be.
    pub(super) fn wrong(&self, member: &'static str, expected: &'static str) -> Fault {
        Fault::Wrong { kind: self.kind.name, member, expected }
    }

    /// What stands under `member`, if anything does.
    pub(super) fn raw(&self, member: &'static str) -> Option<&'a RawValue> {
        if self.kind.members.contains(&member) { self.members.raw(member) } else { None }
    }

    /// `value`, which must be there.
    pub(super) fn must<T>(&self, member: &'static str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or(Fault::Missing { kind: self.kind.name, member })
    }

    /// A value of type `T`, if there is one.
    pub(super) fn may<T: DeserializeOwned>(
        &self,
        member: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, Fault> {
        let read = |raw: &RawValue| serde_json::from_str(raw.get()).map_err(|_| self.wrong(member, expected));
        // Read as an option, `null` would be none; it is a value of the wrong type.
        self.raw(member).map(read).transpose()
    }

    /// A string that may be missing.
    pub(super) fn may_text(&self, member: &'static str) -> Result<Option<String>, Fault> {
        self.may(member, "a string")
    }

    /// A string.
    pub(super) fn text(&self, member: &'static str) -> Result<String, Fault> {
        let text = self.may_text(member)?;
        self.must(member, text)
    }

    /// A number that may be missing.
    pub(super) fn may_number(&self, member: &'static str) -> Result<Option<u64>, Fault> {
        const EXPECTED: &str = "a whole number from 0 to 2^53-1";
        match self.may::<u64>(member, EXPECTED)? {
            Some(number) if number > NUMBER_MAX => Err(self.wrong(member, EXPECTED)),
            number => Ok(number),
        }
    }

    /// A number.
    pub(super) fn number(&self, member: &'static str) -> Result<u64, Fault> {
        let number = self.may_number(member)?;
        self.must(member, number)
    }

    /// The number of a slot.
    pub(super) fn slot(&self, member: &'static str) -> Result<u32, Fault> {
        u32::try_from(self.number(member)?).map_err(|_| self.wrong(member, "the number of a slot"))
    }

    /// An id that may be missing.
    pub(super) fn may_id(&self, member: &'static str) -> Result<Option<Id>, Fault> {
        Ok(self.may_number(member)?.and_then(Id::new))
    }

    /// An id.
    pub(super) fn id(&self, member: &'static str) -> Result<Id, Fault> {
        let id = self.may_id(member)?;
        self.must(member, id)
    }

    /// `true` or `false`; false where it is missing.
    pub(super) fn flag(&self, member: &'static str) -> Result<bool, Fault> {
        Ok(self.may(member, "true or false")?.unwrap_or(false))
    }

    /// Any JSON value.
    pub(super) fn payload(&self, member: &'static str) -> Result<Payload, Fault> {
        let payload = self.raw(member).map(Payload::taken);
        self.must(member, payload)
    }

    /// Why something was refused, for programs.
    pub(super) fn error(&self, member: &'static str) -> Result<ErrorCode, Fault> {
        self.text(member).map(ErrorCode::from)
    }
}

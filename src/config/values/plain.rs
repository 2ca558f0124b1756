//! Texts, numbers, durations, sizes, paths, lists.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeInteger, DeValue};

use crate::config::error::Wrong;
use crate::config::names::{NAME_PATTERN, check_name};
use crate::config::units::{SIZE_PATTERN, duration_pattern, parse_duration, parse_size};
use crate::config::walk::{Kind, Log, Place, Placed, Read, Shape, mismatch};
use crate::time::Timeout;

/// The value as text without NUL, which nothing that we call could take.
pub(super) fn text<'a, T: Read>(value: &'a DeValue<'_>) -> Result<&'a str, Wrong> {
    match value.as_str() {
        Some(text) if text.contains('\0') => Err(Wrong::new("has a NUL in it")),
        Some(text) => Ok(text),
        None => Err(unquoted(mismatch(&T::kind(), value), value)),
    }
}

/// Says so where quotes are all that is missing.
fn unquoted(wrong: Wrong, value: &DeValue<'_>) -> Wrong {
    match value {
        DeValue::Integer(number) => wrong.hint(format!("write it in quotes: \"{number}\"")),
        DeValue::Float(number) => wrong.hint(format!("write it in quotes: \"{number}\"")),
        DeValue::Boolean(boolean) => wrong.hint(format!("write it in quotes: \"{boolean}\"")),
        _ => wrong,
    }
}

pub(super) fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

impl Read for String {
    fn kind() -> Kind {
        Kind::value("text", "\"…\"", Shape::Text)
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        log.take(at, text::<Self>(value).map(str::to_owned))
    }
}

impl Read for bool {
    fn kind() -> Kind {
        Kind::value("true or false", "true", Shape::Boolean)
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        log.take(
            at,
            value.as_bool().ok_or_else(|| {
                let wrong = mismatch(&Self::kind(), value);
                match value.as_str() {
                    Some(text @ ("true" | "false")) => wrong.hint(format!("write {text} without quotes")),
                    _ => wrong.hint("true and false are all there is"),
                }
            }),
        )
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Number<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Number<MIN, MAX> {
    /// As a number of another type; the bounds are chosen so that it fits.
    pub(in crate::config) fn get<T: TryFrom<i64>>(self) -> Option<T> {
        T::try_from(self.0).ok()
    }
}

impl<const MIN: i64, const MAX: i64> Read for Number<MIN, MAX> {
    fn kind() -> Kind {
        Kind::value(format!("a number from {MIN} to {MAX}"), "1", Shape::Integer(MIN, Some(MAX)))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::Integer(number) => match integer(number) {
                Some(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
                _ => Err(Wrong::new(format!("{number} is not between {MIN} and {MAX}"))),
            },
            DeValue::String(text) if text.parse::<i64>().is_ok() => {
                Err(mismatch(&Self::kind(), value).hint(format!("write {text} without quotes")))
            }
            _ => Err(mismatch(&Self::kind(), value)),
        };
        log.take(at, result)
    }
}

/// A duration from a text, or from a number of seconds.
fn duration(value: &DeValue<'_>, kind: &Kind) -> Result<Option<Duration>, Wrong> {
    match value {
        DeValue::String(text) => parse_duration(text),
        DeValue::Integer(seconds) => match integer(seconds).map(u64::try_from) {
            Some(Ok(seconds)) => parse_duration(&seconds.to_string()),
            _ => Err(Wrong::new(format!("{seconds} is not a duration"))),
        },
        DeValue::Float(seconds) => {
            Err(mismatch(kind, value).hint(format!("write \"{}s\"", seconds.as_str())))
        }
        _ => Err(mismatch(kind, value)),
    }
}

/// A duration that ends; `least` is the smallest whole number of seconds.
fn duration_shape(least: i64) -> Shape {
    Shape::AnyOf(vec![Shape::pattern(duration_pattern()), Shape::Integer(least, None)])
}

fn endless() -> Wrong {
    Wrong::new("\"infinity\" is not possible here").hint("a duration that ends, for example \"30s\"")
}

impl Read for Timeout {
    fn kind() -> Kind {
        let forms = Shape::AnyOf(vec![duration_shape(1), Shape::pattern(r"^\s*infinity\s*$")]);
        Kind::value("a duration or \"infinity\"", "\"30s\"", Shape::word_or("infinity", forms))
    }

    /// 0 is refused: it is "at once" to some and "never" to others, systemd among them.
    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match duration(value, &Self::kind()) {
            Ok(Some(Duration::ZERO)) => Err(Wrong::new("must be longer than 0")
                .hint("\"infinity\" waits for ever, \"1ms\" hardly at all")),
            Ok(Some(duration)) => Ok(Self::after(duration)),
            Ok(None) => Ok(Self::INFINITY),
            Err(wrong) => Err(wrong),
        };
        log.take(at, result)
    }
}

impl Read for Duration {
    fn kind() -> Kind {
        Kind::value("a duration", "\"30s\"", duration_shape(0))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        log.take(at, duration(value, &Self::kind()).and_then(|duration| duration.ok_or_else(endless)))
    }
}

/// A duration longer than 0.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Positive(pub Duration);

impl Read for Positive {
    fn kind() -> Kind {
        Kind::value("a duration longer than 0", "\"30s\"", duration_shape(1))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let duration = Duration::read(value, at, log)?;
        if duration.is_zero() {
            log.value(at, Wrong::new("must be longer than 0"));
            return None;
        }
        Some(Self(duration))
    }
}

/// A size in bytes for a socket's buffer: the kernel doubles what it is given and keeps it in an `int` (`socket(7)`).
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Size(pub u32);

impl Size {
    const MAX: u32 = i32::MAX.unsigned_abs() / 2;
}

impl Read for Size {
    fn kind() -> Kind {
        let bytes = Shape::Integer(1, Some(Self::MAX.into()));
        Kind::value("a size", "\"512K\"", Shape::AnyOf(vec![Shape::pattern(SIZE_PATTERN), bytes]))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let bytes = match value {
            DeValue::String(text) => parse_size(text),
            DeValue::Integer(number) => integer(number)
                .and_then(|bytes| u64::try_from(bytes).ok())
                .ok_or_else(|| Wrong::new(format!("{number} is not a size"))),
            _ => Err(mismatch(&Self::kind(), value)),
        };
        let result = bytes.and_then(|bytes| match u32::try_from(bytes) {
            Ok(bytes @ 1..=Self::MAX) => Ok(Self(bytes)),
            _ => Err(Wrong::new(
                "is not between 1 byte and 1 GiB, which is all that a socket's buffer can have",
            )),
        });
        log.take(at, result)
    }
}

/// The path of a file, from the root.
#[derive(Clone, Debug)]
pub(in crate::config) struct AbsolutePath(pub PathBuf);

impl Read for AbsolutePath {
    fn kind() -> Kind {
        Kind::value("an absolute path", "\"/run/myapp/pid\"", Shape::pattern("^/"))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = text::<Self>(value).and_then(|path| match path.starts_with('/') {
            true => Ok(Self(path.into())),
            false => Err(not_absolute(path)),
        });
        log.take(at, result)
    }
}

pub(super) fn not_absolute(path: &str) -> Wrong {
    Wrong::new(format!("{path:?} is not an absolute path")).hint("begin with a /")
}

/// The daemon's name.
#[derive(Clone, Debug)]
pub(in crate::config) struct Name(pub String);

impl Read for Name {
    fn kind() -> Kind {
        let what = "text of at most 32 of `a-z`, `0-9`, `_`, `.`, `-`";
        Kind::value(what, "\"myapp\"", Shape::pattern(NAME_PATTERN))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = text::<Self>(value).and_then(|name| check_name(name).map(|()| Self(name.to_owned())));
        log.take(at, result)
    }
}

impl<T: Read> Read for Vec<Placed<T>> {
    fn kind() -> Kind {
        Kind::List(Box::new(T::kind()))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let Some(array) = value.as_array() else {
            log.value(at, mismatch(&Self::kind(), value));
            return None;
        };
        let elements = array.iter().enumerate().map(|(index, element)| {
            let at = at.element(index, element);
            T::read(element.get_ref(), &at, log).map(|value| Placed::given(value, at))
        });
        let elements: Vec<Option<Placed<T>>> = elements.collect();
        elements.into_iter().collect()
    }
}

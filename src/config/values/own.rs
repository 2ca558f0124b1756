//! Modes, signals, shares, limits, accounts, texts with variables.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::plain::{integer, not_absolute, text};
use crate::config::error::Wrong;
use crate::config::expand;
use crate::config::model::{Address, EnvironmentFile, Limit, Resource, Share, Signal};
use crate::config::names::{VARIABLE_PATTERN, check_variable};
use crate::config::nearest::nearest;
use crate::config::units::{MODE_PATTERN, parse_duration, parse_mode, parse_size};
use crate::config::walk::{Kind, Log, Place, Read, Shape, mismatch};
use crate::config::{address, signal};

/// The number of workers as it is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Workers {
    Count(u32),
    Auto,
}

impl Workers {
    /// More processes than one daemon can look after are a mistake.
    pub(in crate::config) const MAX: u32 = 10_000;
}

impl Read for Workers {
    fn kind() -> Kind {
        let count = Shape::Integer(1, Some(Self::MAX.into()));
        Kind::value("a number from 1 to 10000 or \"auto\"", "4", Shape::word_or("auto", count))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::String(text) if text == "auto" => Ok(Self::Auto),
            DeValue::Integer(number) => match integer(number).map(u32::try_from) {
                Some(Ok(count @ 1..=Self::MAX)) => Ok(Self::Count(count)),
                _ => Err(Wrong::new(format!("{number} is not between 1 and {}", Self::MAX))
                    .hint("\"auto\" is the number of cores")),
            },
            DeValue::Table(_) => Err(Wrong::new("{ min, max } is not supported yet").hint("give one number")),
            DeValue::String(text) if text.parse::<u32>().is_ok() => {
                Err(mismatch(&Self::kind(), value).hint(format!("write {text} without quotes")))
            }
            _ => Err(mismatch(&Self::kind(), value)),
        };
        log.take(at, result)
    }
}

/// A file mode: octal digits as text, or a TOML number written in octal.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Mode(pub u32);

impl Read for Mode {
    fn kind() -> Kind {
        let number = Shape::Integer(0, Some(0o777));
        Kind::value("a file mode", "\"0660\"", Shape::AnyOf(vec![Shape::pattern(MODE_PATTERN), number]))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::String(text) => parse_mode(text),
            DeValue::Integer(number) if number.radix() == 8 => parse_mode(number.as_str()),
            DeValue::Integer(number) => Err(Wrong::new(format!("{number} is not octal"))
                .hint(format!("write \"0{number}\" or 0o{number}: modes have octal digits"))),
            _ => Err(mismatch(&Self::kind(), value)),
        };
        log.take(at, result.map(Self))
    }
}

/// A signal by name or number.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct SignalName(pub Signal);

impl Read for SignalName {
    fn kind() -> Kind {
        Kind::value("a signal", "\"SIGTERM\"", signal::shape())
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::String(text) => signal::parse(text),
            DeValue::Integer(number) => integer(number)
                .map_or_else(|| Err(Wrong::new(format!("{number} is not a signal"))), signal::from_number),
            _ => Err(mismatch(&Self::kind(), value)),
        };
        log.take(at, result.map(Self))
    }
}

impl Read for Share {
    fn kind() -> Kind {
        let count = Shape::Integer(0, Some(Workers::MAX.into()));
        let share = Shape::pattern("^0*(?:100|[0-9]{1,2})\\s*%$");
        Kind::value(
            "a number or a share from \"0%\" to \"100%\"",
            "\"25%\"",
            Shape::AnyOf(vec![count, share]),
        )
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::Integer(number) => match integer(number).map(u32::try_from) {
                Some(Ok(count @ 0..=Workers::MAX)) => Ok(Self::Count(count)),
                _ => Err(Wrong::new(format!("{number} is not between 0 and {}", Workers::MAX))),
            },
            DeValue::String(text) => match text.strip_suffix('%').map(|percent| percent.trim_end().parse()) {
                Some(Ok(percent @ 0..=100)) if !text.starts_with('+') => Ok(Self::Percent(percent)),
                _ => Err(Wrong::new(format!("{text:?} is not a share of the workers"))
                    .hint("write \"25%\", at most \"100%\", or a number without quotes")),
            },
            _ => Err(mismatch(&Self::kind(), value)),
        };
        log.take(at, result)
    }
}

impl Read for Address {
    fn kind() -> Kind {
        Kind::value("an address", "\"tcp://0.0.0.0:8080\"", Shape::pattern(address::PATTERN))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::Integer(port) => {
                Err(mismatch(&Self::kind(), value).hint(format!("write \"tcp://0.0.0.0:{port}\"")))
            }
            _ => text::<Self>(value).and_then(address::parse),
        };
        log.take(at, result)
    }
}

/// A user or a group, by name or number.
#[derive(Clone, Debug)]
pub(in crate::config) struct Account(pub String);

/// What -1 is as a number without a sign: `setuid(2)` refuses the first, `chown(2)` takes it for "as it is".
const NOBODYS: [&str; 2] = ["4294967295", "65535"];

impl Read for Account {
    fn kind() -> Kind {
        let number = Shape::Integer(0, Some(u32::MAX.into()));
        Kind::value("a name or a number", "\"www-data\"", Shape::AnyOf(vec![Shape::Text, number]))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = match value {
            DeValue::Integer(number) => integer(number)
                .and_then(|number| u32::try_from(number).ok())
                .map(|number| number.to_string())
                .ok_or_else(|| Wrong::new(format!("{number} is not the number of a user or group"))),
            _ => text::<Self>(value).map(str::to_owned),
        };
        let result = result.and_then(|name| match NOBODYS.contains(&name.as_str()) {
            true => Err(Wrong::new(format!("{name} is not the number of a user or group"))
                .hint("system calls take -1 for no user at all, in 32 bits and in 16")),
            false => Ok(name),
        });
        log.take(at, result.map(Self))
    }
}

/// Text in which handover's variables are put when a worker is started.
#[derive(Clone, Debug)]
pub(in crate::config) struct Template(pub String);

impl Read for Template {
    fn kind() -> Kind {
        Kind::value("text", "\"/usr/bin/myapp\"", Shape::Text)
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        log.take(at, text::<Self>(value).and_then(template).map(Self))
    }
}

fn template(text: &str) -> Result<String, Wrong> {
    match expand::check(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) => Err(Wrong::new(error.to_string()).hint(error.hint())),
    }
}

/// An absolute path with variables.
#[derive(Clone, Debug)]
pub(in crate::config) struct TemplatePath(pub String);

impl Read for TemplatePath {
    fn kind() -> Kind {
        Kind::value("an absolute path", "\"/srv/myapp\"", Shape::pattern("^/"))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = text::<Self>(value).and_then(|path| match path.starts_with('/') {
            true => template(path).map(Self),
            false => Err(not_absolute(path)),
        });
        log.take(at, result)
    }
}

/// An absolute path, with `-` before it where the file may be missing.
#[derive(Clone, Debug)]
pub(in crate::config) struct EnvironmentPath(pub EnvironmentFile);

impl Read for EnvironmentPath {
    fn kind() -> Kind {
        Kind::value("absolute path", "\"-/etc/default/myapp\"", Shape::pattern("^-?/"))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let result = text::<Self>(value).and_then(|text| {
            let (optional, path) = text.strip_prefix('-').map_or((false, text), |path| (true, path));
            match path.starts_with('/') {
                true => Ok(Self(EnvironmentFile { path: path.into(), optional })),
                false => Err(not_absolute(path)),
            }
        });
        log.take(at, result)
    }
}

/// Environment variables.
#[derive(Clone, Debug)]
pub(in crate::config) struct Variables(pub BTreeMap<String, String>);

impl Read for Variables {
    fn kind() -> Kind {
        let shape = Shape::Map(VARIABLE_PATTERN, Box::new(Shape::Text));
        Kind::value("a table of texts", "{ RUST_LOG = \"info\" }", shape)
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let Some(table) = value.as_table() else {
            log.value(at, mismatch(&Self::kind(), value));
            return None;
        };
        let variables = table.iter().filter_map(|(name, value)| {
            let at = at.of(name, value);
            if let Err(wrong) = check_variable(name.get_ref()) {
                log.key(&at, wrong);
            }
            let value = Template::read(value.get_ref(), &at, log)?;
            Some((name.get_ref().to_string(), value.0))
        });
        Some(Self(variables.collect()))
    }
}

/// Resource limits, and where each of them stands.
#[derive(Clone, Debug)]
pub(in crate::config) struct Limits(pub BTreeMap<Resource, Limit>, pub BTreeMap<Resource, Place>);

/// The resources and how the configuration calls them: as `ulimit` and `setrlimit(2)` do.
pub(in crate::config) const RESOURCES: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::FSize),
    ("memlock", Resource::MemLock),
    ("nofile", Resource::NoFile),
    ("nproc", Resource::NProc),
    ("stack", Resource::Stack),
];

impl Read for Limits {
    fn kind() -> Kind {
        let fields = RESOURCES.iter().map(|(name, _)| (*name, limit_shape())).collect();
        Kind::value("a table of limits", "{ nofile = 65536 }", Shape::Fields(fields))
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let Some(table) = value.as_table() else {
            log.value(at, mismatch(&Self::kind(), value));
            return None;
        };
        let limits = table.iter().filter_map(|(name, value)| {
            let at = at.of(name, value);
            let known = RESOURCES.iter().find(|(known, _)| known == name.get_ref());
            let Some((_, resource)) = known else {
                log.key(&at, unknown_resource(name.get_ref()));
                return None;
            };
            let limit = log.take(&at, limit(*resource, value.get_ref()))?;
            Some(((*resource, limit), (*resource, at)))
        });
        let (limits, places) = limits.unzip();
        Some(Self(limits, places))
    }
}

fn unknown_resource(name: &str) -> Wrong {
    let bare = name.to_lowercase().replace("rlimit_", "").replace("limit", "");
    let names = RESOURCES.iter().map(|(name, _)| *name);
    let hint = match nearest(&bare, names.clone()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
    };
    Wrong::new("no such resource limit").hint(hint)
}

fn limit(resource: Resource, value: &DeValue<'_>) -> Result<Limit, Wrong> {
    match value {
        DeValue::Integer(number) => match integer(number).map(u64::try_from) {
            Some(Ok(limit)) => Ok(Limit { soft: Some(limit), hard: Some(limit) }),
            _ => Err(Wrong::new(format!("{number} is not a limit"))),
        },
        DeValue::String(text) => {
            let (soft, hard) = text.split_once(':').unwrap_or((text, text));
            let limit = Limit { soft: amount(resource, soft)?, hard: amount(resource, hard)? };
            match limit {
                Limit { soft: None, hard: Some(_) } => Err(above(text)),
                Limit { soft: Some(soft), hard: Some(hard) } if soft > hard => Err(above(text)),
                _ => Ok(limit),
            }
        }
        _ => {
            let kind = Kind::value("a limit", "65536, \"1G\", \"infinity\" or \"1024:65536\"", limit_shape());
            Err(mismatch(&kind, value))
        }
    }
}

/// Numbers, sizes and durations: which of them, the reader knows.
fn limit_shape() -> Shape {
    let amounts = r"^\s*(?:infinity\s*|[0-9][^:]*)(?::\s*(?:infinity\s*|[0-9][^:]*))?$";
    Shape::AnyOf(vec![Shape::Integer(0, None), Shape::pattern(amounts)])
}

fn above(text: &str) -> Wrong {
    Wrong::new(format!("in {text:?} the soft limit is above the hard one"))
        .hint("soft:hard, or one value for both")
}

fn amount(resource: Resource, text: &str) -> Result<Option<u64>, Wrong> {
    let text = text.trim();
    if text == "infinity" {
        return Ok(None);
    }
    let amount = match resource {
        Resource::Cpu => match parse_duration(text)? {
            Some(duration) if duration.subsec_nanos() == 0 => Ok(duration.as_secs()),
            _ => Err(Wrong::new("is counted in whole seconds")),
        },
        Resource::NoFile | Resource::NProc => {
            text.parse().map_err(|_| Wrong::new(format!("{text:?} is not a number of files or processes")))
        }
        _ => parse_size(text),
    };
    amount.map(Some)
}

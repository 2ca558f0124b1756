//! The machinery of the schema: how a declared key is read.
//!
//! A section is declared with [`section!`]; everything that can be a value implements [`Read`]. Reading goes
//! on after a fault, so that all are found: a faulty value stands as [`Given::Faulty`] (or as the default,
//! where there is one), and what would only follow from it is not reported again.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::error::Wrong;
use super::model::Address;
use super::nearest::nearest;

pub(super) use super::place::{Given, Log, Origin, Place, Placed, Stands};
pub(super) use super::section::section;
pub(super) use super::shape::Shape;

/// A type of values, as people know it.
pub(super) enum Kind {
    /// One value: what it is (`a duration`), one as TOML (`"30s"`), and its form.
    Value(String, &'static str, Shape),
    /// An array of such values.
    List(Box<Kind>),
    /// A table with keys of its own.
    Table(&'static [Key]),
    /// A table of such tables, under names that the user chooses.
    Named(&'static [Key]),
}

impl Kind {
    pub(super) fn value(what: impl Into<String>, example: &'static str, shape: Shape) -> Self {
        Self::Value(what.into(), example, shape)
    }

    /// What it is: `a duration`.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Value(what, ..) => what.clone(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) | Self::Named(_) => "a table".to_owned(),
        }
    }

    /// One of them as TOML.
    pub(super) fn example(&self) -> String {
        match self {
            Self::Value(_, example, _) => (*example).to_owned(),
            Self::List(of) => format!("[{}]", of.example()),
            Self::Table(_) | Self::Named(_) => "{ … }".to_owned(),
        }
    }
}

/// What is said of a value that is of another type.
pub(super) fn mismatch(kind: &Kind, found: &DeValue<'_>) -> Wrong {
    let found_as = match found {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let hint = match (kind, found) {
        (Kind::List(_), DeValue::String(text)) => {
            let words: Vec<String> = text.split_whitespace().map(super::render::quote).collect();
            format!("write [{}]", words.join(", "))
        }
        _ => format!("for example {}", kind.example()),
    };
    Wrong::new(format!("takes {}, not {found_as}", kind.what())).hint(hint)
}

/// What is said of a value where a section should be.
pub(super) fn no_section(kind: &Kind, found: &DeValue<'_>, at: &Place) -> Wrong {
    let name = if matches!(kind, Kind::Named(_)) { ".NAME" } else { "" };
    let hint = match found {
        DeValue::Array(_) => format!("single brackets make a section: [{}{name}]", at.path),
        _ => format!("write a section [{}{name}]", at.path),
    };
    mismatch(kind, found).hint(hint)
}

/// Everything that can be the value of a key.
pub(super) trait Read: Sized {
    /// The type, for faults and for the reference.
    fn kind() -> Kind;

    /// The value; `None` where it is faulty, and the fault is noted.
    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self>;
}

/// A table with declared keys.
pub(super) trait Section: Read {
    /// Its declaration.
    const KEYS: &'static [Key];

    /// Reads it to the end, whatever is faulty in it.
    fn from_table(table: &DeTable<'_>, at: &Place, log: &mut Log) -> Self;

    /// The keys that the file has, and where.
    fn given(&self) -> Vec<(&'static Key, &Place)>;
}

/// The declaration of a key.
pub(super) struct Key {
    pub name: &'static str,
    pub kind: fn() -> Kind,
    pub default: Default,
    /// Which sockets it means something for; for keys of a listener.
    pub on: Option<&'static On>,
    pub meaning: &'static str,
    /// The release that brought it.
    pub since: &'static str,
}

/// What holds where a key is left out.
pub(super) enum Default {
    /// It must be given.
    Required,
    /// This value, as TOML.
    Value(&'static str),
    /// What is said here.
    Unset(&'static str),
    /// It must be left out: it is not built yet.
    Later,
}

/// A set of sockets for which a key means something.
pub(super) struct On {
    /// As in "only for …".
    pub what: &'static str,
    pub holds: fn(&Address) -> bool,
}

/// Notes keys that are unknown or not supported yet.
pub(super) fn check_keys(keys: &'static [Key], table: &DeTable<'_>, at: &Place, log: &mut Log) {
    for (name, value) in table {
        let at = at.of(name, value);
        match keys.iter().find(|key| key.name == name.get_ref()) {
            Some(Key { default: Default::Later, .. }) => log.key(&at, Wrong::new("is not supported yet")),
            Some(_) => {}
            None => {
                let hint = nearest_key(keys, name.get_ref())
                    .or_else(|| super::schema::belongs_to(name.get_ref()))
                    .or_else(|| super::schema::known_elsewhere_as(name.get_ref()))
                    .or_else(|| {
                        value
                            .get_ref()
                            .as_table()
                            .and_then(|table| super::schema::meant(name.get_ref(), table))
                    });
                log.key(&at, Wrong::new("no such key").maybe_hint(hint));
            }
        }
    }
}

fn example_name(section: &str) -> &'static str {
    if section == "listener" { "http" } else { "web" }
}

fn nearest_key(keys: &[Key], name: &str) -> Option<String> {
    let known = keys.iter().filter(|key| !matches!(key.default, Default::Later)).map(|key| key.name);
    nearest(name, known).map(|known| format!("did you mean `{known}`?"))
}

/// A key that may be left out.
pub(super) fn optional<T: Read>(name: &str, table: &DeTable<'_>, at: &Place, log: &mut Log) -> Given<T> {
    let Some((key, value)) = table.get_key_value(name) else { return Given::Absent };
    let at = at.of(key, value);
    match T::read(value.get_ref(), &at, log) {
        Some(value) => Given::Value(Placed::given(value, at)),
        None => Given::Faulty(at),
    }
}

/// A key that must be given.
pub(super) fn required<T: Read>(name: &str, table: &DeTable<'_>, at: &Place, log: &mut Log) -> Given<T> {
    let given = optional(name, table, at, log);
    if given.is_absent() {
        let missing = Place { path: at.path_of(name), ..at.clone() };
        let hint = match T::kind() {
            Kind::Table(_) => format!("add a section [{}]", missing.path),
            Kind::Named(_) => format!("add a section [{}.NAME]", missing.path),
            kind => format!("add {name} = {}", kind.example()),
        };
        log.key(&missing, Wrong::new("is missing").hint(hint));
    }
    given
}

/// A key with a default, which also stands in for a faulty value.
pub(super) fn or_default<T: Read>(
    name: &str,
    default: &'static str,
    table: &DeTable<'_>,
    at: &Place,
    log: &mut Log,
) -> Placed<T> {
    let (origin, at) = match optional(name, table, at, log) {
        Given::Value(placed) => return placed,
        Given::Absent => (Origin::Default, Place { path: at.path_of(name), ..at.clone() }),
        Given::Faulty(at) => (Origin::StandIn, at),
    };
    let value = parse_default(default, &at).expect("a test reads every default of the schema");
    Placed { value, at, origin }
}

fn parse_default<T: Read>(text: &'static str, at: &Place) -> Option<T> {
    let value = DeValue::parse(text).ok()?;
    let mut log = Log::default();
    T::read(value.get_ref(), at, &mut log).filter(|_| log.is_clean())
}

impl<T: Section> Read for BTreeMap<String, Placed<T>> {
    fn kind() -> Kind {
        Kind::Named(T::KEYS)
    }

    fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
        let Some(table) = value.as_table() else {
            log.value(at, no_section(&Self::kind(), value, at));
            return None;
        };
        let mut named = Self::new();
        for (name, value) in table {
            let (inner, at) = (at.of(name, value), at);
            // A key of the section itself: the user has left the name out.
            if value.get_ref().as_table().is_none() && T::KEYS.iter().any(|key| key.name == name.get_ref()) {
                let hint = format!("[{0}] needs a name, as in [{0}.{1}]", at.path, example_name(&at.path));
                log.key(&inner, Wrong::new("stands in a section without a name").hint(hint));
            } else if let Some(value) = T::read(value.get_ref(), &inner, log) {
                named.insert(name.get_ref().to_string(), Placed::given(value, inner));
            }
        }
        (!named.is_empty() || table.is_empty()).then_some(named)
    }
}

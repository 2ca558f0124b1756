//! `log`: one record of a worker.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::{Fault, Unsendable};
use super::limits::{LOG_FIELDS_MAX, LOG_TARGET_MAX, cut};
use super::members::Reading;
use super::payload::Payload;
use super::value::Level;
use super::writer::{Writer, quoted};

/// One record, as the worker made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How bad it is.
    pub level: Level,
    /// What happened.
    pub message: String,
    /// The part of the program that says so; cut at [`LOG_TARGET_MAX`] bytes.
    pub target: Option<String>,
    /// What belongs to it, in the order in which it stands there, each name once; of more than [`LOG_FIELDS_MAX`] the first.
    /// A value that is no string, number, boolean or null is to be shown as its JSON text.
    pub fields: Vec<(String, Payload)>,
}

/// The members of any object, in their order.
struct Fields(Vec<(String, Payload)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Payload)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if let Some((_, last)) = fields.iter_mut().find(|(known, _)| *known == name) {
                        *last = Payload::taken(value);
                    } else if fields.len() < LOG_FIELDS_MAX {
                        fields.push((name, Payload::taken(value)));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Reads the members of `log`.
pub(super) fn read_record(line: &Reading<'_>) -> Result<Record, Fault> {
    let level = Level::from_word(&line.text("level")?)
        .ok_or_else(|| line.wrong("level", "error, warn, info, debug or trace"))?;
    let fields = match line.raw("fields") {
        None => Vec::new(),
        Some(raw) => {
            let read = serde_json::from_str::<Fields>(raw.get());
            read.map_err(|_| line.wrong("fields", "an object"))?.0
        }
    };
    let target = line.may_text("target")?.map(|target| cut(target, LOG_TARGET_MAX));
    Ok(Record { level, message: line.text("message")?, target, fields })
}

/// Writes the members of `log`.
pub(super) fn write_record(record: &Record, line: &mut Writer) -> Result<(), Unsendable> {
    line.text("level", record.level.word());
    line.text("message", &record.message);
    if let Some(target) = &record.target {
        line.cut_text("target", target, LOG_TARGET_MAX);
    }
    if !record.fields.is_empty() {
        let fields = record.fields.iter().take(LOG_FIELDS_MAX);
        let fields: Vec<String> =
            fields.map(|(name, value)| format!("{}:{}", quoted(name), value.json())).collect();
        line.json("fields", &format!("{{{}}}", fields.join(",")));
    }
    Ok(())
}

//! The declaration of the keys as a JSON Schema (draft-07, which is what TOML's language server speaks), for editors:
//! they complete keys and words, show what a key means, and mark what is misspelt.
//!
//! Never stricter than [`parse`](super::parse()): whatever that takes is valid here. What takes more than one key, or the
//! machine, to judge is left to `handover check`.

use serde_json::{Map, Value, json};

use super::names::{LISTENER_PATTERN, POOL_PATTERN};
use super::schema::File;
use super::walk::{Default, Key, Kind, Section, Shape};

/// The schema, as JSON text with a newline at its end.
pub fn json_schema() -> String {
    let mut schema = table(File::KEYS);
    let mut say = |key: &str, value: &str| schema.insert(key.to_owned(), value.into());
    say("$schema", "http://json-schema.org/draft-07/schema#");
    say("title", "handover's configuration");
    say("description", "Listeners, and the pools of workers that serve them; see handover.toml(5).");
    format!("{:#}\n", Value::Object(schema))
}

/// A table with declared keys. Those that are not built yet are not offered.
fn table(keys: &[Key]) -> Map<String, Value> {
    let built = || keys.iter().filter(|key| !matches!(key.default, Default::Later));
    let properties: Map<String, Value> = built().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        built().filter(|key| matches!(key.default, Default::Required)).map(|key| key.name).collect();
    let mut schema = object([("type", json!("object")), ("additionalProperties", json!(false))]);
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind((key.kind)(), key);
    schema.insert("description".to_owned(), description(key).into());
    if let Some(default) = default(&key.default) {
        schema.insert("default".to_owned(), default);
    }
    schema.into()
}

fn description(key: &Key) -> String {
    let only = key.on.map(|on| format!(" Only for {}.", on.what)).unwrap_or_default();
    let default = match key.default {
        Default::Unset(what) => format!(" Left out: {what}."),
        Default::Value(..) | Default::Required | Default::Later => String::new(),
    };
    format!("{}{only}{default}", key.meaning)
}

/// The default as JSON; `None` where there is none, or where it is written in the keys of a table.
fn default(default: &Default) -> Option<Value> {
    let Default::Value(toml) = default else { return None };
    let table: toml::Table = format!("value = {toml}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok().filter(|value| !value.is_object())
}

fn kind(kind: Kind, key: &Key) -> Map<String, Value> {
    match kind {
        Kind::Value(_, _, shape) => self::shape(shape),
        Kind::List(of) => object([("type", json!("array")), ("items", self::kind(*of, key).into())]),
        Kind::Table(keys) => table(keys),
        Kind::Named(keys) => {
            let names = if key.name == "listener" { LISTENER_PATTERN } else { POOL_PATTERN };
            let mut schema = map(names, table(keys).into());
            if matches!(key.default, Default::Required) {
                schema.insert("minProperties".to_owned(), json!(1));
            }
            schema
        }
    }
}

fn shape(shape: Shape) -> Map<String, Value> {
    match shape {
        Shape::Boolean => object([("type", json!("boolean"))]),
        Shape::Integer(least, most) => {
            let mut schema = object([("type", json!("integer")), ("minimum", json!(least))]);
            if let Some(most) = most {
                schema.insert("maximum".to_owned(), json!(most));
            }
            schema
        }
        Shape::Text => object([("type", json!("string"))]),
        Shape::Pattern(pattern) => object([("type", json!("string")), ("pattern", json!(pattern))]),
        Shape::Words(words) => object([("type", json!("string")), ("enum", json!(words))]),
        Shape::AnyOf(shapes) => {
            let shapes = shapes.into_iter().map(|shape| Value::Object(self::shape(shape)));
            object([("anyOf", shapes.collect::<Vec<Value>>().into())])
        }
        Shape::Map(names, of) => map(names, self::shape(*of).into()),
        Shape::Fields(fields) => {
            let of = |(name, shape): (&str, Shape)| (name.to_owned(), self::shape(shape).into());
            let properties: Map<String, Value> = fields.into_iter().map(of).collect();
            let mut schema = object([("type", json!("object")), ("additionalProperties", json!(false))]);
            schema.insert("properties".to_owned(), properties.into());
            schema
        }
    }
}

/// A table under names that the user chooses.
fn map(names: &str, of: Value) -> Map<String, Value> {
    let mut schema = object([("type", json!("object")), ("additionalProperties", json!(false))]);
    schema.insert("patternProperties".to_owned(), json!({ names: of }));
    schema
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

//! A validator for the part of JSON Schema (draft-07) that our schema uses. A keyword that it does not know is a
//! panic, so that no part of the schema goes unread. `tests/real_programs` has a validator that is not ours.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// What is wrong with `value`: a line for each fault, with the path of the value.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    judge(schema.as_object().expect("a schema is an object"), value, "", &mut faults);
    faults
}

fn judge(schema: &Map<String, Value>, value: &Value, path: &str, faults: &mut Vec<String>) {
    for (keyword, expected) in schema {
        let fault = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" => None,
            "properties" | "patternProperties" => None,
            "additionalProperties" => named(schema, value, path, faults),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                let schema = expected.as_object().expect("one schema for all");
                items.for_each(|(index, item)| judge(schema, item, &format!("{path}[{index}]"), faults));
                None
            }
            "type" => (!is_of_type(value, expected)).then(|| format!("is no {expected}")),
            "enum" => {
                let words = expected.as_array().expect("a list");
                (!words.contains(value)).then(|| format!("is none of {expected}"))
            }
            "pattern" => {
                let pattern = Regex::new(expected.as_str().expect("text")).expect("a pattern");
                let matches = value.as_str().is_none_or(|text| pattern.is_match(text));
                (!matches).then(|| format!("does not match {expected}"))
            }
            "minimum" => {
                (value.as_f64() < expected.as_f64() && value.is_number()).then(|| "too small".into())
            }
            "maximum" => {
                (value.as_f64() > expected.as_f64() && value.is_number()).then(|| "too large".into())
            }
            "minProperties" => {
                let count = value.as_object().map(|object| object.len() as u64);
                (count < expected.as_u64() && count.is_some()).then(|| "has too few keys".into())
            }
            "required" => missing(expected, value),
            "anyOf" => {
                let mut forms = expected.as_array().expect("a list").iter();
                let fits = forms.any(|form| self::faults(form, value).is_empty());
                (!fits).then(|| "has none of the forms".to_owned())
            }
            other => panic!("the schema uses {other:?}, which is not checked here"),
        };
        faults.extend(fault.map(|fault| format!("{path}: {fault}")));
    }
}

fn is_of_type(value: &Value, expected: &Value) -> bool {
    match expected.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        other => panic!("the schema has the type {other:?}, which is not checked here"),
    }
}

fn missing(expected: &Value, value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let mut names = expected.as_array().expect("a list").iter().filter_map(Value::as_str);
    names.find(|name| !object.contains_key(*name)).map(|name| format!("lacks {name}"))
}

/// Each key is declared by name or by pattern; others are faults.
fn named(schema: &Map<String, Value>, value: &Value, path: &str, faults: &mut Vec<String>) -> Option<String> {
    assert_eq!(schema["additionalProperties"], false, "every table is closed");
    let none = Map::new();
    let declared = |keyword: &str| schema.get(keyword).and_then(Value::as_object).unwrap_or(&none);
    for (name, value) in value.as_object()? {
        let by_pattern = declared("patternProperties").iter();
        let by_pattern =
            by_pattern.filter(|(pattern, _)| Regex::new(pattern).expect("a pattern").is_match(name));
        let mut schemas =
            declared("properties").get(name).into_iter().chain(by_pattern.map(|(_, schema)| schema));
        match schemas.next() {
            Some(schema) => {
                judge(schema.as_object().expect("a schema"), value, &format!("{path}.{name}"), faults)
            }
            None => faults.push(format!("{path}.{name}: unknown")),
        }
    }
    None
}

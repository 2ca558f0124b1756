//! `data` in requests and events: any JSON value, kept as its writer wrote it.
//!
//! Pure: how serde writes and reads a [`Payload`], for `#[serde(with = …)]`. handover passes such values on and never
//! looks into them, so they are not turned into trees on the way.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::wire::Payload;

pub(super) fn serialize<S: Serializer>(data: &Payload, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: &RawValue = serde_json::from_str(data.json()).map_err(S::Error::custom)?;
    raw.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Payload::from_json(raw.get()).map_err(D::Error::custom)
}

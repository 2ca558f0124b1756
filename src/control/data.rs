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

/// Of what may be left out, and may stand where serde reads ahead (tagged and flattened types): there a reader has the
/// value as its own library understands it.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Payload, Serializer};
    use serde::de::Error as _;

    pub(in crate::control) fn serialize<S: Serializer>(
        data: &Option<Payload>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match data {
            Some(data) => super::serialize(data, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::control) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Payload>, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Payload::of(&value).map(Some).map_err(D::Error::custom)
    }
}

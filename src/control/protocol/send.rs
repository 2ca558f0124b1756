//! A message to workers, as a client asks for it.

use serde::{Deserialize, Serialize};

use super::BadRequest;
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::wire::Payload;
use crate::wire::limits::DATA_MAX;

/// The longest body of a message in bytes: its data, and room for what stands around it.
pub const SEND_BODY_MAX: usize = DATA_MAX + 4 * 1024;

/// Send a message to workers; without a pool and a worker, to all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The workers of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Of that pool the worker that serves in this slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotIndex>,
    /// This worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// What it says: any JSON value, of at most [`DATA_MAX`] bytes.
    #[serde(with = "crate::control::data")]
    pub data: Payload,
}

impl Send {
    pub(super) fn checked(self) -> Result<Self, BadRequest> {
        let wrong = |text: &str| Err(BadRequest(text.to_owned()));
        match &self {
            Self { worker: Some(_), pool, slot, .. } if pool.is_some() || slot.is_some() => {
                wrong("worker: its number alone says which it is; leave pool and slot out")
            }
            Self { slot: Some(_), pool: None, .. } => wrong("slot: of which pool?"),
            Self { data, .. } if data.size() > DATA_MAX => {
                Err(BadRequest(format!("data: {} bytes are more than {DATA_MAX}", data.size())))
            }
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ROUTES, Request};
    use super::*;

    fn read(body: &str) -> Result<Send, BadRequest> {
        match ROUTES.iter().find(|route| route.path == "/v1/send").unwrap().read(body.as_bytes())? {
            Request::Send(send) => Ok(send),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_data_of_a_message_is_kept_as_it_was_written() {
        let send = read(r#"{"data": {"b": 1.50, "a": 123456789012345678901234567890} }"#).unwrap();
        assert_eq!(send.data.json(), r#"{"b": 1.50, "a": 123456789012345678901234567890}"#);
        assert_eq!(Request::Send(send.clone()).body(), format!(r#"{{"data":{}}}"#, send.data).into_bytes());
        assert_eq!(read("{\"data\": [\n1]}").unwrap().data.json(), "[ 1]", "it fits into a line");
        assert_eq!(read(r#"{"data": null}"#).unwrap().data.json(), "null");
    }

    #[test]
    fn a_message_without_data_or_with_two_receivers_is_refused() {
        for body in [
            r"{}",
            r#"{"data": }"#,
            r#"{"worker": 1, "pool": "web", "data": 1}"#,
            r#"{"worker": 1, "slot": 0, "data": 1}"#,
            r#"{"slot": 0, "data": 1}"#,
            r#"{"worker": -1, "data": 1}"#,
            r#"{"pools": ["web"], "data": 1}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        let data = |bytes: usize| {
            format!(r#"{{"pool":"web","slot":4294967295,"data":"{}"}}"#, "x".repeat(bytes - 2))
        };
        assert!(read(&data(DATA_MAX)).is_ok() && data(DATA_MAX).len() <= SEND_BODY_MAX);
        let error = read(&data(DATA_MAX + 1)).unwrap_err();
        assert_eq!(error.to_string(), "data: 1000001 bytes are more than 1000000");
    }
}

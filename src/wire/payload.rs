//! `data`: any JSON value, kept byte for byte.
//!
//! handover passes on what it does not look into, so a payload is text that is known to be JSON, never a tree: large numbers,
//! the order of members and escapes stay as their writer chose them. Escapes that no text can hold do not, see `halves`.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::halves::whole;

/// One JSON value as text. Without line breaks, so that it can stand in a line.
///
/// ```
/// use handover::worker::Payload;
///
/// let read = Payload::from_json(r#"{"ms": 1200}"#)?;
/// assert_eq!((read.json(), read.size()), (r#"{"ms": 1200}"#, 12));
/// let made = Payload::of(&vec![1, 2, 3])?;
/// assert_eq!(made.to::<Vec<u64>>()?, [1, 2, 3]);
/// assert_eq!(made.to_string(), "[1,2,3]");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// Takes JSON text: one value, white space around it allowed. Line breaks, which JSON has between tokens only, become spaces,
    /// and an escape of half a surrogate pair becomes `\ufffd`, as in every line that is read.
    ///
    /// # Errors
    ///
    /// Where it is no JSON.
    pub fn from_json(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        let mut text = text.into();
        if text.contains('\n') {
            text = text.replace('\n', " ");
        }
        if let Cow::Owned(fixed) = whole(&text) {
            text = fixed;
        }
        RawValue::from_string(text).map(Self)
    }

    /// Writes a value of the program as JSON.
    ///
    /// # Errors
    ///
    /// What the value's `Serialize` says, and maps with keys that are no strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Self::from_json(serde_json::to_string(value)?)
    }

    /// Reads it as a value of the program.
    ///
    /// # Errors
    ///
    /// Where it is another value than `T` has.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// The JSON text, as it was written.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.0.get().len()
    }

    /// Keeps what stood in a line.
    pub(super) fn taken(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl PartialEq for Payload {
    /// Equal as text: `1.0` is not `1`.
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_kept_as_it_was_written() {
        let text = r#"{"b":123456789012345678901234567890,"a":1.50,"é":"\u00e9"}"#;
        assert_eq!(Payload::from_json(text).expect("JSON").json(), text);
        assert!(Payload::from_json("{").is_err());
        assert!(Payload::from_json("1 2").is_err());
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let payload = Payload::from_json(r#"{"a":"\ud83d"}"#).expect("JSON");
        assert_eq!(payload.json(), r#"{"a":"\ufffd"}"#);
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let payload = Payload::from_json("{\n  \"a\": \"x\\n\"\n}").expect("JSON");
        assert_eq!(payload.json(), "{   \"a\": \"x\\n\" }");
    }

    #[test]
    fn values_of_the_program_go_in_and_out() {
        let payload = Payload::of(&("a", 1, true)).expect("JSON");
        assert_eq!(payload.json(), r#"["a",1,true]"#);
        assert_eq!(payload.to::<(String, u8, bool)>().expect("the same"), ("a".to_owned(), 1, true));
        assert!(payload.to::<String>().is_err());
    }
}

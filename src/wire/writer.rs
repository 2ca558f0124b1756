//! Writing one line, member by member, and refusing what would break the limits.

use std::fmt::Display;

use super::fault::Unsendable;
use super::kind::Kind;
use super::limits::{DATA_MAX, DEPTH_MAX, NUMBER_MAX, cut};
use super::members::depth;
use super::payload::Payload;
use super::value::{Id, Refused};

/// A line that is being written.
pub struct Writer {
    text: String,
    refused: Option<Unsendable>,
}

impl Writer {
    /// Begins an object without members.
    pub(super) fn object() -> Self {
        Self { text: "{".to_owned(), refused: None }
    }

    /// Begins a line of a type.
    pub(super) fn line(kind: &Kind) -> Self {
        let mut line = Self::object();
        line.text("type", kind.name);
        line
    }

    fn name(&mut self, member: &'static str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(member);
        self.text.push_str("\":");
    }

    /// What is JSON already.
    pub(super) fn json(&mut self, member: &'static str, json: &str) {
        self.name(member);
        self.text.push_str(json);
    }

    /// A string.
    pub(super) fn text(&mut self, member: &'static str, text: &str) {
        self.json(member, &quoted(text));
    }

    /// A string for people, cut where it has more than `max` bytes.
    pub(super) fn cut_text(&mut self, member: &'static str, text: &str, max: usize) {
        let text = if text.len() > max { cut(text.to_owned(), max) } else { text.to_owned() };
        self.text(member, &text);
    }

    /// A number.
    pub(super) fn number(&mut self, member: &'static str, number: impl Into<u64>) {
        let number = number.into();
        if number > NUMBER_MAX {
            self.refused.get_or_insert(Unsendable::NumberTooLarge { member });
        }
        self.json(member, &number.to_string());
    }

    /// A number, if there is one.
    pub(super) fn may_number(&mut self, member: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(member, number);
        }
    }

    /// An id.
    pub(super) fn id(&mut self, member: &'static str, id: Id) {
        self.number(member, id.get());
    }

    /// An id, if there is one.
    pub(super) fn may_id(&mut self, member: &'static str, id: Option<Id>) {
        self.may_number(member, id.map(Id::get));
    }

    /// `true`; nothing for false.
    pub(super) fn flag(&mut self, member: &'static str, is_set: bool) {
        if is_set {
            self.json(member, "true");
        }
    }

    /// A list of words that need no escapes.
    pub(super) fn words(&mut self, member: &'static str, words: impl Iterator<Item = impl Display>) {
        let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
        self.json(member, &format!("[{}]", words.join(",")));
    }

    /// `data`.
    pub(super) fn payload(&mut self, member: &'static str, payload: &Payload) {
        if payload.size() > DATA_MAX {
            self.refused.get_or_insert(Unsendable::DataTooLong { bytes: payload.size() });
        }
        self.json(member, payload.json());
    }

    /// The members of `refused`.
    pub(super) fn refused(&mut self, refused: &Refused) {
        self.may_id("re", refused.re);
        self.text("error", refused.error.word());
        self.cut_text("reason", &refused.reason, super::limits::TEXT_MAX);
    }

    /// The object's text, without a newline.
    pub(super) fn finish(mut self) -> Result<String, Unsendable> {
        self.text.push('}');
        match self.refused {
            Some(refused) => Err(refused),
            None => Ok(self.text),
        }
    }

    /// The line with its newline.
    pub(super) fn finish_line(self, limit: usize) -> Result<Vec<u8>, Unsendable> {
        let mut text = self.finish()?;
        text.push('\n');
        if text.len() > limit {
            return Err(Unsendable::TooLong { bytes: text.len(), limit });
        }
        if depth(&text) > DEPTH_MAX {
            return Err(Unsendable::TooDeep);
        }
        Ok(text.into_bytes())
    }
}

/// A string as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

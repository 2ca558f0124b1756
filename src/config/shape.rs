//! What a value may look like, for editors: the part of a JSON Schema that a key can have.
//!
//! A shape never refuses what the reader of the same type takes. It may take more: what depends on other keys or on
//! the machine is judged by the reader alone. Patterns are regular expressions that Rust, JavaScript and PCRE read
//! alike and in linear time.

/// The forms that a value can have.
pub(super) enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Integer(i64, Option<i64>),
    /// Any text.
    Text,
    /// Text that this pattern finds something in.
    Pattern(String),
    /// One of these texts.
    Words(Vec<&'static str>),
    /// Any of several forms.
    AnyOf(Vec<Shape>),
    /// A table with any keys that match this pattern.
    Map(&'static str, Box<Shape>),
    /// A table with some of these keys.
    Fields(Vec<(&'static str, Shape)>),
}

impl Shape {
    pub(super) fn pattern(pattern: impl Into<String>) -> Self {
        Self::Pattern(pattern.into())
    }

    /// A word, or text of another form.
    pub(super) fn word_or(word: &'static str, other: Self) -> Self {
        Self::AnyOf(vec![other, Self::Words(vec![word])])
    }
}

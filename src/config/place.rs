//! Where values stand, why they are what they are, and the faults found so far.

use std::borrow::Cow;
use std::ops::Deref;

use toml::Spanned;
use toml::de::DeValue;

use super::error::{Fault, Span, Wrong};
use super::render::quote_key;

/// Where a value stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The path of its key: `pool.web.workers`.
    pub path: String,
    /// Its key in the text.
    pub key: Span,
    /// Itself in the text.
    pub value: Span,
}

impl Place {
    /// The whole file.
    pub(super) fn top() -> Self {
        Self { path: String::new(), key: 0..0, value: 0..0 }
    }

    /// The place of a key of the table that stands here.
    pub(super) fn of(&self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Self {
        Self { path: self.path_of(key.get_ref()), key: key.span(), value: value.span() }
    }

    /// The place of an element of the array that stands here.
    pub(super) fn element(&self, index: usize, value: &Spanned<DeValue<'_>>) -> Self {
        Self { path: format!("{}[{index}]", self.path), key: value.span(), value: value.span() }
    }

    /// The path of a key of the table that stands here.
    pub(super) fn path_of(&self, key: &str) -> String {
        let key = quote_key(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Log(Vec<Fault>);

impl Log {
    pub(super) fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.0
    }

    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Something is wrong with the value that stands there.
    pub(super) fn value(&mut self, at: &Place, wrong: Wrong) {
        self.add(Fault::new(at.value.clone(), &at.path, wrong));
    }

    /// Something is wrong with there being such a key, or none.
    pub(super) fn key(&mut self, at: &Place, wrong: Wrong) {
        self.add(Fault::new(at.key.clone(), &at.path, wrong));
    }

    /// The value, or its fault noted.
    pub(super) fn take<T>(&mut self, at: &Place, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.value(at, wrong)).ok()
    }
}

/// A value and where it stands. A default stands where its section does.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub value: T,
    pub at: Place,
    pub origin: Origin,
}

/// Why a value is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The file says so.
    Given,
    /// The file says nothing.
    Default,
    /// What the file says is faulty, and the default stands in for it.
    StandIn,
}

impl<T> Placed<T> {
    pub(super) fn given(value: T, at: Place) -> Self {
        Self { value, at, origin: Origin::Given }
    }

    pub(super) fn is_given(&self) -> bool {
        self.origin == Origin::Given
    }

    /// Whether nothing may be concluded from this value, because what was meant is not known.
    pub(super) fn is_stand_in(&self) -> bool {
        self.origin == Origin::StandIn
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A key that may be left out.
#[derive(Clone, Debug)]
pub(super) enum Given<T> {
    /// It was left out.
    Absent,
    /// It was given there, and its fault is noted.
    Faulty(Place),
    /// It was given.
    Value(Placed<T>),
}

impl<T> Given<T> {
    pub(super) fn value(&self) -> Option<&Placed<T>> {
        match self {
            Self::Value(placed) => Some(placed),
            Self::Absent | Self::Faulty(_) => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// What may have been given in the file.
pub(super) trait Stands {
    /// Where it stands in the file, if it does.
    fn place(&self) -> Option<&Place>;
}

impl<T> Stands for Given<T> {
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Absent => None,
            Self::Faulty(at) | Self::Value(Placed { at, .. }) => Some(at),
        }
    }
}

impl<T> Stands for Placed<T> {
    fn place(&self) -> Option<&Place> {
        (self.origin != Origin::Default).then_some(&self.at)
    }
}

impl<T: Clone> Given<T> {
    /// The value alone.
    pub(super) fn cloned(&self) -> Option<T> {
        self.value().map(|placed| placed.value.clone())
    }
}

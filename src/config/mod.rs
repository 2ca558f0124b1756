//! TOML text to a [`model::Config`] that is valid by construction.
//!
//! Pure: it reads no file, no clock and no user database. Whoever calls it brings the text and the facts
//! about the machine, and gets a configuration or all faults at once.

pub mod model;

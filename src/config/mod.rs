//! TOML text to a [`model::Config`] that is valid by construction.
//!
//! Pure: it reads no file, no clock and no user database. Whoever calls it brings the text and the facts
//! about the machine ([`Facts`]), and gets a configuration or all faults at once ([`Faults`]).
//!
//! The way of a file: `syntax` makes a tree in which everything knows its place, `schema` declares the keys
//! and reads the tree with that one declaration, `resolve` checks what needs more than one key to be known
//! and makes the [`model`]. [`reference`](mod@reference) prints the same declaration as `docs/configuration.md`, [`render`]
//! prints a configuration, and [`change`] compares two.

mod address;
pub mod change;
pub mod editor;
pub mod environment_file;
mod error;
pub mod expand;
mod facts;
mod flags;
pub mod model;
mod names;
mod nearest;
mod overlap;
mod parse;
mod place;
pub mod reference;
pub mod render;
mod resolve;
mod schema;
mod section;
mod shape;
mod signal;
mod syntax;
mod units;
mod values;
mod walk;

pub use address::parse_address;
pub use error::{Fault, Faults};
pub use facts::{Believing, Facts, Platform};
pub use flags::{FlagFault, FlagFaults, Flags, Workers, from_flags};
pub use names::{fit_name, is_reserved_variable};
pub use parse::{listener_order, parse};

//! What handover lets people see: its own log and the output of its workers.
//!
//! Everything goes out through one [`Writer`], so that lines are never mixed and a slow reader of our standard
//! error, or a journal that stalls, stops nobody but the workers that write too much. What a line looks like is decided
//! by pure code ([`output`], [`render`], [`limit`], [`journal::fields`]); [`form`] chooses between text and records for
//! the [`journal`]; [`log`] is the subscriber that turns `tracing` events into either.

pub mod form;
pub mod journal;
pub mod limit;
pub mod log;
mod outlet;
pub mod output;
pub mod render;
pub mod writer;

pub use form::{Destination, Form};
pub use journal::Journal;
pub use limit::{Limiter, Limits};
pub use log::{AlreadyStarted, Log};
pub use output::{Line, Said, Splitter, Tail};
pub use render::{Format, Origin, Stream};
pub use writer::{Item, Room, Writer};

//! What handover lets people see: its own log and the output of its workers.
//!
//! Everything goes out through one [`Writer`], so that lines are never mixed and a slow reader of our standard
//! error stops nobody but the workers that write too much. What a line looks like is decided by pure code
//! ([`output`], [`render`], [`limit`]); [`log`] is the subscriber that turns `tracing` events into lines.

pub mod limit;
pub mod log;
pub mod output;
pub mod render;
pub mod writer;

pub use limit::{Limiter, Limits};
pub use log::{AlreadyStarted, Log};
pub use output::{Line, Splitter, Tail};
pub use render::{Destination, Format, Origin, Stream};
pub use writer::{Room, Writer};

//! Sockets: asking them what they are, and the few options that no library sets.

mod facts;
mod holder;
mod options;
mod queue;

pub use facts::{Facts, Family, Kind, Local, facts};
pub use holder::{Holder, holder};
pub use options::{listen, set_defer_accept, set_fast_open};
pub use queue::{Queue, accept_queue};

//! What handover and a worker say to each other, without I/O: bytes and fds in, lines out, and back.
//!
//! `docs/protocol.md` is the specification, and tests hold this module to it. It is shared by the daemon and the SDK, so it is
//! compiled under either feature, and uses no more than a worker should have to compile: serde without macros, `serde_json`, and
//! the newtypes of [`crate::id`]. What an fd is, is the caller's choice (`F`): whatever is dropped here is thereby closed.
//!
//! - [`Lines`]: what was read, cut into lines with their fds; [`Line::encode`] is the way back
//! - [`ToWorker`], [`ToHandover`]: what can be said; [`Payload`] is what is passed on unread
//! - [`Conversation`], [`Ledger`], [`Owed`]: the order of lines, who owes an answer, who holds which fds
//! - [`node`]: the same over the channel that Node's `child_process` speaks
//! - [`limits`], [`version`], [`Fault`], [`Unsendable`]: how much, which, and what is wrong

mod conversation;
mod fault;
mod halves;
mod kind;
mod ledger;
pub mod limits;
mod line;
mod lines;
mod members;
pub mod node;
mod payload;
mod record;
#[cfg(test)]
mod tests;
mod to_handover;
mod to_worker;
mod value;
pub mod version;
mod writer;

pub use conversation::{Conversation, Heard};
pub use fault::{Fault, Unsendable};
pub use kind::{Carries, Kind};
pub use ledger::{Acknowledged, Ledger, Open, Owed, Until};
pub use line::{Line, Unknown};
pub use lines::{Lines, Received};
pub use payload::Payload;
pub use record::Record;
pub use to_handover::{ToHandover, Wanted, WorkerHello};
pub use to_worker::{HandoverHello, ToWorker};
pub use value::{Capabilities, Capability, ErrorCode, Id, Level, NotReached, Refused, Sender, Target};

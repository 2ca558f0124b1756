//! The channels of workers: one socket each, on which lines go both ways (docs/protocol.md).
//!
//! - `link`: what the loop and the task of one channel share: who said what, what waits to be written
//! - `task`: reads and writes one channel, beside the loop; writes the records of its worker
//! - `handle`: what Node can make of an fd
//! - `heard`: what a worker said, as events for the machine, or for `messages` and `grants`
//! - `messages`: from worker to worker, with answers and deadlines
//! - `queue`: lines that wait to be written to one worker
//! - `outgoing`: how much may wait to be read by all workers together
//! - `program`: messages to the program that we are a part of
//! - `grants`: sockets on request
//!
//! What the lines are is `wire`'s; nothing here decides anything about a worker. A worker that does not read fills its own
//! queue, one that floods is read more slowly, one that breaks the rules loses its channel: none of that reaches another.

mod grants;
mod handle;
mod heard;
mod link;
mod messages;
mod outgoing;
mod program;
mod queue;
mod task;

pub(super) use grants::Grants;
pub(super) use heard::{Told, Unheard};
pub(super) use link::{Facts, Link, No, SharedLink, hello};
pub(super) use messages::Deadlines;
pub(super) use outgoing::Outgoing;
pub(super) use task::{Buffer, CHUNK, Channel, Means};

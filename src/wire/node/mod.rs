//! The channel as Node speaks it: the lines of `child_process.fork()` in place of ours.
//!
//! A worker with `channel = "node"` is an unmodified Node program, and [`Dialect`] makes of what it says the same [`ToHandover`](super::ToHandover) values, and of
//! [`ToWorker`](super::ToWorker) what Node understands. The rules are those of `lib/internal/child_process.js` (read in Node 20; JSON
//! serialization): any JSON value a line; an object whose `cmd` begins with `NODE_` is Node's own; a handle travels as one fd
//! with `{"cmd":"NODE_HANDLE","type":…,"msg":…}`, and nothing more is sent until `NODE_HANDLE_ACK` has come for it. `NODE_HANDLE_NACK` means
//! that the fd was lost: it is sent again, three times.

mod dialect;
mod queue;
#[cfg(test)]
mod tests;

pub use dialect::{Dialect, Handle};
pub use queue::Write;

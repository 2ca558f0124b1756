//! The control API: how a person or a program asks the daemon, over a Unix socket.
//!
//! HTTP/1.1 with JSON, so that `curl --unix-socket` is a client; long work is answered with JSON lines. What can be
//! asked is a closed set, and no request can name a program, a user or a path. `docs/control.md` is the page for
//! users. [`protocol`], [`answer`], [`document`], [`event`], [`plan`], [`access`] and [`paths`] are pure; [`server`] hands each request to the
//! daemon through a channel and knows nothing of workers; [`client`] is what the command line uses.

pub mod access;
pub mod answer;
pub mod client;
mod data;
pub mod document;
pub mod event;
pub mod paths;
pub mod plan;
pub mod protocol;
mod sent;
pub mod server;
mod summary;
mod view;

pub use access::{Access, Peer};
pub use answer::{Finish, Line, Progress, Standing, Verdict};
pub use document::StatusDocument;
pub use event::{Event, What};
pub use protocol::{Level, Request};
pub use sent::{NotSent, Sent};
pub use server::{Call, Reply, Telling, serve};
pub use view::{Facts, StartingFacts, StoredFacts, WorkerFacts};

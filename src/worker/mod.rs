//! The SDK: what a worker written in Rust needs, under handover, under plain socket activation (systemd), and alone.
//!
//! A program says the same in each of them, and every call works or is harmless: sockets are passed, asked for or bound;
//! `ready` goes to handover, to `NOTIFY_SOCKET` or nowhere.
//!
//! ```no_run
//! use std::io::Write;
//! use handover::worker::Worker;
//!
//! fn main() -> Result<(), handover::worker::Error> {
//!     let worker = Worker::options().drain_on_signals(true).connect()?;
//!     let http = worker.listener("http").or_bind("tcp://127.0.0.1:8080")?;
//!     let tracker = worker.tracker();
//!     worker.ready();
//!     for connection in http.incoming()? {
//!         let (mut connection, guard) = (connection?, tracker.enter());
//!         std::thread::spawn(move || {
//!             let _guard = guard;
//!             let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
//!         });
//!     }
//!     drop(http);
//!     tracker.finish(None);
//!     Ok(())
//! }
//! ```
//!
//! With the feature `tokio` there is `Listener::into_async`; drains, answers and messages are futures for any runtime without it. With the feature
//! `tracing` there is `Worker::tracing_layer`. `docs/sdk.md` is the guide.
//!
//! # Threads
//!
//! A thread named `handover` reads the channel, so that a drain is seen, an answer arrives and a sender never stalls whatever the program
//! does. It runs no code of the program, and it does not say that the program is well: pings are answered when every [`Pulse`] has beaten, that
//! is, from the loops in which the program works. Where there is neither a channel nor a signal nor a watchdog to wait for, there is no thread.
//! Methods may be called from any thread; those that wait say so. After a `fork` without an `exec` only the parent is the worker.
//!
//! # The environment
//!
//! [`Worker::connect`] takes sockets and the channel once, close-on-exec, and removes the variables that name them (`LISTEN_FDS` and its like,
//! `HANDOVER_CHANNEL`), if there is no other thread yet: changing the environment beside threads is unsound. So call it first in
//! `main`, before a runtime is built. `NOTIFY_SOCKET` and `WATCHDOG_USEC` stay, other libraries may want them.
//!
//! - [`Worker`], [`Options`], [`Identity`]: this process
//! - [`Listener`], [`Incoming`], [`Connection`]: sockets
//! - [`Drain`], [`Tracker`]: finishing
//! - [`Message`], [`Messages`], [`Asking`]: talking to other workers
//! - [`Pulse`]: being found out when it hangs

mod asking;
#[cfg(feature = "tokio")]
mod asynchronous;
mod bind;
mod core;
mod drain;
mod error;
mod handle;
mod incoming;
mod inherited;
#[cfg(feature = "tracing")]
mod layer;
mod listener;
mod message;
mod notify;
mod options;
mod pulse;
#[doc(hidden)]
pub mod session;
mod stored;
mod surroundings;
#[cfg(feature = "tokio")]
mod taking;
mod talk;
#[cfg(test)]
mod tests;
mod thread;
mod tracker;
mod waiting;

pub use asking::{Asking, Reply, Sent};
#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncConnection, AsyncListener};
pub use drain::{Drain, Draining};
pub use error::Error;
pub use handle::Worker;
pub use incoming::{Connection, Incoming};
#[cfg(feature = "tracing")]
pub use layer::TracingLayer;
pub use listener::{Listener, Request};
pub use message::{Message, Messages};
pub use options::Options;
pub use pulse::Pulse;
pub use surroundings::Identity;
pub use tracker::{Finished, Guard, Tracker};

#[doc(inline)]
pub use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
#[doc(inline)]
pub use crate::wire::{Capability, ErrorCode, Level, NotReached, Payload, Sender, Target, Unsendable};

/// The guide: its programs are compiled.
#[cfg(all(doctest, feature = "supervisor"))]
#[doc = include_str!("../../docs/sdk.md")]
struct Guide;

//! The supervisor inside your own program: for a program that *is* the supervisor of its workers.
//!
//! It runs on a thread of its own, and is used from any thread, with or without a runtime. Nothing that is the whole process's is
//! touched: signals stay yours, and so do other children, the log, standard output and the environment. The page
//! `docs/embedding.md` has more.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use handover::embed::{self, Builder, Listener, Pool, Settings};
//!
//! fn main() -> ExitCode {
//!     // First of all: this program is started again to become each worker.
//!     if let Some(code) = embed::helper_main() {
//!         return code;
//!     }
//!     let settings = Settings::new("myapp")
//!         .listener(Listener::new("http", "tcp://127.0.0.1:8080"))
//!         .pool(Pool::new("web", ["/usr/bin/myapp-worker"]).workers(4).listener("http"));
//!     let supervisor = match Builder::from_settings(&settings).start_blocking() {
//!         Ok(supervisor) => supervisor,
//!         Err(error) => {
//!             eprintln!("{error}");
//!             return ExitCode::FAILURE;
//!         }
//!     };
//!     // … the rest of your program …
//!     embed::block_on(supervisor.stop()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
//! }
//! ```
//!
//! [`Builder`] is what it begins with, [`Supervisor`] the handle. All that it can do goes through the same queue as the requests of
//! clients on the control socket: the program is one more client, and not a second way in.

#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Page;

mod builder;
mod error;
mod handle;
mod output;
mod settings;
mod talk;
mod thread;
mod wait;

pub use builder::{Builder, Configuration};
pub use error::{Error, Failed, StartError};
pub use handle::{Done, Events, Supervisor};
pub use output::OutputLine;
pub use settings::{Listener, Pool, Settings, Value};
pub use talk::{Messages, Target};
pub use wait::block_on;

pub use crate::control::document::{Failure, Place, StatusDocument};
pub use crate::control::event::{Event, What};
pub use crate::control::plan::Plan;
pub use crate::control::{NotSent, Sent};
pub use crate::daemon::{Extra, FromWorker as Message, NotAnswered, Spawning, TooLate};
pub use crate::observe::Stream;
pub use crate::os::spawn::helper_main;
pub use crate::wire::Payload;

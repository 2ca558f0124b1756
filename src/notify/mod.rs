//! `sd_notify(3)`, both ways: what the daemon tells its service manager, and what workers tell the daemon.
//!
//! The texts are pure ([`text`] goes up, [`mod@parse`] reads what comes from a worker, [`credentials`] says whom to
//! believe); only [`upward`] touches a socket, and it never waits in the loop. Receiving is the shell's: it
//! brings the bytes and the sender's credentials, and this module says what they mean.

pub mod credentials;
pub mod parse;
pub mod text;
pub mod upward;

pub use credentials::{Group, Sender, Verdict, WorkerProcess, judge};
pub use parse::{Fault, Message, Notification, Refused, parse, printable_line};
pub use text::Text;
pub use upward::{AddressError, Delivery, ServiceManager};

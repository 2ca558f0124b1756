//! Exit codes of the `handover` command: one meaning each, for every sub-command.
//!
//! ```
//! use handover::exit::{DONE, FAILED, INTERRUPTED, NO_DAEMON, TIMED_OUT, USAGE};
//!
//! assert_eq!([DONE, FAILED, USAGE, TIMED_OUT, NO_DAEMON, INTERRUPTED], [0, 1, 2, 3, 4, 130]);
//! ```
//!
//! They are part of the interface (a script may test for them), so they stand in one place and are
//! never written as numbers elsewhere.

/// What was asked for was done.
pub const DONE: u8 = 0;
/// It failed. For a rollout: it was rolled back or cancelled, its own deadline included.
pub const FAILED: u8 = 1;
/// The command line was wrong, or the configuration was refused.
pub const USAGE: u8 = 2;
/// The client's own `--timeout` passed; the work goes on in the daemon.
pub const TIMED_OUT: u8 = 3;
/// There is no such daemon, or it does not answer.
pub const NO_DAEMON: u8 = 4;
/// The client was interrupted (Ctrl-C); the work goes on. As a shell reports a death by `SIGINT`.
pub const INTERRUPTED: u8 = 130;

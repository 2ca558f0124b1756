//! The services of `examples/services`, which use the SDK and nothing else of handover: each is run as its page says, under the real
//! handover with a load during a deploy, and alone.
//!
//! They are a package of their own, built by the first test. Where what they need cannot be fetched, the tests are skipped, and that is said
//! in one line; with `HANDOVER_TEST_ALL=1` a skip is a failure.

// It looks into /proc, and holds processes by pidfds.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

#[path = "../support/mod.rs"]
mod support;

mod chat;
mod lines;
mod program;
mod queue;
mod socket;
mod stage;
mod web;

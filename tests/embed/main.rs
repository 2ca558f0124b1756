//! The supervisor inside another program: here, inside this test program, with tokio's multi-thread runtime, its current-thread
//! one, and none. What concerns a whole process (signals, children, fds) is tried in programs of their own, `stage`.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

mod begin;
mod hook;
mod process;
mod rollout;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod talk;

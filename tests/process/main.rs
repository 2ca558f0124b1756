//! The real daemon with real workers: does it do what the machine decided, and what the documentation says?
//!
//! One file a subject. Every test owns what it starts and waits on events, never on time.

#![allow(unreachable_pub, reason = "a test program")]

#[path = "../support/mod.rs"]
mod support;

mod harness;

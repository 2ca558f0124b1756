//! The real daemon with real workers: does it do what the machine decided, and what the documentation says?
//!
//! One file a subject. Every test owns what it starts and waits on events, never on time.

// It looks into /proc, and holds processes by pidfds.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

#[path = "../support/mod.rs"]
mod support;

mod accept;
mod channel;
mod contested;
mod control;
mod dry_run;
mod ends;
mod events;
mod faults;
mod foreign;
mod given;
mod given_up;
mod harness;
mod hidden;
mod inherited;
mod journal;
mod kinds;
mod late;
mod listeners;
mod lost;
mod manager;
mod notify;
mod numbers;
mod output;
mod pacing;
mod pause;
mod pid_one;
mod probe;
mod readiness;
mod reading;
mod reload;
mod resources;
mod rollback;
mod rude;
mod runtime_directory;
mod send;
mod start;
mod stop;
mod stop_first;
mod stored;
mod terminal;
mod unreadable;
mod watch;
mod watchdog;
mod zero_loss;

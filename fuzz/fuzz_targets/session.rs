//! A worker's end of the channel, see `session.rs`.

#![no_main]
#![allow(unreachable_pub, dead_code, reason = "shared with tests/fuzz_corpus.rs")]

#[path = "../bodies.rs"]
mod bodies;
#[path = "../session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|input: &[u8]| session::session(input));

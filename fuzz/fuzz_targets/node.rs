//! The channel as Node speaks it, see `bodies.rs`.

#![no_main]
#![allow(unreachable_pub, dead_code, reason = "shared with tests/fuzz_corpus.rs")]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::node(input));

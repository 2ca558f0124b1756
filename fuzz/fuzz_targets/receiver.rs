//! One end of a pipe, see `pipe.rs`.

#![no_main]
#![allow(unreachable_pub, dead_code, reason = "shared with tests/fuzz_corpus.rs")]

#[path = "../bodies.rs"]
mod bodies;
#[path = "../pipe.rs"]
mod pipe;

libfuzzer_sys::fuzz_target!(|input: &[u8]| pipe::receiver(input));

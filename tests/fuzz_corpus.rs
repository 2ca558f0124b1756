//! The corpus of the fuzz targets is replayed in every test run, and has what the page shows and what once was found.

#![cfg(any(feature = "worker", feature = "supervisor"))]
#![allow(unreachable_pub, reason = "a test program")]

#[allow(dead_code, reason = "shared with tests/docs")]
#[path = "docs/blocks.rs"]
mod blocks;
#[path = "../fuzz/bodies.rs"]
mod bodies;
#[cfg(feature = "pipe")]
#[path = "../fuzz/pipe.rs"]
mod pipe;
#[cfg(feature = "worker")]
#[path = "../fuzz/session.rs"]
mod session;

use std::fs;

use blocks::{blocks, page, root};

fn replay(target: &str, body: fn(&[u8])) {
    let mut replayed = 0;
    for entry in fs::read_dir(root().join("fuzz/corpus").join(target)).expect("it is there") {
        let path = entry.expect("an entry").path();
        body(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        replayed += 1;
    }
    assert!(replayed > 10, "the corpus of {target} has {replayed} inputs");
}

#[test]
fn the_corpus_of_the_channel_holds() {
    replay("wire", bodies::wire);
}

#[test]
fn the_corpus_of_the_node_dialect_holds() {
    replay("node", bodies::node);
}

#[test]
#[cfg(feature = "worker")]
fn the_corpus_of_a_workers_end_holds() {
    replay("session", session::session);
}

#[test]
#[cfg(feature = "pipe")]
fn the_corpus_of_both_ends_of_a_pipe_holds() {
    replay("receiver", pipe::receiver);
    replay("sender", pipe::sender);
}

#[test]
fn what_the_page_shows_holds() {
    for block in blocks(&page("docs/protocol.md")) {
        for line in block.text.lines() {
            let line = line.trim_start_matches(['<', '>', ' ']);
            for fds in ["", "\u{1}"] {
                bodies::wire(format!("{fds}{line}\n").as_bytes());
                let inner = format!(
                    "{{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{{\"handover\":{line}}}}}"
                );
                bodies::node(format!("{fds}{inner}\n\0{{\"handover\":{line}}}\n").as_bytes());
            }
        }
    }
}

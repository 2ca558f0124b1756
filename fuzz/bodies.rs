//! What must hold for any input. Shared by the fuzz targets and by `tests/fuzz_corpus.rs`, which replays the corpus.
//!
//! An input is what a peer sends: reads, cut at zero bytes. A read that begins with one of the bytes 1 to 8 brings so many fds.

use std::fmt::Debug;

use handover::id::WorkerId;
use handover::wire::node::{Dialect, Handle};
use handover::wire::{
    Capability, Conversation, ErrorCode, Heard, Id, Line, Lines, Payload, Received, Refused, Sender,
    ToHandover, ToWorker,
};

/// A read and its fds, numbered through all reads.
pub fn reads(input: &[u8]) -> impl Iterator<Item = (&[u8], Vec<u32>)> {
    let mut given = 0_u32;
    input.split(|byte| *byte == 0).map(move |read| {
        let (count, bytes) = match read.split_first() {
            Some((count @ 1..=8, bytes)) => (u32::from(*count), bytes),
            _ => (0, read),
        };
        let fds = (given..given + count).collect();
        given += count;
        (bytes, fds)
    })
}

/// Lines are read, and each that can be said is written and read again as it was; fds come out in their order, each once.
fn one_direction<L: Line + PartialEq + Debug>(input: &[u8]) -> Vec<Received<L, u32>> {
    let mut lines = Lines::new();
    let mut all = Vec::new();
    let mut expected = 0..;
    for (bytes, fds) in reads(input) {
        lines.push(bytes, fds, false);
        while let Ok(Some(received)) = lines.next_line::<L>() {
            for fd in &received.fds {
                assert_eq!(Some(*fd), expected.next(), "an fd came out of order");
            }
            comes_back(&received);
            all.push(received);
        }
    }
    all
}

fn comes_back<L: Line + PartialEq + Debug>(received: &Received<L, u32>) {
    let Received { line, fds } = received;
    if line.kind().is_none() {
        return;
    }
    // A text with many escapes, or a list of objects, may be longer than it was.
    let Ok(bytes) = line.encode(fds.len()) else { return };
    let (end, text) = bytes.split_last().expect("a line");
    assert!(*end == b'\n' && !text.contains(&b'\n'));
    match L::decode(text) {
        Ok((again, said)) => assert_eq!((&again, said), (line, fds.len())),
        Err(fault) => panic!("{fault}: {}", String::from_utf8_lossy(text)),
    }
}

/// Without fds, a byte at a time gives what larger reads give.
fn cut_anywhere(input: &[u8], whole: &[Received<ToHandover, u32>]) {
    if reads(input).any(|(_, fds)| !fds.is_empty()) {
        return;
    }
    let mut lines = Lines::<u32>::new();
    let mut found = Vec::new();
    for byte in input.iter().filter(|byte| **byte != 0) {
        lines.push(&[*byte], [], false);
        while let Ok(Some(received)) = lines.next_line::<ToHandover>() {
            found.push(received);
        }
    }
    assert_eq!(found, whole);
}

/// The channel's own lines, in both directions, and through handover's end of a conversation.
pub fn wire(input: &[u8]) {
    one_direction::<ToWorker>(input);
    let all = one_direction::<ToHandover>(input);
    cut_anywhere(input, &all);
    let mut talk: Conversation<(), u32> = Conversation::new(Capability::ALL.iter().copied().collect());
    for received in all {
        let id = received.line.id();
        let Ok((heard, ack)) = talk.hear(received) else { return };
        assert!(ack.is_none() || ack == id);
        let no = match heard {
            Heard::Refuse(refused) => refused,
            Heard::Said(ToHandover::Listen { id, .. } | ToHandover::Message { id: Some(id), .. }, _) => {
                Refused { re: Some(id), error: ErrorCode::Failed, reason: String::new() }
            }
            _ => continue,
        };
        let no = ToWorker::Refused(no);
        assert!(talk.say(&no), "its answer is owed");
        assert!(!talk.say(&no), "once");
    }
    assert_eq!(talk.owed(), 0);
}

/// The channel as Node speaks it: what the program says is sent back to it as messages, with its fds.
pub fn node(input: &[u8]) {
    let mut dialect = Dialect::new(Payload::from_json("\"stop\"").ok());
    let mut sent = Vec::new();
    for (at, (bytes, fds)) in reads(input).enumerate() {
        dialect.push(bytes, fds);
        while let Ok(Some(Received { line, fds })) = dialect.next_line() {
            assert!(fds.len() <= 1, "one fd a line");
            if let ToHandover::Message { data, id, .. } = line {
                let id = id.or(Some(Id::FIRST));
                let message = ToWorker::Message { id, from: Sender::Handover, data, reply: false };
                let handles = fds.into_iter().map(|fd| (Handle::Socket, fd)).collect();
                let _ = dialect.send(&message, handles);
            }
        }
        let _ =
            dialect.send(&ToWorker::ListenerRemoved { name: WorkerId(at as u64).to_string() }, Vec::new());
        flush(&mut dialect, at % 7 + 1, &mut sent);
    }
    for line in sent {
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&line).is_ok();
        assert!(is_json, "that is no JSON: {line}");
    }
}

/// Writes all that may be written, so many bytes at once.
fn flush(dialect: &mut Dialect<u32>, piece: usize, sent: &mut Vec<String>) {
    let mut text = Vec::new();
    while let Some(write) = dialect.next_write() {
        assert!(write.fd.is_none() || text.is_empty(), "an fd goes with the first byte");
        let count = piece.min(write.bytes.len());
        text.extend_from_slice(&write.bytes[..count]);
        dialect.wrote(count);
        if text.ends_with(b"\n") {
            sent.push(String::from_utf8(std::mem::take(&mut text)).expect("UTF-8"));
        }
    }
    assert!(text.is_empty(), "a line was begun and not ended");
}

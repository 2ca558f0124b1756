//! What must hold for a worker's end of the channel, whatever handover says and whenever the program asks something.
//!
//! An input is as in `bodies.rs`; before a read that begins with one of the bytes 14 to 19 the program does something.

use handover::wire::{Capability, ErrorCode, Id, Line, Payload, Target, ToHandover, Wanted};
use handover::worker::session::{Event, Session, Wish};

use crate::bodies::reads;

/// Nothing panics, nothing follows the end, every line that goes out is one, and what is kept is bounded.
pub fn session(input: &[u8]) {
    let mut session: Session<u32> = Session::new(Capability::ALL.iter().copied().collect(), "fuzz");
    let mut has_ended = false;
    for (bytes, fds) in reads(input) {
        let bytes = match bytes.split_first() {
            Some((act @ 14..=19, rest)) => {
                act_on(&mut session, *act);
                rest
            }
            _ => bytes,
        };
        session.push(bytes, fds, false);
        while let Some(event) = session.next_event() {
            assert!(!has_ended, "{event:?} came after the end");
            match event {
                Event::Ping(id) => session.pong(id),
                Event::Message { reply: Some(id), fds, .. } if fds.is_empty() => {
                    session.refuse(id, ErrorCode::Failed, "no");
                }
                Event::Message { reply: Some(id), data, fds, .. } => {
                    // What came can be sent back, or is too deep or long by now; the answer is owed either way.
                    let replied = session.reply(id, data, fds);
                    replied.unwrap_or_else(|_| session.refuse(id, ErrorCode::Failed, "too much"));
                }
                Event::Closed(_) => has_ended = true,
                _ => {}
            }
        }
        write(&mut session);
    }
    session.end_of_file();
    while session.next_event().is_some() {}
    assert_eq!(session.questions(), 0);
}

fn act_on(session: &mut Session<u32>, act: u8) {
    let Ok(data) = Payload::from_json("[1]") else { return };
    match act {
        14 => drop(session.listen(Wanted::Name("x".into()))),
        15 => drop(session.message(Target::Handover, data, Wish::Reply(None), Vec::new())),
        16 => drop(session.message(Target::Handover, data, Wish::Sent, vec![u32::MAX; 3])),
        17 => session.abandon(Id::FIRST),
        18 => session.set_takes_messages(false),
        _ => session.set_takes_messages(true),
    }
}

fn write(session: &mut Session<u32>) {
    let mut text = Vec::new();
    while let Some((bytes, _)) = session.next_write() {
        let piece = bytes.len().div_ceil(2);
        text.extend_from_slice(&bytes[..piece]);
        session.wrote(piece);
    }
    assert_eq!(session.pending(), 0);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(ToHandover::decode(line).is_ok(), "not a line: {}", String::from_utf8_lossy(line));
    }
}

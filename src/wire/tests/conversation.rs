//! The order in which lines may come and go.

use super::{id, payload};
use crate::id::PoolName;
use crate::wire::limits::QUESTIONS_MAX;
use crate::wire::{
    Capabilities, Capability, Conversation, ErrorCode, Fault, Heard, Id, Line, Received, Refused, Target,
    ToHandover, ToWorker, Until,
};

type Talk = Conversation<&'static str, u32>;

fn hear(talk: &mut Talk, line: &str, fds: &[u32]) -> Result<(Heard<&'static str, u32>, Option<Id>), Fault> {
    let (line, said) = ToHandover::decode(line.as_bytes()).expect(line);
    assert_eq!(said, fds.len(), "the test says what it means");
    talk.hear(Received { line, fds: fds.to_vec() })
}

fn open_talk() -> Talk {
    let mut talk = Talk::new(Capability::ALL.iter().copied().collect());
    let hello = r#"{"type":"hello","version":3,"capabilities":["drain","messages","fds","later"]}"#;
    assert_eq!(hear(&mut talk, hello, &[]), Ok((Heard::Hello, None)));
    talk
}

/// Takes a refusal, sends it, and says whether it is this one.
fn is_refused(talk: &mut Talk, heard: &Heard<&'static str, u32>, re: u64, error: ErrorCode) -> bool {
    let Heard::Refuse(refused) = heard else { return false };
    assert!(talk.say(&ToWorker::Refused(refused.clone())), "it is owed");
    refused.re == Some(id(re)) && refused.error == error
}

#[test]
fn hello_comes_first_and_once() {
    let mut talk = Talk::new(Capabilities::none());
    let early = hear(&mut talk, r#"{"type":"ready"}"#, &[]);
    assert_eq!(early, Err(Fault::BeforeHello { kind: "ready".to_owned() }));
    let early = hear(&mut talk, r#"{"type":"later"}"#, &[]);
    assert_eq!(early, Err(Fault::BeforeHello { kind: "later".to_owned() }));
    let mut talk = open_talk();
    assert_eq!(talk.version(), Some(1), "the smaller one");
    let again = hear(&mut talk, r#"{"type":"hello","version":1,"capabilities":[]}"#, &[]);
    assert_eq!(again, Err(Fault::SecondHello));
}

#[test]
fn a_version_that_is_too_old_is_told_so() {
    let mut talk = Talk::new(Capabilities::none());
    let fault =
        hear(&mut talk, r#"{"type":"hello","version":0,"capabilities":[]}"#, &[]).expect_err("too old");
    let last = Refused::from(&fault);
    assert_eq!((last.re, last.error), (None, ErrorCode::Version));
    assert!(last.reason.starts_with("version 0 of the channel is too old"));
    assert_eq!(Fault::SecondHello.code(), ErrorCode::Protocol);
}

#[test]
fn only_what_the_worker_named_is_said_to_it() {
    let mut talk = Talk::new(Capabilities::none());
    let drain = ToWorker::Drain { reason: String::new(), deadline_ms: None };
    assert!(!talk.say(&drain), "it has not said hello");
    talk = open_talk();
    assert!(!talk.say(&ToWorker::Ping { id: id(1) }));
    assert!(!talk.say(&ToWorker::ListenerRemoved { name: "http".to_owned() }));
    assert!(talk.say(&drain));
    assert!(talk.is_draining());
    assert!(!talk.say(&drain), "once");
}

#[test]
fn each_question_gets_one_answer() {
    let mut talk = open_talk();
    let listen = r#"{"type":"listen","id":4,"name":"http"}"#;
    assert!(matches!(hear(&mut talk, listen, &[]), Ok((Heard::Said(..), None))));
    assert_eq!(hear(&mut talk, listen, &[]), Err(Fault::IdInUse(id(4))));
    let grant = ToWorker::Grant { re: id(4), name: String::new(), address: String::new(), id: id(1) };
    assert!(talk.say(&grant));
    assert!(!talk.say(&grant), "answered already");
    assert!(hear(&mut talk, listen, &[]).is_ok(), "the id is free again");
    assert_eq!(talk.owed(), 1);
}

#[test]
fn an_id_that_was_only_for_fds_is_free_at_once() {
    let mut talk = open_talk();
    let reply = r#"{"type":"reply","re":99,"id":4,"data":1,"fds":1}"#;
    for _ in 0..2 {
        assert_eq!(
            hear(&mut talk, reply, &[7]),
            Ok((Heard::Nothing, Some(id(4)))),
            "ignored, and acknowledged"
        );
    }
}

#[test]
fn fds_that_came_are_acknowledged_first() {
    let mut talk = open_talk();
    let message = r#"{"type":"message","id":4,"to":{"worker":2},"data":1,"fds":2}"#;
    let (heard, ack) = hear(&mut talk, message, &[7, 8]).expect("right");
    assert!(matches!(heard, Heard::Said(ToHandover::Message { .. }, fds) if fds == [7, 8]));
    assert_eq!(ack, Some(id(4)));
}

#[test]
fn answers_find_their_questions() {
    let mut talk = open_talk();
    let ping = talk.ledger.open(Until::Answer, "ping", vec![]);
    let grant = talk.ledger.open(Until::Ack, "grant", vec![5]);
    let asked = talk.ledger.open(Until::Answer, "asked", vec![6]);
    assert_eq!(hear(&mut talk, r#"{"type":"pong","re":9}"#, &[]), Ok((Heard::Nothing, None)));
    let (heard, _) = hear(&mut talk, r#"{"type":"pong","re":1}"#, &[]).expect("right");
    assert!(
        matches!(heard, Heard::Answer(open, ToHandover::Pong { re }, _) if open.question == "ping" && re == ping)
    );
    let (heard, _) = hear(&mut talk, r#"{"type":"ack","re":2}"#, &[]).expect("right");
    assert!(
        matches!(heard, Heard::Answer(open, ToHandover::Ack { re }, _) if open.fds == [5] && re == grant)
    );
    let (heard, _) = hear(&mut talk, r#"{"type":"ack","re":3}"#, &[]).expect("right");
    assert_eq!(heard, Heard::Arrived(asked));
    let no = r#"{"type":"refused","re":3,"error":"tired"}"#;
    let (heard, _) = hear(&mut talk, no, &[]).expect("right");
    let error = ErrorCode::Other("tired".to_owned());
    let no = ToHandover::Refused(Refused { re: Some(asked), error, reason: String::new() });
    assert!(matches!(heard, Heard::Answer(open, line, _) if open.fds == [6] && line == no));
    assert!(talk.ledger.is_empty());
}

#[test]
fn what_cannot_be_done_is_refused_if_anybody_waits_for_it() {
    let mut talk = open_talk();
    let (heard, ack) = hear(&mut talk, r#"{"type":"later","id":4,"fds":1}"#, &[7]).expect("right");
    assert!(is_refused(&mut talk, &heard, 4, ErrorCode::Unsupported), "{heard:?}");
    assert_eq!(ack, None, "an answer closes the line");
    let (heard, ack) = hear(&mut talk, r#"{"type":"later"}"#, &[]).expect("right");
    assert_eq!((heard, ack), (Heard::Nothing, None));
    let (heard, _) = hear(&mut talk, r#"{"type":"listen","id":4}"#, &[]).expect("right");
    assert!(is_refused(&mut talk, &heard, 4, ErrorCode::BadRequest), "{heard:?}");
    let many = r#"{"type":"message","id":4,"to":"all","data":1,"fds":1}"#;
    let (heard, _) = hear(&mut talk, many, &[7]).expect("right");
    assert!(is_refused(&mut talk, &heard, 4, ErrorCode::BadRequest), "{heard:?}");
    for offered in [Capabilities::none(), [Capability::Listen].into()] {
        talk = Talk::new(offered);
        hear(&mut talk, r#"{"type":"hello","version":1,"capabilities":["listen"]}"#, &[]).expect("right");
        let (heard, _) = hear(&mut talk, r#"{"type":"listen","id":4,"name":"a"}"#, &[]).expect("right");
        assert!(is_refused(&mut talk, &heard, 4, ErrorCode::Unsupported), "{heard:?}");
    }
    let (heard, _) = hear(&mut talk, r#"{"type":"log","level":"info","message":""}"#, &[]).expect("right");
    assert_eq!(heard, Heard::Nothing);
}

#[test]
fn questions_that_wait_are_bounded() {
    let mut talk = open_talk();
    for number in 0..=QUESTIONS_MAX as u64 {
        let to = Target::Pool(PoolName::new("web"));
        let line = ToHandover::Message {
            id: Some(id(number)),
            to,
            data: payload("1"),
            reply: false,
            timeout_ms: None,
        };
        let (heard, _) = talk.hear(Received { line, fds: vec![] }).expect("right");
        let is_full = is_refused(&mut talk, &heard, number, ErrorCode::QueueFull);
        assert_eq!(is_full, number == QUESTIONS_MAX as u64);
    }
    assert_eq!(talk.owed(), QUESTIONS_MAX);
}

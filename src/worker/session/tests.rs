//! The session against lines, one by one and in any order.

use proptest::prelude::*;

use super::*;
use crate::wire::limits::FDS_MAX;
use crate::wire::{Level, Record};

const HELLO: &str = r#"{"type":"hello","version":1,"versions":[1,1],"capabilities":["drain","ping","listen","messages","log"],"name":"myapp","pool":"web","slot":0,"generation":3,"worker":17}"#;

fn offered() -> Capabilities {
    Capability::ALL.iter().copied().collect()
}

/// One that has handover's hello, with its own written.
fn open() -> Session<u32> {
    let mut session = Session::new(offered(), "test");
    assert_eq!(
        said(&mut session),
        [
            r#"{"type":"hello","version":1,"capabilities":["drain","ping","listen","messages","log","fds"],"client":"test"}"#
        ]
    );
    hear(&mut session, HELLO, &[]);
    assert_eq!(session.next_event(), Some(Event::Hello));
    session
}

fn hear(session: &mut Session<u32>, line: &str, fds: &[u32]) {
    session.push(format!("{line}\n").as_bytes(), fds.iter().copied(), false);
}

fn write_all(session: &mut Session<u32>) -> (String, Vec<u32>) {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    while let Some((bytes, with)) = session.next_write() {
        let count = bytes.len();
        text.extend_from_slice(bytes);
        fds.extend_from_slice(with);
        session.wrote(count);
    }
    (String::from_utf8(text).expect("UTF-8"), fds)
}

fn said(session: &mut Session<u32>) -> Vec<String> {
    write_all(session).0.lines().map(str::to_owned).collect()
}

fn events(session: &mut Session<u32>) -> Vec<Event<u32>> {
    std::iter::from_fn(|| session.next_event()).collect()
}

fn data(json: &str) -> Payload {
    Payload::from_json(json).expect("JSON")
}

fn id(number: u64) -> Id {
    Id::new(number).expect("small")
}

#[test]
fn fds_that_cannot_be_sent_cost_their_own_line_alone() {
    let mut session = open();
    hear(&mut session, r#"{"type":"message","id":5,"from":"handover","data":1,"reply":true}"#, &[]);
    assert!(matches!(session.next_event(), Some(Event::Message { .. })));
    let asked =
        session.message(Target::Handover, data("1"), Wish::Sent, vec![7]).expect("short").expect("open");
    session.reply(id(5), data("2"), vec![8]).expect("short");
    session.say(&ToHandover::Ready).expect("short");
    assert!(session.give_up_next("Invalid argument") && session.give_up_next("Invalid argument"));
    assert!(!session.give_up_next("what has no fds stays"));
    let refused =
        Refused { re: Some(asked), error: ErrorCode::Failed, reason: "Invalid argument".to_owned() };
    assert_eq!(events(&mut session), [Event::Answer(asked, Answer::Refused(refused))]);
    let refusal = r#"{"type":"refused","re":5,"error":"failed","reason":"Invalid argument"}"#;
    assert_eq!(said(&mut session), [r#"{"type":"ready"}"#, refusal]);
    assert_eq!((session.pending(), session.questions()), (0, 0));
}

#[test]
fn a_ping_is_answered_when_the_program_says_so_and_once() {
    let mut session = open();
    hear(&mut session, r#"{"type":"ping","id":12}"#, &[]);
    assert_eq!(events(&mut session), [Event::Ping(id(12))]);
    assert!(said(&mut session).is_empty());
    session.pong(id(12));
    session.pong(id(12));
    session.pong(id(13));
    assert_eq!(said(&mut session), [r#"{"type":"pong","re":12}"#]);
}

#[test]
fn sockets_are_acknowledged_before_anything_else_is_said() {
    let mut session = open();
    let asked = session.listen(Wanted::Name("admin".into())).expect("short").expect("open");
    assert_eq!(said(&mut session), [r#"{"type":"listen","id":1,"name":"admin"}"#]);
    hear(&mut session, r#"{"type":"grant","re":1,"name":"admin","address":"a","fds":2,"id":3}"#, &[7, 8]);
    let answer = Answer::Granted { name: "admin".into(), address: "a".into(), fds: vec![7, 8] };
    assert_eq!(events(&mut session), [Event::Answer(asked, answer)]);
    assert_eq!(said(&mut session), [r#"{"type":"ack","re":3}"#]);
    hear(&mut session, r#"{"type":"grant","re":1,"name":"admin","address":"a","fds":1,"id":4}"#, &[9]);
    assert_eq!(events(&mut session), [], "an answer to nothing");
    assert_eq!(said(&mut session), [r#"{"type":"ack","re":4}"#]);
}

#[test]
fn fds_go_with_the_first_byte_and_are_kept_until_the_answer() {
    let mut session = open();
    let asked =
        session.message(Target::Handover, data("1"), Wish::Sent, vec![5]).expect("short").expect("id");
    let (bytes, fds) = session.next_write().expect("a line");
    assert_eq!((bytes[0], fds), (b'{', &[5][..]));
    session.wrote(1);
    let (bytes, fds) = session.next_write().expect("the rest");
    assert_eq!((bytes[0], fds), (b'"', &[][..]));
    said(&mut session);
    hear(&mut session, r#"{"type":"ack","re":1}"#, &[]);
    assert_eq!(session.ledger.get(asked).expect("open").fds, [5]);
    hear(&mut session, r#"{"type":"sent","re":1,"receivers":1,"refused":[]}"#, &[]);
    assert!(session.ledger.is_empty());
    assert_eq!(events(&mut session), [Event::Answer(asked, Answer::Sent { receivers: 1, refused: vec![] })]);
}

#[test]
fn a_question_is_answered_once_and_a_refusal_counts() {
    let mut session = open();
    let line = r#"{"type":"message","id":4,"from":"handover","data":"x","reply":true}"#;
    hear(&mut session, line, &[]);
    let expected =
        Event::Message { reply: Some(id(4)), from: Sender::Handover, data: data("\"x\""), fds: vec![] };
    assert_eq!(events(&mut session), [expected]);
    session.reply(id(4), data("2"), vec![]).expect("short");
    session.refuse(id(4), ErrorCode::Failed, "late");
    assert_eq!(said(&mut session), [r#"{"type":"reply","re":4,"data":2}"#]);
    hear(&mut session, line, &[]);
    session.refuse(id(4), ErrorCode::Other("busy".into()), "later");
    assert_eq!(said(&mut session), [r#"{"type":"refused","re":4,"error":"busy","reason":"later"}"#]);
}

#[test]
fn an_answer_too_long_to_be_sent_is_still_owed() {
    let mut session = open();
    hear(&mut session, r#"{"type":"message","id":4,"from":"handover","data":"x","reply":true}"#, &[]);
    let long = data(&format!("\"{}\"", "x".repeat(1_000_001)));
    assert!(session.reply(id(4), long, vec![6]).is_err());
    assert!(session.ledger.is_empty(), "its fds are closed");
    session.reply(id(4), data("1"), vec![6]).expect("short");
    let (text, fds) = write_all(&mut session);
    assert_eq!(
        (text.as_str(), &fds[..]),
        ("{\"type\":\"reply\",\"re\":4,\"id\":2,\"data\":1,\"fds\":1}\n", &[6][..])
    );
}

#[test]
fn the_fds_of_a_reply_are_waited_for_until_they_are_acknowledged_or_refused() {
    let mut session = open();
    for (number, answer) in
        [(1, r#"{"type":"ack","re":1}"#), (2, r#"{"type":"refused","re":2,"error":"unsupported"}"#)]
    {
        hear(&mut session, r#"{"type":"message","id":4,"from":"handover","data":"x","reply":true}"#, &[]);
        session.reply(id(4), data("1"), vec![6]).expect("short");
        assert!(session.awaits_arrival());
        assert!(said(&mut session)[0].contains(&format!("\"id\":{number}")));
        hear(&mut session, answer, &[]);
        assert!(!session.awaits_arrival() && session.ledger.is_empty());
    }
}

#[test]
fn what_the_program_does_not_take_is_refused() {
    let mut session = open();
    session.set_takes_messages(false);
    hear(&mut session, r#"{"type":"message","id":4,"from":"handover","data":1,"fds":1}"#, &[7]);
    hear(&mut session, r#"{"type":"message","from":"handover","data":1}"#, &[]);
    assert_eq!(events(&mut session), []);
    assert_eq!(
        said(&mut session),
        [
            r#"{"type":"refused","re":4,"error":"queue_full","reason":"this worker does not take its messages"}"#
        ]
    );
    let mut session = Session::new(Capabilities::none(), "test");
    hear(&mut session, HELLO, &[]);
    hear(&mut session, r#"{"type":"message","id":4,"from":"handover","data":1,"reply":true}"#, &[]);
    assert!(said(&mut session)[1].contains("unsupported"));
}

#[test]
fn a_drain_comes_once_and_questions_stay_open_behind_it() {
    let mut session = open();
    let asked =
        session.message(Target::Handover, data("1"), Wish::Reply(None), vec![]).expect("short").expect("id");
    for _ in 0..2 {
        hear(&mut session, r#"{"type":"drain","reason":"scaled down","deadline_ms":30000}"#, &[]);
    }
    let drain = Event::Drain { reason: "scaled down".into(), deadline_ms: Some(30_000) };
    assert_eq!(events(&mut session), [drain]);
    hear(&mut session, r#"{"type":"reply","re":1,"from":"handover","data":2}"#, &[]);
    let reply = Answer::Reply { from: Sender::Handover, data: data("2"), fds: vec![] };
    assert_eq!(events(&mut session), [Event::Answer(asked, reply)]);
}

#[test]
fn an_answer_of_the_wrong_kind_is_a_refusal() {
    let mut session = open();
    let asked = session.listen(Wanted::Name("x".into())).expect("short").expect("open");
    hear(&mut session, r#"{"type":"sent","re":1,"receivers":1,"refused":[]}"#, &[]);
    let [Event::Answer(id, Answer::Refused(refused))] = &events(&mut session)[..] else {
        panic!("no refusal")
    };
    assert_eq!((*id, &refused.error), (asked, &ErrorCode::Failed));
}

#[test]
fn nobody_hears_of_a_question_that_was_given_up() {
    let mut session = open();
    let asked =
        session.message(Target::Handover, data("1"), Wish::Sent, vec![5]).expect("short").expect("id");
    session.abandon(asked);
    assert_eq!(write_all(&mut session).1, [5], "it was said, and must be said whole");
    hear(&mut session, r#"{"type":"sent","re":1,"receivers":1,"refused":[]}"#, &[]);
    assert_eq!(events(&mut session), []);
    assert!(session.ledger.is_empty() && session.abandoned.is_empty());
}

#[test]
fn the_end_answers_what_is_open_and_leaves_a_line_whole() {
    let mut session = open();
    let asked = session.listen(Wanted::Name("x".into())).expect("short").expect("open");
    session.say(&ToHandover::Ready).expect("short");
    session.wrote(5);
    hear(&mut session, "{", &[]);
    let [Event::Answer(lost, Answer::Lost), Event::Closed(End::Fault(_))] = &events(&mut session)[..] else {
        panic!("no end")
    };
    assert_eq!(*lost, asked);
    let rest = said(&mut session);
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest[0].ends_with(r#""id":1,"name":"x"}"#) && rest[1].contains(r#""error":"protocol""#));
    hear(&mut session, HELLO, &[]);
    session.say(&ToHandover::Ready).expect("short");
    session.end_of_file();
    assert!(events(&mut session).is_empty() && said(&mut session).is_empty(), "nothing follows");
}

#[test]
fn handovers_end_and_its_refusal_and_its_version_are_told_apart() {
    let mut session = open();
    session.end_of_file();
    assert_eq!(events(&mut session), [Event::Closed(End::Gone)]);
    let mut session = open();
    hear(&mut session, r#"{"type":"refused","error":"version"}"#, &[]);
    let refused = Refused { re: None, error: ErrorCode::Version, reason: String::new() };
    assert_eq!(events(&mut session), [Event::Closed(End::Refused(refused))]);
    let mut session: Session<u32> = Session::new(offered(), "test");
    hear(
        &mut session,
        &HELLO.replace(r#""version":1,"versions":[1,1]"#, r#""version":3,"versions":[2,3]"#),
        &[],
    );
    assert_eq!(events(&mut session), [Event::Closed(End::TooNew { oldest: 2 })]);
    let mut session: Session<u32> = Session::new(offered(), "test");
    hear(
        &mut session,
        r#"{"type":"hello","version":3,"versions":[2,3],"capabilities":{"drain":2},"slot":"left"}"#,
        &[],
    );
    assert_eq!(events(&mut session), [Event::Closed(End::TooNew { oldest: 2 })], "whatever else it says");
}

#[test]
fn questions_of_the_peer_are_bounded() {
    let mut session = open();
    for number in 0..3_000 {
        hear(&mut session, &format!(r#"{{"type":"ping","id":{number}}}"#), &[]);
    }
    assert_eq!(events(&mut session).len(), 1_024);
    assert_eq!(said(&mut session).len(), 3_000 - 1_024);
    hear(&mut session, r#"{"type":"ping","id":0}"#, &[]);
    assert!(matches!(events(&mut session)[..], [Event::Closed(End::Fault(Fault::IdInUse(_)))]));
}

#[test]
fn a_peer_that_takes_no_answers_is_not_read_for_ever() {
    let mut session = open();
    let line = format!("{{\"type\":\"{}\",\"id\":1}}\n", "x".repeat(100));
    while session.wants_read() {
        session.push(line.repeat(100).as_bytes(), [], false);
    }
    assert!(session.pending() < UNREAD_MAX + (100 << 10));
    said(&mut session);
    assert!(session.wants_read());
}

#[test]
fn a_record_and_the_base_are_lines() {
    let mut session = open();
    let record = Record { level: Level::Warn, message: "x".into(), target: None, fields: vec![] };
    session.say(&ToHandover::Log(record)).expect("short");
    assert!(session.can(Capability::Log));
    session.close();
    assert!(!session.can(Capability::Log) && said(&mut session).is_empty());
}

/// Lines of handover, well made and not, some with fds.
fn line() -> impl Strategy<Value = (String, u8)> {
    let id = 0..6_u64;
    let known = prop_oneof![
        Just(HELLO.to_owned()),
        Just(r#"{"type":"drain","reason":"x"}"#.to_owned()),
        id.clone().prop_map(|id| format!(r#"{{"type":"ping","id":{id}}}"#)),
        id.clone().prop_map(|re| format!(r#"{{"type":"sent","re":{re},"receivers":1,"refused":[]}}"#)),
        id.clone().prop_map(|re| format!(r#"{{"type":"ack","re":{re}}}"#)),
        id.clone().prop_map(|re| format!(r#"{{"type":"refused","re":{re},"error":"gone"}}"#)),
        (id.clone(), any::<bool>()).prop_map(|(id, reply)| {
            format!(r#"{{"type":"message","id":{id},"from":"handover","data":[1],"reply":{reply}}}"#)
        }),
        id.clone().prop_map(|re| format!(r#"{{"type":"reply","re":{re},"from":"handover","data":1}}"#)),
        id.clone().prop_map(|id| format!(r#"{{"type":"teleport","id":{id}}}"#)),
        Just(r#"{"type":"listener_removed","name":"x"}"#.to_owned()),
        "[ -~]{0,20}",
    ];
    let with_fds = (id, 1..4_u8).prop_map(|(id, fds)| {
        (format!(r#"{{"type":"message","id":{id},"from":"handover","data":1,"fds":{fds}}}"#), fds)
    });
    let granted = (0..6_u64, 0..6_u64, 1..4_u8).prop_map(|(re, id, fds)| {
        (format!(r#"{{"type":"grant","re":{re},"name":"x","address":"y","fds":{fds},"id":{id}}}"#), fds)
    });
    prop_oneof![4 => known.prop_map(|line| (line, 0)), 1 => with_fds, 1 => granted]
}

proptest! {
    /// Whatever comes, however it is cut: no panic, one end, every fd in one place, and only whole lines go out.
    #[test]
    fn any_order_of_lines_in_any_pieces_holds(
        greets in prop::bool::weighted(0.9),
        lines in prop::collection::vec((line(), 0..5_u8, 1..40_usize), 0..30),
    ) {
        let mut session: Session<u32> = Session::new(offered(), "test");
        let mut given = 0..;
        let mut ended = false;
        if greets {
            hear(&mut session, HELLO, &[]);
        }
        for ((line, fds), act, piece) in lines {
            let mut fds: Vec<u32> = given.by_ref().take(fds.into()).collect();
            for bytes in format!("{line}\n").as_bytes().chunks(piece) {
                session.push(bytes, fds.drain(..), false);
            }
            match act {
                0 => drop(session.listen(Wanted::Name("x".into()))),
                1 => drop(session.message(Target::All, data("1"), Wish::Reply(None), vec![])),
                2 => drop(session.message(Target::Handover, data("1"), Wish::Sent, vec![1_000_000; 2])),
                3 => session.abandon(Id::FIRST),
                _ => {}
            }
            for event in events(&mut session) {
                prop_assert!(!ended, "something came after the end");
                match event {
                    Event::Ping(id) => session.pong(id),
                    Event::Message { reply: Some(id), .. } => session.refuse(id, ErrorCode::Failed, "no"),
                    Event::Closed(_) => ended = true,
                    _ => {}
                }
            }
            for line in said(&mut session) {
                prop_assert!(ToHandover::decode(line.as_bytes()).is_ok(), "not a line: {line}");
            }
        }
        prop_assert!(session.ledger.iter().all(|(_, open)| open.fds.len() <= FDS_MAX));
        session.close();
        prop_assert!(ended || matches!(events(&mut session).last(), Some(Event::Closed(_))));
        prop_assert_eq!(session.questions(), 0);
    }
}

//! What a worker that means harm, or is broken, can send.

use super::{fault_of, id, lines_of};
use crate::wire::limits::{
    DATA_MAX, DEPTH_MAX, LARGE_LINE_MAX, LINE_MAX, LOG_FIELDS_MAX, NUMBER_MAX, TEXT_MAX,
};
use crate::wire::{Fault, Lines, Target, ToHandover, ToWorker, Unknown, Unsendable, Wanted};
use crate::wire::{Line, Payload};

fn line(text: &str) -> ToHandover {
    ToHandover::decode(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {text}")).0
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn what_is_no_line_says_what_it_is() {
    assert!(matches!(fault_of(""), Fault::NotJson { .. }));
    assert!(matches!(fault_of("{\"type\":\"ready\""), Fault::NotJson { .. }));
    assert!(matches!(fault_of("{\"type\":\"ready\"} x"), Fault::NotJson { .. }));
    assert!(matches!(fault_of("{\"type\":\"ready\",\"x\":\"\u{1}\"}"), Fault::NotJson { .. }));
    assert!(matches!(fault_of("nonsense"), Fault::NotJson { .. }));
    assert_eq!(fault_of("\"ready\""), Fault::NotAnObject);
    assert_eq!(fault_of("{}"), Fault::NoType);
    assert_eq!(fault_of("{\"type\":1}"), Fault::NoType);
    assert_eq!(ToHandover::decode(b"{\"type\":\"\xff\"}"), Err(Fault::NotUtf8));
    assert_eq!(fault_of("{\"type\":\"status\"}"), Fault::Missing { kind: "status", member: "text" });
    assert_eq!(
        fault_of("{\"type\":\"status\",\"text\":7}").to_string(),
        "text in a line of type status is not a string"
    );
}

#[test]
fn an_unknown_type_is_no_fault_whatever_its_members_are() {
    let unknown = |id| ToHandover::Unknown(Unknown { kind: "later".to_owned(), id });
    assert_eq!(line(r#"{"type":"later","id":4,"text":[],"data":null}"#), unknown(Some(id(4))));
    assert_eq!(line(r#"{"type":"later","id":"four"}"#), unknown(None));
    assert_eq!(unknown(None).encode(0), Err(Unsendable::NotALine));
}

#[test]
fn of_a_member_that_appears_twice_the_last_counts() {
    let status = ToHandover::Status { text: "b".to_owned() };
    assert_eq!(line(r#"{"text":7,"type":"ready","text":"b","type":"status"}"#), status);
}

#[test]
fn names_with_escapes_are_the_same_names() {
    assert_eq!(line(r#"{"\u0074ype":"\u0072eady"}"#), ToHandover::Ready);
}

#[test]
fn half_a_surrogate_pair_costs_nobody_anything() {
    assert_eq!(
        line(r#"{"type":"status","text":"\ud83d","x\ud800":"\udfff"}"#),
        ToHandover::Status { text: "\u{fffd}".to_owned() }
    );
    let message = line(r#"{"type":"message","to":"all","data":["\ud83d\ude00","\ud83d"]}"#);
    assert!(
        matches!(message, ToHandover::Message { data, .. } if data.json() == r#"["\ud83d\ude00","\ufffd"]"#)
    );
}

#[test]
fn null_is_a_value_and_not_a_missing_member() {
    assert!(matches!(fault_of(r#"{"type":"replace","reason":null}"#), Fault::Wrong { .. }));
    let message = line(r#"{"type":"message","to":"all","data":null}"#);
    assert!(matches!(message, ToHandover::Message { data, .. } if data.json() == "null"));
}

#[test]
fn numbers_are_whole_and_fit_every_language() {
    let extend =
        |ms: &str| ToHandover::decode(format!("{{\"type\":\"extend_timeout\",\"ms\":{ms}}}").as_bytes());
    assert_eq!(extend("9007199254740991"), Ok((ToHandover::ExtendTimeout { ms: NUMBER_MAX }, 0)));
    for wrong in ["9007199254740992", "-1", "1.0", "1e3", "\"1\"", "99999999999999999999999"] {
        assert!(matches!(extend(wrong), Err(Fault::Wrong { member: "ms", .. })), "{wrong}");
    }
    let refused = ToHandover::ExtendTimeout { ms: NUMBER_MAX + 1 }.encode(0);
    assert_eq!(refused, Err(Unsendable::NumberTooLarge { member: "ms" }));
}

#[test]
fn nesting_is_counted_outside_of_strings() {
    let message = |data: &str| format!("{{\"type\":\"message\",\"to\":\"all\",\"data\":{data}}}");
    line(&message(&nested(DEPTH_MAX - 1)));
    assert_eq!(fault_of(&message(&nested(DEPTH_MAX))), Fault::TooDeep);
    line(&message(&format!("\"\\\"{}\"", "[".repeat(1000))));
    // No stack is needed for it, in a member that nobody knows either.
    assert_eq!(fault_of(&format!("{{\"x\":{}}}", "[".repeat(500_000))), Fault::TooDeep);
    assert_eq!(fault_of(&"{\"a\":".repeat(100_000)), Fault::TooDeep);
    let data = Payload::from_json(nested(DEPTH_MAX)).expect("JSON");
    let reply = ToHandover::Reply { re: id(1), id: None, data };
    assert_eq!(reply.encode(0), Err(Unsendable::TooDeep));
}

#[test]
fn a_line_has_a_limit_by_its_type() {
    let padded = |text: &str, to: usize| {
        let mut line = text.as_bytes().to_vec();
        line.resize(to - 1, b' ');
        line.push(b'\n');
        line
    };
    let message = "{\"type\":\"message\",\"to\":\"all\",\"data\":1}";
    assert!(lines_of::<ToHandover>(&padded("{\"type\":\"ready\"}", LINE_MAX)).is_ok());
    let too_long = lines_of::<ToHandover>(&padded("{\"type\":\"ready\"}", LINE_MAX + 1));
    assert_eq!(too_long, Err(Fault::TooLong { limit: LINE_MAX }));
    assert!(lines_of::<ToHandover>(&padded(message, LARGE_LINE_MAX)).is_ok());
    let too_long = lines_of::<ToHandover>(&padded(message, LARGE_LINE_MAX + 1));
    assert_eq!(too_long, Err(Fault::TooLong { limit: LARGE_LINE_MAX }));
}

#[test]
fn data_has_a_limit_of_its_own_in_both_directions() {
    let reply = |size: usize| {
        let data = Payload::of(&"x".repeat(size - 2)).expect("a string");
        ToHandover::Reply { re: id(1), id: None, data }
    };
    let bytes = reply(DATA_MAX).encode(0).expect("it fits");
    assert_eq!(lines_of(&bytes), Ok(vec![reply(DATA_MAX)]));
    assert_eq!(reply(DATA_MAX + 1).encode(0), Err(Unsendable::DataTooLong { bytes: DATA_MAX + 1 }));
    let text = String::from_utf8(bytes).expect("UTF-8").replace("\"x", "\"xx");
    assert_eq!(fault_of(text.trim_end()), Fault::DataTooLong);
}

#[test]
fn texts_for_people_are_cut_and_never_refused() {
    let long = "é".repeat(TEXT_MAX);
    let said = line(&format!("{{\"type\":\"status\",\"text\":\"{long}\"}}"));
    assert_eq!(said, ToHandover::Status { text: "é".repeat(TEXT_MAX / 2) });
    let sent = ToHandover::Status { text: long }.encode(0).expect("it is cut");
    assert_eq!(lines_of(&sent), Ok(vec![said]));
    let fields: Vec<String> = (0..2000).map(|n| format!("\"f{n}\":{n}")).collect();
    let log = format!(r#"{{"type":"log","level":"info","message":"m","fields":{{{}}}}}"#, fields.join(","));
    assert!(matches!(line(&log), ToHandover::Log(record) if record.fields.len() == LOG_FIELDS_MAX));
}

#[test]
fn what_makes_no_sense_is_told_apart_from_what_is_wrong() {
    let senseless = |text: &str| matches!(line(text), ToHandover::Senseless { id: Some(_), .. });
    assert!(senseless(r#"{"type":"listen","id":1,"name":"a","address":"b"}"#));
    assert!(senseless(r#"{"type":"listen","id":1}"#));
    for to in [r#"{"worker":1,"pool":"a"}"#, r#"{"slot":1}"#, r#"{"group":"x"}"#, r#""everybody""#, "{}"] {
        assert!(senseless(&format!(r#"{{"type":"message","id":1,"to":{to},"data":1}}"#)), "{to}");
    }
    assert!(senseless(r#"{"type":"message","id":1,"reply":true,"to":"all","data":1}"#));
    for to in ["1", "[]", r#"{"worker":"1"}"#, r#"{"pool":1}"#, r#"{"pool":"a","slot":4294967296}"#] {
        let fault = fault_of(&format!(r#"{{"type":"message","id":1,"to":{to},"data":1}}"#));
        assert!(matches!(fault, Fault::Wrong { member: "to", .. }), "{to}: {fault}");
    }
    let without_id = fault_of(r#"{"type":"message","reply":true,"to":"handover","data":1}"#);
    assert_eq!(without_id, Fault::Missing { kind: "message", member: "id" });
    assert_eq!(
        line(r#"{"type":"listen","id":1,"name":"a"}"#),
        ToHandover::Listen { id: id(1), what: Wanted::Name("a".to_owned()) }
    );
}

#[test]
fn a_timeout_beyond_the_longest_counts_as_the_longest() {
    let message = line(r#"{"type":"message","to":"handover","data":1,"timeout_ms":9000000000}"#);
    assert!(matches!(message, ToHandover::Message { timeout_ms: Some(3_600_000), to: Target::Handover, .. }));
}

#[test]
fn a_line_without_an_end_is_refused_before_it_is_kept() {
    let mut lines = Lines::<()>::new();
    let mut given = 0;
    let fault = loop {
        lines.push(&[b' '; 65_536], [], false);
        given += 65_536;
        match lines.next_line::<ToHandover>() {
            Ok(None) => assert!(given < LARGE_LINE_MAX, "{given} bytes are kept"),
            Ok(Some(_)) => panic!("that was no line"),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault, Fault::TooLong { limit: LARGE_LINE_MAX });
    assert_eq!(given, LARGE_LINE_MAX);
}

#[test]
fn a_million_tiny_lines_leave_nothing_behind() {
    let mut lines = Lines::<()>::new();
    let chunk = "{\"type\":\"heartbeat\"}\n".repeat(1000);
    let mut count = 0;
    for _ in 0..1000 {
        lines.push(chunk.as_bytes(), [], false);
        while let Some(received) = lines.next_line::<ToHandover>().expect("right") {
            assert_eq!(received.line, ToHandover::Heartbeat);
            count += 1;
        }
        assert!(lines.kept() <= 4096, "{} bytes are kept", lines.kept());
    }
    assert_eq!(count, 1_000_000);
}

#[test]
fn what_is_passed_on_is_the_same_byte_for_byte() {
    let data = r#"{"z":1e400,"a":0.10,"n":123456789012345678901234567890,"u":"\u00e9\/","z":2}"#;
    let message = line(&format!("{{\"type\":\"message\",\"to\":\"all\",\"data\": {data} }}"));
    let ToHandover::Message { data: taken, .. } = message else { panic!("a message") };
    assert_eq!(taken.json(), data);
    let from = crate::wire::Sender::Handover;
    let passed_on =
        ToWorker::Message { id: None, from, data: taken, reply: false }.encode(0).expect("it fits");
    assert!(String::from_utf8(passed_on).expect("UTF-8").contains(data));
}

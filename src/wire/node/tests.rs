//! The lines of Node's `child_process`, as Node 20 writes and reads them.

use super::{Dialect, Handle};
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::wire::limits::{DEPTH_MAX, LARGE_LINE_MAX, LINE_MAX};
use crate::wire::{
    Capability, Conversation, ErrorCode, Fault, Heard, Id, Payload, Received, Refused, Sender, Target,
    ToHandover, ToWorker, Unsendable, Until,
};

const HELLO: &str = r#"{"handover":{"type":"hello","version":1,"capabilities":["ping","messages"]}}"#;

fn id(number: u64) -> Id {
    Id::new(number).expect("small")
}

fn payload(json: &str) -> Payload {
    Payload::from_json(json).expect("JSON")
}

fn hear(dialect: &mut Dialect<u32>, text: &str, fds: &[u32]) -> Vec<Received<ToHandover, u32>> {
    dialect.push(format!("{text}\n").as_bytes(), fds.iter().copied());
    let mut all = Vec::new();
    while let Some(received) = dialect.next_line().expect("right") {
        all.push(received);
    }
    all
}

/// The next line that goes out, in pieces of at most seven bytes.
fn written(dialect: &mut Dialect<u32>) -> Option<(String, Option<u32>)> {
    let (mut text, mut handle) = (Vec::new(), None);
    loop {
        let write = dialect.next_write()?;
        assert!(text.is_empty() || write.fd.is_none(), "the fd goes with the first byte");
        handle = handle.or(write.fd.copied());
        let piece = write.bytes[..write.bytes.len().min(7)].to_vec();
        text.extend_from_slice(&piece);
        dialect.wrote(piece.len());
        if text.ends_with(b"\n") {
            let text = String::from_utf8(text).expect("UTF-8");
            return Some((text.trim_end().to_owned(), handle));
        }
    }
}

fn to_handover(data: &str, fds: &[u32]) -> Received<ToHandover, u32> {
    let data = payload(data);
    let line = ToHandover::Message { id: None, to: Target::Handover, data, reply: false, timeout_ms: None };
    Received { line, fds: fds.to_vec() }
}

fn message(id: Option<Id>, data: &str) -> ToWorker {
    let (pool, slot, worker) = (PoolName::new("web"), SlotIndex(1), WorkerId(9));
    ToWorker::Message { id, from: Sender::Worker { pool, slot, worker }, data: payload(data), reply: false }
}

fn text(line: &str, handle: Option<u32>) -> Option<(String, Option<u32>)> {
    Some((line.to_owned(), handle))
}

#[test]
fn an_unmodified_program_is_understood() {
    let mut node = Dialect::new(None);
    assert_eq!(hear(&mut node, r#""ready""#, &[]), [Received { line: ToHandover::Ready, fds: vec![] }]);
    for data in [r#"{"a":1.50}"#, r#""Ready""#, "7", "null", "[]", r#"{"handover":1}"#, r#"{"cmd":"NODE_"}"#]
    {
        assert_eq!(hear(&mut node, data, &[]), [to_handover(data, &[])], "{data}");
    }
    let both = r#"{"handover":{"type":"ready"},"more":1}"#;
    assert_eq!(hear(&mut node, both, &[]), [to_handover(both, &[])]);
    assert_eq!(hear(&mut node, r#"{"cmd":"NODE_CLUSTER","act":"listening"}"#, &[]), []);
    assert_eq!(written(&mut node), None);
}

#[test]
fn a_handle_that_came_is_acknowledged_and_one_that_did_not_is_asked_for_again() {
    let mut node = Dialect::new(None);
    let handle = r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a":1},"key":"4:null:80"}"#;
    assert_eq!(hear(&mut node, handle, &[]), []);
    assert_eq!(written(&mut node), text(r#"{"cmd":"NODE_HANDLE_NACK"}"#, None));
    assert_eq!(hear(&mut node, handle, &[7]), [to_handover(r#"{"a":1}"#, &[7])]);
    assert_eq!(written(&mut node), text(r#"{"cmd":"NODE_HANDLE_ACK"}"#, None));
    let ready = r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":"ready"}"#;
    assert_eq!(hear(&mut node, ready, &[8]), [to_handover(r#""ready""#, &[8])], "not the word alone");
    let own = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER"}}"#;
    assert_eq!(hear(&mut node, own, &[9]), []);
}

#[test]
fn fds_without_their_line_are_a_fault() {
    let mut node = Dialect::new(None);
    node.push(b"1\n", [7]);
    assert_eq!(node.next_line(), Ok(Some(to_handover("1", &[]))));
    assert_eq!(node.next_line(), Err(Fault::FdsLeft { left: 1 }));
    assert_eq!(node.next_line(), Err(Fault::FdsLeft { left: 1 }));
}

#[test]
fn what_is_no_json_or_too_deep_is_a_fault() {
    for (text, fault) in [
        ("\n", None),
        ("{\n", None),
        ("1 2\n", None),
        (&*format!("{}{}\n", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)), Some(Fault::TooDeep)),
        (&*format!("{}\n", "[".repeat(100_000)), Some(Fault::TooDeep)),
        ("{\"handover\":{}}\n", Some(Fault::NoType)),
        ("{\"handover\":{\"type\":\"status\"}}\n", Some(Fault::Missing { kind: "status", member: "text" })),
    ] {
        let mut node = Dialect::<u32>::new(None);
        node.push(text.as_bytes(), []);
        let found = node.next_line().expect_err(text);
        assert!(
            fault.map_or(matches!(found, Fault::NotJson { .. }), |fault| fault == found),
            "{text}: {found}"
        );
    }
}

#[test]
fn an_unmodified_program_hears_messages_and_its_stop_message() {
    let mut node = Dialect::new(Some(payload(r#""shutdown""#)));
    assert!(node.implied_hello().capabilities.has(Capability::Drain));
    assert!(node.implied_hello().capabilities.has(Capability::Fds));
    node.send(&ToWorker::Ping { id: id(1) }, vec![]).expect("nothing to be said");
    node.send(&message(None, r#"{"a":1}"#), vec![]).expect("it can be said");
    node.send(&ToWorker::Drain { reason: String::new(), deadline_ms: None }, vec![]).expect("it can be said");
    assert_eq!(written(&mut node), text(r#"{"a":1}"#, None));
    assert_eq!(written(&mut node), text(r#""shutdown""#, None));
    assert_eq!(written(&mut node), None);
    assert_eq!(node.queued(), (0, 0));
    let mut node = Dialect::new(None);
    assert!(!node.implied_hello().capabilities.has(Capability::Drain));
    node.send(&ToWorker::Drain { reason: String::new(), deadline_ms: None }, vec![])
        .expect("nothing to be said");
    assert_eq!(written(&mut node), None);
}

#[test]
fn the_next_line_waits_for_the_acknowledgement_of_a_handle() {
    let mut node = Dialect::new(None);
    node.send(&message(Some(id(3)), "1"), vec![(Handle::Socket, 7)]).expect("it can be said");
    node.send(&message(Some(id(4)), "2"), vec![(Handle::Datagram6, 8)]).expect("it can be said");
    node.send(&message(None, "3"), vec![]).expect("it can be said");
    let first = r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}"#;
    let second = r#"{"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":"udp6","msg":2}"#;
    assert_eq!(written(&mut node), text(first, Some(7)));
    assert_eq!(written(&mut node), None);
    hear(&mut node, r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":0}"#, &[1]);
    assert_eq!(written(&mut node), text(r#"{"cmd":"NODE_HANDLE_ACK"}"#, None), "this overtakes");
    assert_eq!(written(&mut node), None);
    assert_eq!(node.queued().0, 3);
    let ack = hear(&mut node, r#"{"cmd":"NODE_HANDLE_ACK"}"#, &[]);
    assert_eq!(ack, [Received { line: ToHandover::Ack { re: id(3) }, fds: vec![] }]);
    assert_eq!(written(&mut node), text(second, Some(8)));
    hear(&mut node, r#"{"cmd":"NODE_HANDLE_ACK"}"#, &[]);
    assert_eq!(written(&mut node), text("3", None));
    assert_eq!(hear(&mut node, r#"{"cmd":"NODE_HANDLE_ACK"}"#, &[]), [], "nobody waits for it");
}

#[test]
fn a_handle_that_is_lost_four_times_is_given_up() {
    let mut node = Dialect::new(None);
    node.send(&message(Some(id(3)), "1"), vec![(Handle::Server, 7)]).expect("it can be said");
    node.send(&message(None, "2"), vec![]).expect("it can be said");
    for _ in 0..3 {
        assert_eq!(written(&mut node).expect("again").1, Some(7));
        assert_eq!(hear(&mut node, r#"{"cmd":"NODE_HANDLE_NACK"}"#, &[]), []);
    }
    assert_eq!(written(&mut node).expect("again").1, Some(7));
    let lost = hear(&mut node, r#"{"cmd":"NODE_HANDLE_NACK"}"#, &[]);
    let is_refused = |line: &ToHandover| matches!(line, ToHandover::Refused(Refused { re, error: ErrorCode::Failed, .. }) if *re == Some(id(3)));
    assert!(is_refused(&lost[0].line), "{lost:?}");
    assert_eq!(written(&mut node), text("2", None));
}

#[test]
fn a_program_that_said_hello_gets_lines() {
    let mut node = Dialect::new(Some(payload("1")));
    assert!(matches!(hear(&mut node, HELLO, &[])[..], [Received { line: ToHandover::Hello(_), .. }]));
    node.send(&ToWorker::Ping { id: id(1) }, vec![]).expect("it can be said");
    node.send(&ToWorker::Ack { re: id(1) }, vec![]).expect("Node did");
    node.send(&ToWorker::Drain { reason: "new".into(), deadline_ms: None }, vec![]).expect("it can be said");
    assert_eq!(written(&mut node), text(r#"{"handover":{"type":"ping","id":1}}"#, None));
    assert_eq!(written(&mut node), text(r#"{"handover":{"type":"drain","reason":"new"}}"#, None));
    assert_eq!(written(&mut node), None);
    let message = r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":
        {"handover":{"type":"message","id":7,"to":{"worker":2},"data":{"a":1}}}}"#
        .replace('\n', " ");
    let heard = hear(&mut node, &message, &[5]);
    assert_eq!(heard[0].fds, [5]);
    assert!(matches!(&heard[0].line, ToHandover::Message { id: Some(seven), .. } if *seven == id(7)));
}

#[test]
fn several_sockets_are_several_lines_and_one_acknowledgement() {
    let mut node = Dialect::new(None);
    hear(&mut node, HELLO, &[]);
    let grant = ToWorker::Grant { re: id(1), name: "http".into(), address: "a".into(), id: id(3) };
    node.send(&grant, vec![(Handle::Server, 7), (Handle::Server, 8)]).expect("it can be said");
    for (part, fd) in [(0, 7), (1, 8)] {
        let (line, handle) = written(&mut node).expect("a part");
        let inner = r#"{"type":"grant","re":1,"name":"http","address":"a","id":3,"fds":1"#;
        let expected = format!(
            r#"{{"cmd":"NODE_HANDLE","type":"net.Server","msg":{{"handover":{inner},"part":{part},"parts":2}}}}}}"#
        );
        assert_eq!((line, handle), (expected, Some(fd)));
        assert_eq!(written(&mut node), None);
        let heard = hear(&mut node, r#"{"cmd":"NODE_HANDLE_ACK"}"#, &[]);
        assert_eq!(heard.len(), part, "after the last one");
    }
    let closed = grant_of(&mut node, &grant);
    assert_eq!(closed, Err(Unsendable::FdsMissing { kind: "grant" }));
}

#[test]
fn only_sockets_that_were_asked_for_come_in_parts() {
    let mut node = Dialect::new(None);
    hear(&mut node, HELLO, &[]);
    let two = || vec![(Handle::Socket, 1), (Handle::Socket, 2)];
    assert_eq!(node.send(&message(Some(id(1)), "1"), two()), Err(Unsendable::OneHandle));
    let reply = ToWorker::Reply { re: id(1), id: Some(id(2)), from: Sender::Handover, data: payload("1") };
    assert_eq!(node.check(&reply, 2), Err(Unsendable::OneHandle));
    assert_eq!(node.check(&reply, 1), Ok(()));
    assert_eq!(Unsendable::OneHandle.code(), ErrorCode::Unsupported);
    assert_eq!(node.queued(), (0, 0));
}

#[test]
fn a_line_of_ours_has_its_own_limit_within_nodes() {
    let of = |inner: &str, filled: usize, total: usize| {
        let fill = "x".repeat(filled - inner.len() - 1);
        let text = format!("{{\"handover\":{}}}", inner.replace("FILL", &format!("FILL{fill}")));
        let mut node = Dialect::<u32>::new(None);
        node.push(format!("{text}{}\n", " ".repeat(total.saturating_sub(text.len() + 1))).as_bytes(), []);
        node.next_line().map(|heard| heard.is_some())
    };
    for kind in ["status", "later"] {
        let line = format!("{{\"type\":\"{kind}\",\"text\":\"FILL\"}}");
        assert_eq!(of(&line, LINE_MAX, 0), Ok(true), "what stands around it does not count");
        assert_eq!(of(&line, LINE_MAX + 1, 0), Err(Fault::TooLong { limit: LINE_MAX }), "{kind}");
    }
    let line = r#"{"type":"status","text":"FILL"}"#;
    assert_eq!(of(line, LINE_MAX, LARGE_LINE_MAX), Ok(true));
    assert_eq!(of(line, LINE_MAX, LARGE_LINE_MAX + 1), Err(Fault::TooLong { limit: LARGE_LINE_MAX }));
}

#[test]
fn half_a_surrogate_pair_costs_a_program_nothing() {
    let mut node = Dialect::new(None);
    assert_eq!(hear(&mut node, r#"{"a":"\ud83d"}"#, &[]), [to_handover(r#"{"a":"\ufffd"}"#, &[])]);
}

fn grant_of(node: &mut Dialect<u32>, grant: &ToWorker) -> Result<(), Unsendable> {
    node.send(grant, vec![])
}

#[test]
fn what_node_would_take_for_its_own_is_not_sent() {
    let mut node = Dialect::<u32>::new(None);
    let own = message(None, r#"{"cmd":"NODE_CLUSTER","act":"disconnect"}"#);
    assert_eq!(node.send(&own, vec![]), Err(Unsendable::NodesOwn));
    assert_eq!(node.send(&message(None, r#"{"cmd":"NODE_"}"#), vec![]), Ok(()));
    let two = vec![(Handle::Socket, 1), (Handle::Socket, 2)];
    assert_eq!(node.send(&message(Some(id(1)), "1"), two), Err(Unsendable::OneHandle));
    let from = Sender::Handover;
    let asked = ToWorker::Message { id: Some(id(1)), from, data: payload("1"), reply: true };
    assert_eq!(node.send(&asked, vec![]), Err(Unsendable::NoReply));
}

#[test]
fn the_conversation_is_the_same_as_over_our_own_channel() {
    let mut node = Dialect::new(None);
    let mut talk = Conversation::with_implied_hello([Capability::Messages].into(), node.implied_hello());
    let asked = talk.ledger.open(Until::Ack, "given", vec![]);
    let line = message(Some(asked), "1");
    assert!(talk.say(&line));
    node.send(&line, vec![(Handle::Socket, 7)]).expect("it can be said");
    written(&mut node).expect("it is");
    let mut heard = |text: &str, fds: &[u32]| {
        let received = hear(&mut node, text, fds).remove(0);
        talk.hear(received).expect("right").0
    };
    let ack = heard(r#"{"cmd":"NODE_HANDLE_ACK"}"#, &[]);
    assert!(matches!(ack, Heard::Answer(open, ToHandover::Ack { .. }, _) if open.question == "given"));
    assert!(matches!(heard(r#""ready""#, &[]), Heard::Said(ToHandover::Ready, _)));
    assert!(matches!(heard(HELLO, &[]), Heard::Hello));
}

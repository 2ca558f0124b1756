//! `handover send`: what is typed, what is asked, what is told.

use std::io::Write;
use std::process::{Command, Stdio};

use handover::control::protocol::{Payload, Request, Send};
use handover::control::{Finish, NotSent, Sent, Verdict};
use handover::exit;
use handover::id::{PoolName, SlotIndex, WorkerId};

use super::{Daemon, code, golden, read};

/// A daemon whose messages end so.
fn ending(sent: Sent) -> Daemon {
    Daemon::new(move |call| {
        call.reply.finish(Finish::of_sent("myapp", sent.clone(), "no worker takes messages"))
    })
}

fn refused(worker: u64) -> NotSent {
    NotSent { worker, error: "queue_full".into(), reason: "it does not take its messages".into() }
}

fn with_stdin(client: &mut Command, input: &str) -> (i32, String, String) {
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().expect("the command starts");
    client.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    read(client.wait_with_output().expect("it ends"))
}

#[test]
fn a_message_is_a_text_or_a_value_and_for_whom_is_said_by_options() {
    let daemon = ending(Sent { receivers: 1, refused: Vec::new() });
    let to_all =
        |json: &str| Send { pool: None, slot: None, worker: None, data: Payload::from_json(json).unwrap() };
    let web = || Some(PoolName::new("web"));
    for (arguments, expected) in [
        (&["send", "hello"][..], to_all(r#""hello""#)),
        (&["send", ""], to_all(r#""""#)),
        (
            &["send", "--data", "{\"a\": 1.50}", "--pool", "web"],
            Send { pool: web(), ..to_all("{\"a\": 1.50}") },
        ),
        (&["send", "--data=-1", "--worker", "17"], Send { worker: Some(WorkerId(17)), ..to_all("-1") }),
        (
            &["send", "--pool=web", "--slot=3", "x"],
            Send { pool: web(), slot: Some(SlotIndex(3)), ..to_all(r#""x""#) },
        ),
    ] {
        let (status, out, err) = with_stdin(&mut daemon.client(arguments), "");
        assert_eq!(
            (status, &*out, &*err),
            (code(exit::DONE), "myapp: sent to 1 worker\n", ""),
            "{arguments:?}"
        );
        assert_eq!(daemon.requests.recv().unwrap(), Request::Send(expected));
    }
    for (arguments, input, expected) in [
        (&["send", "-"][..], "two\nlines\n", r#""two\nlines""#),
        (&["send", "--data", "-"], "\n[1,\n2]\n", "[1, 2]"),
    ] {
        assert_eq!(with_stdin(&mut daemon.client(arguments), input).0, code(exit::DONE));
        assert_eq!(daemon.requests.recv().unwrap(), Request::Send(to_all(expected)));
    }
}

#[test]
fn who_did_not_get_a_message_is_told() {
    let mut told = String::new();
    for sent in [
        Sent { receivers: 2, refused: Vec::new() },
        Sent { receivers: 2, refused: vec![refused(19), refused(20)] },
        Sent { receivers: 0, refused: vec![refused(19)] },
        Sent::default(),
    ] {
        let got_it = sent.receivers > 0;
        let daemon = ending(sent);
        let (status, out, err) = daemon.run(&["send", "hello"]);
        assert_eq!(status, code(if got_it { exit::DONE } else { exit::FAILED }));
        assert_eq!(out.is_empty(), !got_it);
        told += &format!("$ handover send hello\n{out}{err}");
        let (_, json, err) = daemon.run(&["send", "hello", "--json"]);
        assert!(err.is_empty(), "{err}");
        told += &format!("$ handover send hello --json\n{json}");
    }
    golden("send.txt", &told);
}

#[test]
fn what_cannot_be_sent_is_refused_before_a_daemon_is_asked() {
    let daemon = ending(Sent::default());
    for arguments in [
        &["send"][..],
        &["send", "x", "--data", "1"],
        &["send", "--data", "{a}"],
        &["send", "--data", "1 2"],
        &["send", "x", "--slot", "1"],
        &["send", "x", "--worker", "1", "--pool", "web"],
        &["send", "x", "--worker", "web"],
        &["send", "x", "y"],
    ] {
        let (status, out, err) = daemon.run(arguments);
        assert_eq!((status, &*out), (code(exit::USAGE), ""), "{arguments:?}: {err}");
        assert!(!err.is_empty());
    }
    assert!(daemon.requests.try_recv().is_err());
    let refusing =
        Daemon::new(|call| call.reply.finish(Finish::new(Verdict::Refused, "there is no pool mail")));
    let (status, _, err) = refusing.run(&["send", "--pool", "mail", "x"]);
    assert_eq!((status, &*err), (code(exit::USAGE), "handover: there is no pool mail\n"));
}

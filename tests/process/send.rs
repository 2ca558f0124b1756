//! Messages between an operator and workers: `handover send`, what becomes of it, what status and events say.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use handover::control::event::What;
use handover::control::protocol::DATA_MAX;
use handover::exit;
use serde_json::{Value, json};

use crate::support::child::OwnedChild;
use crate::support::daemon::{Output, command};
use crate::support::machine::cannot_be_nobody;
use crate::support::service::{Plan, Service};
use crate::support::{deadline, eventually};

/// It says hello, prints what it hears, and serves.
const LISTENS: &str = "hear\nhello=messages\nserve\nready\n";

/// `handover send WORDS -`, with this on its standard input.
fn send_from_stdin(service: &Service, words: &[&str], input: &str) -> Output {
    let mut client = command([&["send"], words].concat());
    client.arg("--socket").arg(service.daemon.socket());
    let mut child = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // One that refuses early reads no more.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Waits until the worker in `slot` has printed a message with this `data`; gives the whole line.
#[track_caller]
fn heard(service: &Service, slot: u64, data: &Value) -> Value {
    let of = |line: &crate::support::log::Line| {
        let text = line.message();
        let line_of_slot = line.field("slot").and_then(Value::as_u64) == Some(slot);
        let said: Value = serde_json::from_str(text.strip_prefix("heard ")?).ok()?;
        (line_of_slot && said["type"] == "message" && said["data"] == *data).then_some(said)
    };
    let line = service.daemon.log.wait_for(&format!("{data} in slot {slot}"), |line| of(line).is_some());
    of(&line).expect("it was just seen")
}

/// How often any worker has printed a message.
fn times_heard(service: &Service) -> usize {
    let is_one = |text: &str| text.starts_with("heard ") && text.contains(r#""type":"message""#);
    service.daemon.log.lines().iter().filter(|line| is_one(&line.message())).count()
}

/// Waits until so many workers have said hello.
fn wait_for_hellos(service: &Service, count: usize) {
    eventually("their hellos", || {
        let status = service.daemon.status();
        (status.0.to_string().matches("\"channel\":").count() == count).then_some(())
    });
}

#[test]
fn a_message_reaches_all_workers_those_of_a_pool_one_slot_or_one_worker() {
    let service = Plan::new().workers(2).script(LISTENS).start();
    service.daemon.settle();
    wait_for_hellos(&service, 2);
    let send = |words: &[&str]| service.daemon.cli(&[&["send"], words].concat());
    let output = send(&["flush the \"cache\""]);
    assert_eq!(output.assert_code(exit::DONE).stdout, "test: sent to 2 workers\n");
    for slot in [0, 1] {
        let line = heard(&service, slot, &json!("flush the \"cache\""));
        assert_eq!((&line["from"], line.get("id")), (&json!("handover"), None));
    }
    send(&["--pool", "web", "all of web"]).assert_code(exit::DONE);
    heard(&service, 0, &json!("all of web"));
    heard(&service, 1, &json!("all of web"));
    let output = send(&["--pool", "web", "--slot", "1", "--data", r#"{"level": 1.50}"#]);
    assert_eq!(output.assert_code(exit::DONE).stdout, "test: sent to 1 worker\n");
    heard(&service, 1, &json!({"level": 1.5}));
    let worker = service.ready()[0].worker.to_string();
    send(&["--worker", &worker, "--data", "-7"]).assert_code(exit::DONE);
    heard(&service, 0, &json!(-7));
    send_from_stdin(&service, &["--pool", "web", "--slot", "0", "-"], "of several\nlines\n")
        .assert_code(exit::DONE);
    heard(&service, 0, &json!("of several\nlines"));
    assert_eq!(times_heard(&service), 7, "nobody got what was not for him");

    let output = send(&["--json", "once more"]);
    let line: Value = serde_json::from_str(&output.assert_code(exit::DONE).stdout).expect("a line");
    assert_eq!((&line["type"], &line["result"]), (&json!("result"), &json!("done")));
    assert_eq!(line["sent"], json!({"receivers": 2, "refused": []}));
    service.stop();
}

#[test]
fn a_message_to_nobody_is_a_failure_and_one_to_no_pool_a_mistake() {
    let service = Plan::new().workers(1).start();
    for (words, code, says) in [
        (&["hello"][..], exit::FAILED, "no worker takes messages\nhint: "),
        (&["--worker", "1", "x"], exit::FAILED, "worker 1 takes no messages\nhint: "),
        (&["--worker", "99", "x"], exit::FAILED, "there is no worker 99"),
        (
            &["--pool", "web", "--slot", "0", "x"],
            exit::FAILED,
            "the worker in slot 0 of pool web takes no messages",
        ),
        (&["--pool", "web", "--slot", "7", "x"], exit::FAILED, "no worker serves in slot 7 of pool web"),
        (&["--pool", "web", "x"], exit::FAILED, "no worker of pool web takes messages"),
        (&["--pool", "mail", "x"], exit::USAGE, "there is no pool mail"),
        (&["--data", "{a}"], exit::USAGE, "--data: "),
    ] {
        let output = service.daemon.cli(&[&["send"], words].concat());
        output.assert_code(code).assert_says(says);
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let huge = "x".repeat(DATA_MAX);
    send_from_stdin(&service, &["-"], &huge).assert_code(exit::USAGE).assert_says("1000002 bytes");
    send_from_stdin(&service, &["-"], &huge.repeat(3))
        .assert_code(exit::USAGE)
        .assert_says("standard input: ");
    service.stop();
}

#[test]
fn the_largest_message_arrives_whole() {
    let service = Plan::new().script(LISTENS).start();
    wait_for_hellos(&service, 1);
    let text = "é".repeat((DATA_MAX - 2) / 2);
    send_from_stdin(&service, &["-"], &text).assert_code(exit::DONE);
    // It prints lines as long as that in pieces; the one that follows is whole.
    service.daemon.cli(&["send", "small"]).assert_code(exit::DONE);
    heard(&service, 0, &json!("small"));
    let pieces = service.daemon.log.lines();
    let count: usize = pieces.iter().map(|line| line.message().matches('é').count()).sum();
    assert_eq!(count, (DATA_MAX - 2) / 2);
    service.stop();
}

#[test]
fn a_worker_that_does_not_take_its_messages_is_refused_more_and_shown() {
    let service = Plan::new().workers(2).script("[slot=1] hear\nhello=messages\nserve\nready\n").start();
    service.daemon.settle();
    wait_for_hellos(&service, 2);
    let quiet = service.daemon.cli(&["status"]);
    assert!(!quiet.assert_code(0).stdout.contains("messages"), "{quiet:?}");
    let large = "x".repeat(900_000);
    let to_one = ["--pool", "web", "--slot", "0", "--json", "-"];
    let refused = eventually("its queue is full", || {
        let output = send_from_stdin(&service, &to_one, &large);
        (output.code != Some(0)).then_some(output)
    });
    refused.assert_code(exit::FAILED);
    let line: Value = serde_json::from_str(&refused.stdout).expect("a line");
    let worker = service.ready()[0].worker;
    let not = json!({"worker": worker, "error": "queue_full", "reason": "it does not take its messages"});
    assert_eq!(line["sent"], json!({"receivers": 0, "refused": [not]}));
    assert_eq!(line["result"], "failed");

    let output = service.daemon.cli(&["send", "to both"]);
    let expected =
        format!("test: sent to 1 worker, and not to:\nworker {worker}: it does not take its messages\n");
    assert_eq!(output.assert_code(exit::DONE).stdout, expected);
    heard(&service, 1, &json!("to both"));

    let status = service.daemon.status();
    let slots = &status.pool("web").expect("it is there")["slots"];
    let stuck = &slots[0]["workers"][0]["channel"];
    assert_eq!((&stuck["client"], &stuck["refused"]), (&json!("scripted 1"), &json!(2)), "{stuck}");
    assert!(stuck["waiting"].as_u64() > Some(0), "{stuck}");
    assert_eq!(slots[1]["workers"][0]["channel"]["refused"], 0);
    assert_eq!(status.counter("messages_refused"), 2);
    service
        .daemon
        .cli(&["status"])
        .assert_code(0)
        .assert_says("does not take its messages: ")
        .assert_says("2 messages that their receivers did not get");
    service.stop();
}

#[test]
fn what_a_worker_tells_handover_is_for_those_who_may_see_output() {
    if cannot_be_nobody() {
        return;
    }
    let said = r#"say={"type":"message","to":"handover","data":{"key":"a secret","n":1.50}}"#;
    let service = Plan::new()
        .top("control_group", "\"daemon\"")
        .script(&format!("[generation=2] hello=messages\n[generation=2] {said}\nserve\nready\n"))
        .start();
    let events = service.daemon.events();
    let mut reader = Command::new("setpriv");
    reader.args(["--reuid=65534", "--regid=65534", "--groups=1", "--"]).arg(crate::support::handover());
    reader.args(["events", "--json", "--socket"]).arg(service.daemon.socket());
    let mut reader = OwnedChild::spawn(reader.stdout(Stdio::piped()));
    let mut lines = BufReader::new(reader.inner().stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("it begins").expect("UTF-8");
    assert!(first.contains(r#""type":"hello""#), "{first}");
    service.reload_well();
    let told = events.wait_for("its message", |event| matches!(event.what, What::WorkerMessage { .. }));
    let What::WorkerMessage { data, .. } = &told.what else { panic!("{told:?}") };
    assert_eq!(
        data.as_ref().map(|data| data.json().to_owned()).as_deref(),
        Some(r#"{"key":"a secret","n":1.5}"#)
    );
    assert!(told.message.contains("a secret"), "{told:?}");
    events.close();
    service.stop();
    let seen: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
    let message = seen.iter().find(|line| line.contains(r#""type":"worker_message""#)).expect("it is told");
    assert!(!message.contains("data") && message.contains("sent a message\""), "{message}");
    assert!(!seen.iter().any(|line| line.contains("a secret")), "{seen:#?}");
    assert!(reader.wait(deadline()).is_some());
}

//! Messages: the program and its workers.

use std::path::Path;
use std::time::Duration;

use handover::embed::event::What;
use handover::embed::{Error, Payload, Pool, Settings, Target};
use serde_json::{Value, json};

use crate::scene::{builder, event, soon, start, workers};

const SPEAKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/speaker.py");
const READY: &str = r#"say={"type":"ready"}"#;

/// A pool of workers that say and expect this on their channels; `None` where there is no Python.
fn speakers(number: u32, steps: &[&str]) -> Option<Settings> {
    Path::new("/usr/bin/python3").exists().then(|| {
        let command = ["/usr/bin/python3", SPEAKER].into_iter().chain(steps.iter().copied());
        Settings::new("speakers").pool(Pool::new("web", command).workers(number))
    })
}

#[tokio::test]
async fn messages_of_workers_come_to_the_program_and_are_seen_as_events_too() {
    let say = r#"say={"type":"message","id":1,"to":"handover","data":{"b":1.50,"a":[1]}}"#;
    let Some(settings) = speakers(1, &["hello", READY, "question", say, "expect=sent", "drain"]) else {
        return;
    };
    let supervisor = start(builder(&settings).take_messages()).await;
    let mut messages = supervisor.messages().unwrap();
    assert!(supervisor.messages().is_none(), "once");
    let mut events = supervisor.events().await.unwrap();
    let go = Target::Slot("web".to_owned(), 0);
    // The worker waits for any question before it says something.
    let asked = supervisor.question(go, "go", Duration::from_millis(10)).await;
    assert!(matches!(&asked, Err(Error::NotAnswered(no)) if no.error == "timeout"), "{asked:?}");
    let message = soon("the message", messages.next()).await.unwrap();
    assert_eq!((message.pool(), message.slot(), message.is_question()), ("web", 0, false));
    assert_eq!(message.data().json(), r#"{"b":1.50,"a":[1]}"#);
    assert!(message.reply(Payload::of(&1).unwrap()).is_err());
    event(&mut events, "the event", |what| matches!(what, What::WorkerMessage { .. })).await;
    soon("the stop", supervisor.stop()).await.unwrap();
    assert!(messages.next().await.is_none());
}

#[tokio::test]
async fn a_program_that_does_not_take_its_messages_is_told_no_more_of_them() {
    let say = |id: u32| format!(r#"say={{"type":"message","id":{id},"to":"handover","data":{id}}}"#);
    let many: Vec<String> = (1..=300).map(say).collect();
    let mut steps = vec!["hello", READY];
    steps.extend(many.iter().map(String::as_str));
    steps.extend(["expect=refused", "print=it is refused", "drain"]);
    let Some(settings) = speakers(1, &steps) else { return };
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel::<String>();
    let told = builder(&settings).take_messages().on_output(move |line| drop(send.send(line.text)));
    let supervisor = start(told).await;
    let mut refused = String::new();
    loop {
        let line = soon("a line", lines.recv()).await.unwrap();
        if line == "it is refused" {
            break;
        }
        refused = line;
    }
    assert!(refused.contains(r#""error":"queue_full""#), "{refused}");
    let mut messages = supervisor.messages().unwrap();
    soon("the stop", supervisor.stop()).await.unwrap();
    let mut taken = 0;
    while messages.next().await.is_some() {
        taken += 1;
    }
    assert_eq!(taken, 256);
}

#[tokio::test]
async fn a_message_with_an_fd_that_lingers_can_be_dropped_at_once_and_refused_at_once() {
    let attach = r#"attach=linger {"type":"message","id":1,"to":"handover","data":1,"fds":1}"#;
    let ask = r#"attach=linger {"type":"message","id":2,"to":"handover","data":2,"fds":1}"#;
    let Some(settings) = speakers(1, &["hello", READY, attach, ask, "drain"]) else { return };
    let supervisor = start(builder(&settings).take_messages()).await;
    let mut messages = supervisor.messages().unwrap();
    // Dropped with its fd, which then nobody else has; and one that waits in the queue until the end.
    let first = soon("the first", messages.next()).await.unwrap();
    let dropped = tokio::task::spawn_blocking(move || drop(first));
    soon("the drop", dropped).await.unwrap();
    soon("the status", supervisor.status()).await.unwrap();
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn questions_of_workers_are_answered_or_refused() {
    let ask =
        |id: u32| format!(r#"say={{"type":"message","id":{id},"reply":true,"to":"handover","data":{id}}}"#);
    let steps = ["hello", READY, &ask(1), "expect=reply", &ask(2), "expect=refused", "print=both", "drain"];
    let Some(settings) = speakers(1, &steps) else { return };
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel::<String>();
    let told = builder(&settings).take_messages().on_output(move |line| drop(send.send(line.text)));
    let supervisor = start(told).await;
    let mut messages = supervisor.messages().unwrap();
    let first = soon("the first", messages.next()).await.unwrap();
    assert!(first.is_question());
    first.reply(Payload::of(&json!({"answer": 42})).unwrap()).unwrap();
    drop(soon("the second", messages.next()).await.unwrap());
    let mut seen = Vec::new();
    while seen.last().is_none_or(|line| line != "both") {
        seen.push(soon("a line", lines.recv()).await.unwrap());
    }
    let line = |kind: &str| -> Value {
        let line = seen.iter().filter_map(|line| line.strip_prefix("got ")).find(|line| line.contains(kind));
        serde_json::from_str(line.unwrap()).unwrap()
    };
    let reply = line(r#""type":"reply""#);
    assert_eq!((&reply["data"]["answer"], &reply["from"]), (&json!(42), &json!("handover")));
    assert!(line(r#""type":"refused""#)["reason"].as_str().unwrap().contains("gave no answer"));
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_program_that_takes_no_messages_answers_no_questions() {
    let ask = r#"say={"type":"message","id":1,"reply":true,"to":"handover","data":1}"#;
    let Some(settings) = speakers(1, &["hello", ask, "expect=refused", READY, "drain"]) else { return };
    let supervisor = start(builder(&settings)).await;
    assert!(supervisor.messages().is_none());
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_message_reaches_the_workers_that_are_meant_and_says_who_did_not_get_it() {
    let Some(settings) = speakers(3, &["hello", READY, "drain"]) else { return };
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel::<(u32, String)>();
    let told = builder(&settings).on_output(move |line| drop(send.send((line.slot, line.text))));
    let supervisor = start(told).await;
    let all = supervisor.broadcast("to all").await.unwrap();
    assert_eq!((all.receivers, all.refused.len()), (3, 0));
    let pool = supervisor.send(Target::Pool("web".to_owned()), &json!({"to": "the pool"})).await.unwrap();
    assert_eq!(pool.receivers, 3);
    let one = supervisor.send(Target::Slot("web".to_owned(), 1), &json!({"to": "one"})).await.unwrap();
    assert_eq!(one.receivers, 1);
    loop {
        let (slot, line) = soon("the line", lines.recv()).await.unwrap();
        if line.contains(r#""data":{"to":"one"}"#) {
            break assert_eq!(slot, 1);
        }
    }
    let nobody = supervisor.send(Target::Worker(99), "x").await;
    assert!(matches!(&nobody, Err(Error::NotSent { message, .. }) if message.contains("99")), "{nobody:?}");
    assert!(matches!(supervisor.send(Target::Pool("x".to_owned()), "x").await, Err(Error::Refused(_))));
    let long = "x".repeat(1_000_000);
    assert!(matches!(supervisor.broadcast(&long).await, Err(Error::Unsendable(_))));
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_worker_is_asked_and_answers() {
    let Some(settings) = speakers(2, &["hello", READY, "answer", "drain"]) else { return };
    let supervisor = start(builder(&settings)).await;
    for slot in [0, 1] {
        let to = Target::Slot("web".to_owned(), slot);
        let answer = soon("its answer", supervisor.question(to, "how many?", Duration::from_secs(60))).await;
        let answer: Value = answer.unwrap().to().unwrap();
        assert_eq!(answer["to"], "how many?");
    }
    let gone = supervisor.question(Target::Worker(99), "?", Duration::from_secs(60)).await;
    assert!(matches!(&gone, Err(Error::NotAnswered(no)) if no.error == "gone"), "{gone:?}");
    assert!(matches!(supervisor.question(Target::All, "?", Duration::ZERO).await, Err(Error::Refused(_))));
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn who_asks_a_worker_without_a_channel_is_told() {
    let settings = Settings::new("plain").pool(workers(1, &["ready"]));
    let supervisor = start(builder(&settings)).await;
    assert!(matches!(supervisor.broadcast("x").await, Err(Error::NotSent { .. })));
    let to = Target::Slot("web".to_owned(), 0);
    let asked = supervisor.question(to, "x", Duration::from_secs(60)).await;
    assert!(matches!(asked, Err(Error::NotAnswered(_))), "{asked:?}");
    soon("the stop", supervisor.stop()).await.unwrap();
}

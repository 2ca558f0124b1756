//! Messages, questions and records.

use super::*;

#[test]
fn messages_are_answered_even_by_those_who_forget() {
    let (worker, mut handover) = connect(Options::default().messages(true));
    let mut messages = worker.messages();
    for id in 1..4 {
        handover
            .say(&format!(r#"{{"type":"message","id":{id},"from":"handover","data":[{id}],"reply":true}}"#));
    }
    let mut first = messages.next().unwrap();
    assert_eq!(first.to::<Vec<u8>>().unwrap(), [1]);
    assert!(first.to::<String>().is_err() && first.wants_reply());
    first.reply("well").unwrap();
    first.reply("again").unwrap();
    handover.hears(r#"{"type":"reply","re":1,"data":"well"}"#);
    drop(messages.next_within(LONG).unwrap());
    handover.hears(r#"{"type":"refused","re":2,"error":"failed","reason":"the worker did not reply"}"#);
    let mut third = {
        let future = pin!(messages.received());
        let Poll::Ready(Some(third)) = future.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it is there")
        };
        third
    };
    third.refuse("busy", "");
    handover.hears(r#"{"type":"refused","re":3,"error":"busy","reason":""}"#);
    drop(third);
    worker.begin_drain("test");
    assert!(messages.next().is_none());
    handover.say(r#"{"type":"message","from":"handover","data":1}"#);
    assert!(
        std::iter::repeat_with(|| messages.try_next()).flatten().next().is_some(),
        "also while it drains"
    );
}

#[test]
fn who_serves_until_the_end_takes_messages_while_draining() {
    let (worker, mut handover) = connect(Options::default().messages(true));
    worker.begin_drain("test");
    let mut messages = worker.messages().while_draining();
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(messages.received()).poll(&mut context).is_pending());
    assert!(messages.next_within(Duration::from_millis(1)).is_none());
    handover.say(r#"{"type":"message","from":"handover","data":1}"#);
    assert_eq!(messages.next().unwrap().to::<u8>().unwrap(), 1);
    drop(handover);
    assert!(messages.next().is_none());
    assert!(matches!(pin!(messages.received()).poll(&mut context), Poll::Ready(None)));
}

#[test]
fn a_question_is_waited_for_awaited_or_given_up() {
    let (worker, mut handover) = connect(Options::default());
    let ask = || worker.ask(Target::Worker(WorkerId(3)), &1, Duration::from_secs(2)).unwrap();
    let (waited, given_up) = (ask(), ask());
    let mut awaited = pin!(ask());
    handover.hears(r#"{"type":"message","id":1,"to":{"worker":3},"data":1,"reply":true,"timeout_ms":2000}"#);
    drop(given_up);
    handover.say(r#"{"type":"reply","re":2,"from":"handover","data":2}"#);
    handover.say(r#"{"type":"refused","re":3,"error":"gone"}"#);
    handover.say(r#"{"type":"reply","re":1,"from":"handover","data":3}"#);
    assert_eq!(waited.wait().unwrap().to::<u8>().unwrap(), 3);
    let Poll::Ready(Err(refused)) = awaited.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it came before the other")
    };
    assert!(matches!(refused, Error::Refused { error: ErrorCode::Gone, .. }));
    let lost = ask();
    drop(handover);
    assert!(matches!(lost.wait(), Err(Error::Lost)));
    assert!(matches!(worker.ask(Target::Handover, &1, LONG), Err(Error::NotConnected)));
}

#[test]
fn what_the_socket_does_not_take_is_bounded_and_written_later() {
    let (worker, mut handover) = connect(Options::default());
    let long = "x".repeat(100_000);
    let mut sent = 0;
    while worker.try_send(Target::Handover, &long).is_ok() {
        sent += 1;
    }
    assert!(sent >= 10, "1 MiB is kept");
    assert!(!worker.log(Level::Info, "", "left out", vec![]));
    assert!(!worker.flush(Duration::ZERO));
    for _ in 0..sent {
        assert!(handover.next().len() > long.len());
    }
    assert!(worker.flush(LONG));
    assert!(worker.log(Level::Info, "a::b", "back", vec![("n".to_owned(), Payload::of(&1).unwrap())]));
    handover.hears(r#"{"type":"log","level":"info","message":"back","target":"a::b","fields":{"n":1}}"#);
}

#[test]
fn a_messages_queue_that_nobody_takes_is_bounded() {
    let (worker, mut handover) = connect(Options::default().messages(true));
    for id in 0..1_030 {
        handover.say(&format!(r#"{{"type":"message","id":{id},"from":"handover","data":1,"reply":true}}"#));
    }
    for id in 1_024..1_030 {
        assert!(
            handover.next().starts_with(&format!(r#"{{"type":"refused","re":{id},"error":"queue_full""#))
        );
    }
    assert_eq!(worker.messages().next_within(LONG).unwrap().to::<u8>().unwrap(), 1);
}

#[test]
fn a_refusal_is_as_short_as_a_line() {
    let (worker, mut handover) = connect(Options::default().messages(true));
    handover.say(r#"{"type":"message","id":7,"from":"handover","data":1,"reply":true}"#);
    let mut message = worker.messages().next_within(LONG).unwrap();
    message.refuse(&"é".repeat(100_000), &"x".repeat(100_000));
    let refused = handover.next();
    assert!(refused.starts_with(r#"{"type":"refused","re":7,"error":"éé"#), "{refused:.60}");
    assert!(refused.len() < 65_536);
}

#[cfg(feature = "tracing")]
#[test]
fn several_layers_of_one_subscriber_are_no_mistake() {
    use tracing_subscriber::prelude::*;
    let (worker, mut handover) = connect(Options::default());
    let layers = || worker.tracing_layer();
    let subscriber = tracing_subscriber::registry().with(layers()).with(layers());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("request", client = "a").in_scope(|| tracing::info!("x"));
    });
    for _ in 0..2 {
        assert!(handover.next().ends_with(r#""fields":{"client":"a"}}"#));
    }
}

#[cfg(feature = "tracing")]
#[test]
fn events_keep_level_target_and_fields() {
    use tracing_subscriber::prelude::*;
    let (worker, mut handover) = connect(Options::default());
    assert!(alone().tracing_layer().is_none());
    let subscriber = tracing_subscriber::registry().with(worker.tracing_layer());
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("request", client = "a", code = tracing::field::Empty);
        let _entered = span.enter();
        span.record("code", 7);
        tracing::warn!(target: "app::db", ms = 1200, ok = false, client = "b", "slow {}", "query");
    });
    handover.hears(
        r#"{"type":"log","level":"warn","message":"slow query","target":"app::db","fields":{"ms":1200,"ok":false,"client":"b","code":7}}"#,
    );
}

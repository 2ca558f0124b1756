use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::id::{Generation, PoolName, RequestId, SlotIndex, WorkerId};
use crate::supervisor::{self, ExitStatus, Outcome, RolloutFailure, Scope, StartFailure, WorkerFailure};

const PAGE: &str = include_str!("../../../docs/control.md");

fn machine_place() -> supervisor::Place {
    supervisor::Place { pool: PoolName::new("web"), slot: SlotIndex(0), generation: Generation(4) }
}

fn who() -> Who {
    Who { worker: 9, place: Place::of(&machine_place()), pid: Some(1844) }
}

fn at() -> At {
    At { listener: "http".into(), address: "tcp://0.0.0.0:8080".into() }
}

fn drifted() -> Drifted {
    Drifted { at: at(), drift: vec!["its file is gone".into()], harmed: true }
}

fn failure() -> Failure {
    let start = StartFailure { stage: "exec".into(), reason: "no".into(), program_changed: false };
    let reason = RolloutFailure::Worker {
        worker: WorkerId(9),
        place: machine_place(),
        failure: WorkerFailure::Start(start),
    };
    Failure { hint: Some("look".into()), ..Failure::of_rollout(&reason, vec!["a secret".into()]) }
}

fn data(value: &Value) -> Payload {
    Payload::of(value).unwrap()
}

fn samples_of_workers() -> Vec<What> {
    let end = |status: ExitStatus| What::WorkerEnded { who: who(), end: End::of(status) };
    vec![
        What::WorkerStarted(who()),
        What::WorkerExecuted(who()),
        What::WorkerReady { who: who(), after: Duration::from_millis(2420) },
        What::WorkerNotReady {
            who: who(),
            after: Duration::from_secs(3),
            waiting_for: "READY=1".into(),
            hint: "send it".into(),
        },
        What::WorkerStatus { who: who(), status: "serving".into() },
        What::WorkerMessage { who: who(), data: Some(data(&json!({"a": [1, "b"], "said": "a secret"}))) },
        What::WorkerWorn { who: who(), reason: "memory".into() },
        What::WorkerDraining { who: who(), why: Retirement::Replaced },
        What::WorkerKilled(who()),
        What::SuccessorWaits(who()),
        What::WorkerLetGo { who: who(), reason: "process 7: operation not permitted".into() },
        What::StopSignal { effect: StopEffect::Ignored },
        What::TimeLost { by: Duration::from_secs(8), in_a_row: 1 },
        What::WorkerFailed { who: who(), failure: failure(), restart_in: Duration::ZERO, crash_loop: true },
        end(ExitStatus::Code(1)),
        end(ExitStatus::Signal { signal: 9, core: true }),
        end(ExitStatus::Unknown),
        What::WorkerStatusLost { who: who(), reason: "taken".into() },
        What::WorkerGone(who()),
    ]
}

fn samples_of_requests() -> Vec<What> {
    let web = || PoolName::new("web");
    let roll = |reread| {
        let scope = Scope { reread, pools: Some([web()].into()), changed_only: true };
        supervisor::Request::Roll(scope)
    };
    let requests = [
        roll(true),
        roll(false),
        supervisor::Request::Cancel { pool: Some(web()) },
        supervisor::Request::Scale { pool: web(), workers: Some(3) },
        supervisor::Request::Scale { pool: web(), workers: None },
        supervisor::Request::ScaleBy { pool: web(), by: -1 },
        supervisor::Request::Stop { now: true },
    ];
    let outcomes = [
        Outcome::Done { generation: Some(Generation(4)) },
        Outcome::RolledBack {
            generation: Generation(4),
            reason: RolloutFailure::Cancelled,
            kept: Vec::new(),
        },
        Outcome::Refused { reason: "no".into() },
        Outcome::Failed { reason: "no".into() },
    ];
    let received = requests.iter().map(|request| What::requested(RequestId(3).0, request));
    received.chain(outcomes.iter().map(|outcome| What::answered(3, outcome))).collect()
}

/// Each type, with all of its members somewhere.
fn samples() -> Vec<What> {
    let of = Of { generation: 4 };
    let daemon =
        Identity { name: "a".into(), pid: 1, version: "0.1.0".into(), started: stamp::rfc3339(UNIX_EPOCH) };
    let mut samples = vec![
        What::Hello { version: VERSION, daemon },
        What::Lost { count: 3 },
        What::PoolsRolled { pools: vec!["web".into()], listeners: vec!["http".into()] },
        What::RolloutStarted(of),
        What::CanaryProven(of),
        What::RollingBack { generation: 4, failure: failure() },
        What::RolloutDone(of),
        What::RolledBack { generation: 4, kept: vec![Place::of(&machine_place())] },
        What::ReloadRefused { reason: "a\nb".into() },
        What::GenerationCommitted(of),
        What::GenerationForgotten(of),
        What::ListenerBound { at: at(), afresh: false },
        What::ListenerAdopted(at()),
        What::ListenerClosed { at: at(), reset: 2 },
        What::ListenerDrifted(drifted()),
        What::ListenerMended(drifted()),
        What::DaemonReady,
        What::DaemonReloading,
        What::DaemonStopping,
        What::DaemonBroken { reason: "no".into() },
        What::DaemonEnded { failure: Some("no".into()) },
        What::DaemonEnded { failure: None },
    ];
    samples.extend(samples_of_workers());
    samples.extend(samples_of_requests());
    samples
}

fn event(what: What) -> Event {
    Event::new(17, UNIX_EPOCH, what)
}

/// The types that the code knows: what serde says when it is given another one.
fn types() -> BTreeSet<String> {
    let error = serde_json::from_value::<What>(json!({ "type": "?" })).unwrap_err().to_string();
    let (_, known) = error.split_once("expected one of").expect("serde lists what it expects");
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The members of each type, as the code writes them; those of every event left out.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let mut members = BTreeMap::<String, BTreeSet<String>>::new();
    for sample in samples() {
        let Value::Object(object) = serde_json::to_value(event(sample)).unwrap() else {
            panic!("an event is an object");
        };
        let kind = object["type"].as_str().unwrap().to_owned();
        let every = ["type", "number", "time", "message"];
        assert!(every.iter().all(|member| object.contains_key(*member)), "{kind}");
        let own = object.keys().filter(|key| !every.contains(&key.as_str()));
        members.entry(kind).or_default().extend(own.cloned());
    }
    members
}

/// The same, as the page says: the first two cells of each row of its table.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let (_, rest) = PAGE.split_once("<!-- events:begin -->").expect("the page has the table");
    let (table, _) = rest.split_once("<!-- events:end -->").expect("the table has an end");
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = table.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `type`"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (names(cells[0]).pop_first().expect("a type"), names(cells[1]))
    })
    .collect()
}

#[test]
fn the_page_has_each_type_with_its_members_and_no_other() {
    assert_eq!(members().keys().cloned().collect::<BTreeSet<_>>(), types(), "the samples have each type");
    assert_eq!(documented(), members());
}

#[test]
fn the_pages_example_is_a_stream() {
    let example = PAGE.split("```jsonl\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    let events: Vec<Event> = example.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(events[0].what, What::Hello { version: VERSION, .. }));
    for (line, event) in example.lines().zip(&events) {
        let written: Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(event).unwrap(), written, "as the code would write it");
        assert_eq!(event.message, event.what.to_string());
    }
    assert!(events.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
}

#[test]
fn an_event_reads_back_as_it_was_written() {
    for sample in samples() {
        let event = event(sample);
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.starts_with(r#"{"type":""#), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}

#[test]
fn who_may_only_look_sees_no_output() {
    for sample in samples() {
        let has = |event: &Event| serde_json::to_string(event).unwrap().contains("a secret");
        let event = event(sample);
        assert_eq!(has(&event), event.what.has_output(), "{event:?}");
        assert!(!has(&event.clone().without_output()));
    }
}

#[test]
fn a_message_of_a_worker_is_told_as_it_was_said_and_quoted_in_short() {
    let text = r#"{"n":1.50,"big":123456789012345678901234567890}"#;
    let told = event(What::WorkerMessage { who: who(), data: Some(Payload::from_json(text).unwrap()) });
    assert!(serde_json::to_string(&told).unwrap().contains(&format!("\"data\":{text}")));
    assert_eq!(told.message, format!("worker 9 sent a message: {text}"));
    let seen = told.without_output();
    assert_eq!(seen.message, "worker 9 sent a message");
    assert!(!serde_json::to_string(&seen).unwrap().contains("data"));
    for said in [json!(null), json!("é".repeat(1000))] {
        let told = event(What::WorkerMessage { who: who(), data: Some(data(&said)) });
        assert!(told.message.chars().count() < 300, "{}", told.message);
        assert_eq!(serde_json::from_str::<Event>(&serde_json::to_string(&told).unwrap()).unwrap(), told);
    }
}

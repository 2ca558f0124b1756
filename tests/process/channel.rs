//! Workers that speak on their channel: what they say, what they are told, and what they ask for. The worker is `tests/real/speaker.py`, which knows the protocol from its page and from nothing else.

use crate::support::eventually;
use crate::support::machine::{find, skipped};
use crate::support::service::{Plan, Service};

pub(crate) const SPEAKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/speaker.py");

/// A pool of speakers that do this.
pub(crate) fn speaker(steps: &[&str]) -> Option<Plan> {
    speaker_with(Plan::new(), steps)
}

pub(crate) fn speaker_with(plan: Plan, steps: &[&str]) -> Option<Plan> {
    if skipped("python3", find("python3").is_none()) {
        return None;
    }
    let python = find("python3")?;
    let words: Vec<&str> = [python.as_str(), SPEAKER].into_iter().chain(steps.iter().copied()).collect();
    Some(plan.command(&words).without_script())
}

/// The line that a worker printed.
pub(crate) fn printed(service: &Service, worker: u64, text: &str) -> String {
    let found = service.daemon.log.wait_for(text, |line| {
        line.is_worker_output()
            && line.field("worker").and_then(serde_json::Value::as_u64) == Some(worker)
            && line.message().contains(text)
    });
    found.message()
}

#[test]
fn what_a_worker_says_on_its_channel_counts_as_from_its_notify_socket() {
    let status = r#"say={"type":"status","text":"two \u001b[31m clients"}"#;
    let Some(plan) = speaker(&["hello", status, r#"say={"type":"ready"}"#, "drain"]) else { return };
    let service = plan.start();
    printed(&service, 1, r#"got {"type":"hello","version":1"#);
    let table = service.daemon.cli(&["status"]).text();
    assert!(table.contains("two  [31m clients"), "{table}");
    service.stop();
}

#[test]
fn a_worker_that_can_drain_is_told_so_and_gets_no_signal() {
    let steps = ["ignore-term", "hello", r#"say={"type":"ready"}"#, "drain"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.pool("drain_timeout", "\"50s\"").start();
    service.reload_and_settle();
    printed(&service, 1, r#"got {"type":"drain","reason":"its successor took over","deadline_ms":50000}"#);
    service.stop();
}

#[test]
fn one_that_does_not_drain_in_time_gets_its_signal_then() {
    let steps = ["ignore-term", "hello", r#"say={"type":"ready"}"#, "expect=drain", "hang", "exit=0"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.pool("drain_timeout", "\"100ms\"").start();
    service.reload_and_settle();
    printed(&service, 1, "SIGTERM came");
    service.stop();
}

#[test]
fn a_worker_that_wishes_it_is_replaced_and_serves_until_then() {
    let wish = r#"[worker=1] say={"type":"replace","reason":"memory"}"#;
    let steps = ["hello", r#"say={"type":"ready"}"#, "wait=0.5", wish, "drain"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.restart("stable_after", "\"1ms\"").start();
    service.daemon.log.wait_for("the wish", |line| line.text("reason").as_deref() == Some("memory"));
    printed(&service, 1, r#"got {"type":"drain""#);
    eventually("one worker, the second", || {
        let workers = service.daemon.status().workers("web");
        (workers.len() == 1 && workers[0].worker == 2 && workers[0].state == "ready").then_some(())
    });
    assert!(!service.daemon.status().mentions("\"restarts\":1"));
    service.stop();
}

#[test]
fn a_worker_that_does_not_answer_pings_is_found_out() {
    let steps = ["hello", r#"say={"type":"ready"}"#, "[worker=1] hang", "[worker=2] drain"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.pool("ping_timeout", "\"300ms\"").start();
    service.daemon.log.wait_for("why", |line| {
        line.text("reason").is_some_and(|reason| reason.contains("no answer to a ping for 300ms"))
    });
    printed(&service, 2, r#"got {"type":"ping","id":1}"#);
    service.stop();
}

#[test]
fn messages_go_to_one_worker_to_a_slot_to_a_pool_and_to_all_in_order() {
    let to = |to: &str, data: &str| format!(r#"[slot=0] say={{"type":"message","to":{to},"data":{data}}}"#);
    let steps = [
        "hello".to_owned(),
        r#"say={"type":"ready"}"#.to_owned(),
        "[worker=1] meet=2".to_owned(),
        "[worker=2] meet=1".to_owned(),
        r#"[slot=0] say={"type":"message","id":7,"to":{"worker":2},"data":"are you there?","reply":true}"#
            .to_owned(),
        "[slot=1] answer".to_owned(),
        "[slot=0] expect=reply".to_owned(),
        to(r#"{"worker":2}"#, "[1, 12345678901234567890123, {\\\"b\\\":2, \\\"a\\\":1}]")
            .replace("\\\"", "\""),
        to(r#"{"pool":"web","slot":1}"#, "2"),
        to(r#"{"pool":"web"}"#, "3"),
        to(r#""all""#, "4"),
        r#"[slot=0] say={"type":"message","id":8,"to":{"worker":99},"data":5}"#.to_owned(),
        r#"[slot=0] say={"type":"message","id":9,"to":"all","data":6}"#.to_owned(),
        "drain".to_owned(),
    ];
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.workers(2).start();
    let from = r#""from":{"pool":"web","slot":0,"worker":1}"#;
    let got = |data: &str| format!(r#"got {{"type":"message",{from},"data":{data}}}"#);
    printed(&service, 2, &got("6"));
    let messages: Vec<String> = service
        .daemon
        .log
        .lines()
        .iter()
        .map(|line| line.message())
        .filter(|line| line.starts_with(r#"got {"type":"message""#) && !line.contains("I am here"))
        .collect();
    let expected = ["[1, 12345678901234567890123, {\"b\":2, \"a\":1}]", "2", "3", "4", "6"].map(got);
    assert_eq!(messages[1..], expected, "to the other one, in order, byte for byte, and none to the sender");
    printed(
        &service,
        1,
        r#"got {"type":"reply","re":7,"from":{"pool":"web","slot":1,"worker":2},"data":{"from": 2, "to": "are you there?"}}"#,
    );
    printed(&service, 1, r#""re":8,"error":"gone""#);
    printed(&service, 1, r#"got {"type":"sent","re":9,"receivers":1,"refused":[]}"#);
    service.stop();
}

#[test]
fn who_asks_hears_of_a_worker_that_ends_or_is_late_before_it_answers() {
    let ask = |id: u32, to: u32, more: &str| {
        format!(
            r#"[worker=1] say={{"type":"message","id":{id},"to":{{"worker":{to}}},"data":"?","reply":true{more}}}"#
        )
    };
    let (late, gone) = (ask(1, 2, r#","timeout_ms":100"#), ask(2, 3, ""));
    let steps = [
        "hello",
        r#"say={"type":"ready"}"#,
        "[worker=1] meet=2",
        "[worker=1] meet=3",
        "[worker=2] meet=1",
        "[worker=3] meet=1",
        "[worker=3] question",
        "[worker=3] exit=1",
        &late,
        &gone,
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.workers(3).restart("backoff", "\"30s\"").restart("backoff_max", "\"60s\"").start();
    printed(&service, 1, r#""re":1,"error":"timeout""#);
    let gone = printed(&service, 1, r#""re":2,"error":"gone""#);
    assert!(gone.contains("worker 3"), "{gone}");
    service.stop();
}

#[test]
fn a_socket_by_address_is_the_same_for_all_who_ask_and_stays_over_rollouts() {
    let steps = ["hello", r#"listen={"address":"tcp://127.0.0.1:0"}"#, r#"say={"type":"ready"}"#, "drain"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.workers(2).pool("allow_listen", "[\"tcp://127.0.0.1:0\"]").start();
    let of = |worker| {
        let line = printed(&service, worker, "socket tcp://127.0.0.1:0 tcp://127.0.0.1:");
        line.split_once("socket ").expect("it is there").1.to_owned()
    };
    let (first, second) = (of(1), of(2));
    assert_eq!(first, second, "port and inode");
    service.reload_and_settle();
    assert_eq!(of(3), first);
    service.stop();
}

#[test]
fn a_worker_that_lives_on_is_told_that_its_address_is_no_longer_wanted() {
    let steps = [
        "hello",
        r#"[worker=1] listen={"address":"tcp://127.0.0.1:0"}"#,
        r#"say={"type":"ready"}"#,
        "[worker=1] expect=listener_removed",
        "[worker=1] exit=0",
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let mut service = plan.pool("allow_listen", "[\"tcp://127.0.0.1:0\"]").start();
    service.configure("pool.web", "allow_listen", None);
    service.reload_and_settle();
    let line = printed(&service, 1, r#"got {"type":"listener_removed""#);
    assert_eq!(line, r#"got {"type":"listener_removed","name":"tcp://127.0.0.1:0"}"#);
    service.stop();
}

#[test]
fn a_listener_of_the_pool_is_given_again_by_name_and_nothing_else_is() {
    let steps = [
        "hello",
        r#"listen={"name":"http"}"#,
        r#"listen={"name":"admin"}"#,
        r#"listen={"address":"tcp://127.0.0.1:1"}"#,
        r#"listen={"address":"nonsense"}"#,
        r#"say={"type":"ready"}"#,
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.start();
    printed(&service, 1, &format!("socket http {} [", service.address()));
    let no = |text: &str| printed(&service, 1, text);
    no(r#""error":"not_allowed","reason":"\"admin\" is not one of the listeners of pool web""#);
    no(r#""error":"not_allowed","reason":"tcp://127.0.0.1:1 is not in allow_listen of pool web""#);
    no(r#""error":"bad_request""#);
    service.stop();
}

#[test]
fn an_address_that_cannot_be_had_is_refused_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", taken.local_addr().expect("it is bound"));
    let listen = format!(r#"listen={{"address":"{address}"}}"#);
    let Some(plan) = speaker(&["hello", &listen, r#"say={"type":"ready"}"#, "drain"]) else { return };
    let service = plan.pool("allow_listen", &format!("[\"{address}\"]")).start();
    let no = printed(&service, 1, r#""error":"failed""#);
    assert!(no.contains("already in use"), "{no}");
    service.stop();
}

#[test]
fn a_worker_gives_a_socket_to_another_with_data() {
    let steps = [
        "hello",
        r#"say={"type":"ready"}"#,
        "[worker=1] meet=2",
        "[worker=2] meet=1",
        "[slot=1] use",
        r#"[slot=0] give={"pool":"web","slot":1}"#,
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.workers(2).start();
    printed(&service, 1, "through it came thanks");
    printed(&service, 2, r#""data":"a socket","fds":1} +1"#);
    printed(&service, 1, r#"got {"type":"sent","re":9,"receivers":1,"refused":[]}"#);
    service.stop();
}

#[test]
fn a_worker_that_takes_no_fds_is_given_none() {
    let steps = [
        "[worker=1] hello",
        r#"[worker=2] hello={"capabilities":["messages","drain"]}"#,
        r#"say={"type":"ready"}"#,
        "[worker=1] meet=2",
        "[worker=2] meet=1",
        "[worker=1] give={\"worker\":2}",
        r#"[worker=2] listen={"name":"http"}"#,
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.workers(2).start();
    printed(&service, 1, r#""re":9,"error":"unsupported","reason":"it takes no fds""#);
    printed(&service, 2, r#""re":1,"error":"unsupported""#);
    service.stop();
}

#[test]
fn records_keep_their_level_target_and_fields() {
    let record = r#"say={"type":"log","level":"warn","message":"slow","target":"app::db","fields":{"ms":1200,"pool":"mine"}}"#;
    let Some(plan) = speaker(&["hello", record, r#"say={"type":"ready"}"#, "drain"]) else { return };
    let service = plan.start();
    let line = service.daemon.log.wait_for("the record", |line| line.message() == "slow");
    assert_eq!(line.text("level").as_deref(), Some("warn"));
    assert_eq!(line.text("target").as_deref(), Some("app::db"));
    assert_eq!(line.text("stream").as_deref(), Some("channel"));
    assert_eq!(line.text("pool").as_deref(), Some("web"));
    assert_eq!(line.field("fields"), Some(&serde_json::json!({"ms": 1200, "pool": "mine"})));
    service.stop();
}

#[test]
fn the_last_records_of_a_worker_come_before_its_end() {
    let steps =
        ["hello", r#"say={"type":"ready"}"#, "[worker=1] log-many=2000", "[worker=1] exit=3", "drain"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.start();
    service.daemon.log.wait_for("its end", |line| line.message() == "worker ended");
    service.daemon.log.wait_for("the last one", |line| line.message() == "last 1999");
    let records =
        service.daemon.log.lines().iter().filter(|line| line.message().starts_with("last ")).count();
    assert_eq!(records, 2000);
    service.stop();
}

#[test]
fn a_worker_that_closes_its_end_without_a_hello_goes_on_as_a_plain_one() {
    let Some(plan) = speaker(&["close", "hang"]) else { return };
    let service = plan.pool("ready", "\"exec\"").start();
    service.daemon.settle();
    service.reload_and_settle();
    assert!(!service.daemon.log.text().contains("channel"), "{}", service.daemon.log.text());
    service.stop();
}

#[test]
fn a_worker_of_the_next_version_is_spoken_to_and_one_of_none_goes_on_without() {
    let steps = [
        r#"[slot=0] hello={"version":2,"new":true}"#,
        r#"[slot=1] hello={"version":0}"#,
        "[slot=0] say={\"type\":\"ready\"}",
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.workers(2).pool("start_timeout", "\"60s\"").begin();
    service.daemon.log.wait_for("the newer one", |line| line.message() == "worker ready");
    printed(&service, 2, r#"got {"type":"refused","error":"version""#);
    printed(&service, 2, "the channel has ended");
    service.stop();
}

/// A pool whose program is this Node script.
fn node(script: &str) -> Option<Plan> {
    if skipped("node", find("node").is_none()) {
        return None;
    }
    let plan = Plan::new();
    let path = plan.scratch.join("program.js");
    plan.scratch.write("program.js", script);
    let plan = plan.command(&[&find("node")?, path.to_str().expect("a plain path")]).without_script();
    Some(
        plan.pool("channel", "\"node\"").variable("CLIENTS", concat!(env!("CARGO_MANIFEST_DIR"), "/clients")),
    )
}

#[test]
fn an_unmodified_node_program_says_ready_takes_messages_and_is_told_to_shut_down() {
    let script = "
        process.on('SIGTERM', () => console.log('SIGTERM came'));
        process.on('message', (m) => {
            console.log('got ' + JSON.stringify(m));
            if (m === 'shutdown') process.exit(0);
            process.send({ answer: m });
        });
        setTimeout(() => process.send('ready'), 50);
    ";
    let Some(plan) = node(script) else { return };
    let service = plan.pool("stop_message", "\"shutdown\"").start();
    let events = service.daemon.events();
    service.daemon.cli(&["send", "hello"]).assert_code(handover::exit::DONE);
    printed(&service, 1, "got \"hello\"");
    events.wait_for("its answer", |event| event.message.contains(r#"{"answer":"hello"}"#));
    events.close();
    service.reload_and_settle();
    printed(&service, 1, "got \"shutdown\"");
    assert!(!service.daemon.log.text().contains("SIGTERM came"), "{}", service.daemon.log.text());
    service.stop();
}

#[test]
fn a_node_program_with_a_hello_of_too_old_a_version_goes_on_as_a_plain_one() {
    let script = "
        process.on('disconnect', () => console.log('the channel has ended'));
        process.on('message', (m) => console.log('got ' + JSON.stringify(m)));
        process.send({ handover: { type: 'hello', version: 0, capabilities: ['drain'] } });
        setInterval(() => {}, 1000);
    ";
    let Some(plan) = node(script) else { return };
    let service = plan.pool("ready", "\"exec\"").start();
    printed(&service, 1, "the channel has ended");
    service.daemon.log.wait_for("why", |line| line.text.contains("channel closed: "));
    // What follows from that follows at once.
    let status = service.daemon.status();
    assert_eq!(
        status.pool("web").map(|pool| pool["slots"][0]["workers"][0]["worn"].clone()),
        Some(false.into())
    );
    assert_eq!(status.ready("web").len(), 1);
    service.stop();
}

#[test]
fn a_node_program_with_the_client_gets_sockets_by_address_and_gives_them_to_a_sibling() {
    let script = "
        const net = require('net');
        const handover = require(process.env.CLIENTS + '/handover.js');
        const server = net.createServer({ pauseOnConnect: true }, async (socket) => {
            if (handover.slot === 1) return socket.end('from ' + handover.slot);
            await handover.send({ pool: 'web', slot: 1 }, 'a client', { handle: socket });
        });
        handover.on('message', (m) => m.handle && m.handle.end('passed on to ' + handover.slot));
        handover.on('drain', () => process.exit(0));
        (async () => {
            if (handover.slot === 0) {
                const at = await handover.listen(server, 'tcp://127.0.0.1:0');
                console.log('listens ' + at.address);
            }
            handover.ready();
        })();
    ";
    let Some(plan) = node(script) else { return };
    let service = plan.workers(2).pool("allow_listen", "[\"tcp://127.0.0.1:0\"]").start();
    let at = printed(&service, 1, "listens tcp://");
    eventually("both are ready", || (service.ready().len() == 2).then_some(()));
    let address = at.trim_start_matches("listens tcp://").to_owned();
    let mut client = std::net::TcpStream::connect(&address).expect("it listens");
    client.set_read_timeout(Some(crate::support::PATIENCE)).expect("it is a socket");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut client, &mut text).expect("an answer");
    assert_eq!(text, "passed on to 1");
    service.stop();
}

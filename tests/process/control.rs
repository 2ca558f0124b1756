//! The control socket and its clients, good and bad.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::support::daemon::{Running, command};
use crate::support::eventually;
use crate::support::machine::{AS_NOBODY, cannot_be_nobody};
use crate::support::service::{Plan, Service};

fn connect(service: &Service) -> UnixStream {
    let stream = UnixStream::connect(service.daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("our socket");
    stream
}

fn ask(service: &Service, request: &[u8]) -> String {
    let mut stream = connect(service);
    // The server may refuse and close before it has read all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_socket_is_its_owners_alone() {
    let service = Plan::new().start();
    let file = std::fs::metadata(service.daemon.socket()).expect("a socket");
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o777, 0o600);
    let path = service.daemon.socket().to_owned();
    let Service { mut daemon, plan } = service;
    daemon.stop();
    assert!(!path.exists());
    drop(plan);
}

#[test]
fn status_is_http_and_json() {
    let service = Plan::new().workers(2).start();
    let answer = ask(&service, b"GET /v1/status HTTP/1.1\r\nHost: handover\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("content-type: application/json"), "{answer}");
    let status = service.daemon.status();
    assert_eq!(status.ready("web").len(), 2);
    assert!(status.listener("http").is_some(), "{status:?}");
    service.stop();
}

/// The members of all objects in `value`, by where they stand: `pools[].slots[].workers[].pid`.
fn members(value: &Value, at: &str, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                into.entry(at.clone())
                    .and_modify(|old| {
                        if old.is_null() {
                            *old = value.clone()
                        }
                    })
                    .or_insert_with(|| value.clone());
                members(value, &at, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, &format!("{at}[]"), into)),
        _ => {}
    }
}

#[test]
fn the_status_document_has_the_members_that_are_documented_and_no_others() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/control.md"))
        .expect("it is there");
    let example =
        page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example: Value = serde_json::from_str(example).expect("the example is JSON");
    let hello = "[slot=0] hello=messages\nserve\nready";
    let service = Plan::new().workers(2).rollout("bake_time", "\"300ms\"").script(hello).start();
    service.deploy("eprint=no\nexit=1");
    service.reload().assert_code(handover::exit::FAILED);
    let mut found = BTreeMap::new();
    eventually("its hello", || service.daemon.status().mentions("\"channel\"").then_some(()));
    let mut look = || members(&service.daemon.status().0, "", &mut found);
    look();
    service.deploy("serve\nready\nend-takes=500ms");
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "ready" && report.generation == 3);
    look();
    reload.finish().assert_code(handover::exit::DONE);
    service.reload_well();
    look();
    let mut documented = BTreeMap::new();
    members(&example, "", &mut documented);
    for (at, example) in &documented {
        let value = found.get(at).unwrap_or_else(|| panic!("{at} is documented, and not there: {found:#?}"));
        let same = std::mem::discriminant(value) == std::mem::discriminant(example);
        assert!(same || value.is_null() || example.is_null(), "{at}: {value} instead of {example}");
    }
    // A moment is documented once, for all places.
    let is_moment = |at: &str| at.ends_with(".time") || at.ends_with(".seconds_ago");
    for at in found.keys().filter(|at| !documented.contains_key(*at) && !is_moment(at)) {
        let name = at.rsplit('.').next().unwrap_or(at);
        assert!(page.contains(&format!("`{name}`")), "{at} is not documented");
    }
    service.stop();
}

#[test]
fn a_member_of_the_control_group_may_look_and_nothing_else() {
    if cannot_be_nobody() {
        return;
    }
    let service =
        Plan::new().top("control_group", "\"daemon\"").script("eprint=a secret\nserve\nready").start();
    let file = std::fs::metadata(service.daemon.socket()).expect("a socket");
    assert_eq!((file.mode() & 0o777, file.gid()), (0o660, 1));
    assert!(service.daemon.status().mentions("a secret"));
    let reader = ["setpriv", "--reuid=65534", "--regid=65534", "--groups=1", "--"];
    let output = service.daemon.cli_under(&reader, &["status", "--json"]);
    output.assert_code(0).assert_says("\"ready\"");
    assert!(!output.stdout.contains("a secret"), "{output:#?}");
    for words in
        [&["reload"][..], &["restart"], &["cancel"], &["scale", "web", "2"], &["stop"], &["send", "x"]]
    {
        let output = service.daemon.cli_under(&reader, words);
        assert!(!matches!(output.code, Some(0)), "{output:#?}");
        output.assert_says("permitted");
    }
    let stranger = service.daemon.cli_under(&AS_NOBODY, &["status"]);
    stranger.assert_code(handover::exit::NO_DAEMON).assert_says("hint: only root");
    assert_eq!(service.reports().count("started"), 1);
    service.stop();
}

#[test]
fn status_for_people_names_what_there_is() {
    let service = Plan::new().workers(2).start();
    let output = service.daemon.cli(&["status"]);
    output.assert_code(0).assert_says("web").assert_says("ready").assert_says("http");
    let Service { daemon: _, plan: _ } = service;
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let service = Plan::new().start();
    let huge = [
        b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n".as_slice(),
        &vec![b'x'; 1 << 20],
    ]
    .concat();
    let endless_head = [b"GET /v1/status HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let requests: [&[u8]; 9] = [
        b"",
        b"\0\xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{\"unknown\": 17}",
        b"POST /v1/scale HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n]]]]",
        &huge,
        &endless_head,
    ];
    for request in requests {
        let mut stream = connect(&service);
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{request:.100?}: {answer}");
    }
    assert_eq!(service.reports().count("started"), 1, "nothing was reloaded");
    service.stop();
}

#[test]
fn clients_that_say_half_or_never_read_hold_nobody_up() {
    let service = Plan::new().start();
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = connect(&service);
        let request: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /v1/reload HTTP/1.1\r\nContent-Le",
            _ => b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        stream.write_all(request).expect("it listens");
        idle.push(stream);
    }
    service.daemon.cli(&["status"]).assert_code(0);
    service.reload_well();
    service.stop();
}

#[test]
fn a_client_that_goes_away_during_a_reload_stops_nothing() {
    let service = Plan::new().script("serve\n[generation=2] wait=100ms\nready").start();
    let mut stream = connect(&service);
    stream
        .write_all(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .expect("it listens");
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    drop(stream);
    service.reports().wait("it goes on", |report| report.what == "ready" && report.generation == 2);
    service.reload_well();
    service.stop();
}

#[test]
fn without_a_daemon_clients_say_so() {
    let scratch = crate::support::scratch::Scratch::new();
    for words in [&["status"][..], &["reload"], &["stop"], &["scale", "web", "2"], &["send", "x"]] {
        let path = scratch.join("none");
        let output = Running::start(command(words).arg("--socket").arg(&path)).finish();
        output.assert_code(handover::exit::NO_DAEMON).assert_says(&path.display().to_string());
    }
    // A socket that a dead daemon left.
    let path = scratch.join("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a free path"));
    let output = Running::start(command(["status", "--socket"]).arg(&path)).finish();
    output.assert_code(handover::exit::NO_DAEMON);
}

#[test]
fn a_daemon_that_is_stopped_is_not_waited_for_for_ever() {
    let service = Plan::new().start();
    service.daemon.signal(libc::SIGSTOP);
    let output = service.daemon.cli(&["reload", "--timeout", "200ms"]);
    assert!(matches!(output.code, Some(3 | 4)), "{output:?}");
    service.daemon.signal(libc::SIGCONT);
    service.stop();
}

#[test]
fn check_tells_good_from_bad() {
    let plan = Plan::new();
    let path = plan.write();
    let words = ["check".to_owned(), path.display().to_string()];
    Running::start(&mut command(&words)).finish().assert_code(0);
    let printed = Running::start(command(&words).arg("--print")).finish();
    printed.assert_code(0);
    let canonical = plan.scratch.write("canonical.toml", &printed.stdout);
    let again = Running::start(command(["check", "--print"]).arg(&canonical)).finish();
    assert_eq!(again.assert_code(0).stdout, printed.stdout);
    plan.scratch.write("c.toml", "[pool.web]\ncommand = 1\n[pool.x]\n");
    let bad = Running::start(&mut command(&words)).finish();
    bad.assert_code(handover::exit::USAGE).assert_says("c.toml:2:").assert_says("c.toml:3:");
}

#[test]
fn a_control_socket_whose_file_was_removed_is_bound_afresh_by_a_hangup() {
    let service = Plan::new().start();
    let path = service.daemon.socket();
    std::fs::remove_file(path).expect("it is there");
    service.daemon.signal(libc::SIGHUP);
    let line = service
        .daemon
        .log
        .wait_for("a warning", |line| line.message() == "control socket lost its file, bound afresh");
    assert_eq!(line.text("path").as_deref(), path.to_str());
    service.daemon.log.wait_for("the end of the reload", |line| line.message() == "rollout done");
    service.reload_well();
    service.stop();
}

#[test]
fn workers_start_and_clients_are_heard_though_the_runtime_directory_was_removed() {
    let service = Plan::new().start();
    let directory = service.daemon.socket().parent().expect("a directory").to_owned();
    std::fs::remove_dir_all(&directory).expect("it is there");
    service.daemon.signal(libc::SIGHUP);
    service.daemon.log.wait_for("a warning", |line| {
        line.message() == "directory was removed while in use, and is made anew"
    });
    service.daemon.log.wait_for("the end of the reload", |line| line.message() == "rollout done");
    assert!(directory.join("notify").is_dir() && directory.join("lock").is_file());
    service.reload_well();
    service.stop();
    assert!(!directory.join("lock").exists());
}

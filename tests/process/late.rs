//! A worker that starts and lacks something: after three seconds log and status say what, and the ways out.

use crate::channel::speaker;
use crate::support::child::OwnedChild;
use crate::support::log::Line;
use crate::support::service::{Plan, Service, quoted};

/// Waits for the line of the log.
#[track_caller]
fn told(service: &Service) -> (Line, String) {
    let line =
        service.daemon.log.wait_for("what is missing", |line| line.message() == "worker not ready yet");
    let waiting_for = line.text("waiting_for").expect("it has that");
    assert!(line.text("hint").is_some_and(|hint| hint.contains("set ready = ")), "{}", line.text);
    (line, waiting_for)
}

/// It is in the log, in the status, and in the first line of that.
#[track_caller]
fn lacks(plan: Plan, what: &str) -> Service {
    let service = plan.begin();
    let (line, waiting_for) = told(&service);
    assert!(waiting_for.contains(what), "{}", line.text);
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(status.contains(&format!("waiting for {waiting_for}")), "{status}");
    assert!(status.contains("hint: ") && status.contains("set ready = "), "{status}");
    let first = status.lines().next().unwrap_or_default();
    assert!(
        first.contains("starting: 0 of 1 workers ready, worker 1 (pool web, slot 0) waits for")
            && first.contains(what),
        "{status}"
    );
    let json = service.daemon.cli(&["status", "--json"]).stdout;
    assert!(json.contains("\"waiting_for\""), "{json}");
    service
}

#[test]
fn one_that_never_says_that_it_is_ready() {
    let service = lacks(Plan::new().script("serve\nhang"), "READY=1: it never wrote to NOTIFY_SOCKET");
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(status.contains("set ready = \"accept\"") && status.contains("\"exec\""), "{status}");
    service.stop();
}

#[test]
fn one_that_says_something_else() {
    lacks(Plan::new().script("status=warming\nhang"), "it wrote to NOTIFY_SOCKET, but not that").stop();
}

#[test]
fn one_that_writes_no_newline() {
    let plan = Plan::new().pool("ready", "\"fd\"").pool("ready_fd", "4");
    lacks(plan.script("serve\nhang"), "a newline on fd 4 (ready_fd)").stop();
}

#[test]
fn one_that_waits_on_one_of_its_listeners_only() {
    let other = quoted(&crate::support::scratch::Address::tcp().to_string());
    let plan = Plan::new().set("listener.admin", "address", &other).pool("ready", "\"accept\"");
    let plan = plan.pool("listeners", "[\"http\", \"admin\"]").script("hang");
    lacks(plan, "waits on listener http (fd 3, tcp://").stop();
}

#[test]
fn one_that_says_hello_on_its_channel_and_no_more() {
    let Some(plan) = speaker(&["hello", "drain"]) else { return };
    lacks(plan, "it said hello there, but not that it is ready").stop();
}

#[test]
fn one_that_is_ready_in_time_is_not_told_of() {
    let service = Plan::new().start();
    assert!(!service.daemon.log.text().contains("worker not ready yet"));
    service.stop();
}

#[test]
fn a_client_that_waits_for_a_rollout_is_told_too() {
    let service = Plan::new().start();
    service.deploy("serve\nhang");
    let reload = service.daemon.begin(&["reload"]);
    told(&service);
    service.daemon.cli(&["cancel"]).assert_code(handover::exit::DONE);
    let output = reload.finish();
    assert!(output.text().contains("is not ready after 3.0s, waiting for READY=1"), "{}", output.text());
    service.stop();
}

#[test]
fn who_wrote_in_its_place_and_why_that_does_not_count_is_said() {
    let plan = Plan::new().pool("start_timeout", "\"6s\"").restart("burst", "1").script("serve\nhang");
    let mut service = plan.begin();
    let worker = service.reports().wait("it runs", |report| report.what == "started");
    let environment = std::fs::read(format!("/proc/{}/environ", worker.pid)).expect("it lives");
    let path = environment.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"NOTIFY_SOCKET="));
    let path = String::from_utf8_lossy(path.expect("each worker has one")).into_owned();
    let stranger = OwnedChild::spawn(
        std::process::Command::new(crate::support::scripted_worker())
            .arg(format!("forge-notify={path}"))
            .arg("hang"),
    );
    let (_, waiting_for) = told(&service);
    let uid = nix::unistd::getuid();
    let said = format!(
        "READY=1: pid {} (scripted_worker, uid {uid}) sent it, which does not count: sender outside the worker's process group",
        stranger.pid()
    );
    assert_eq!(waiting_for, said);
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains(&format!("it waited for {said}; send READY=1 from a process of the worker's own")),
        "{log}"
    );
    assert!(!log.contains("never wrote"), "{log}");
}

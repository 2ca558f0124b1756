//! A bad deploy changes nothing: the command fails, says why, and not one request is lost.

use std::path::PathBuf;

use crate::support::daemon::Output;
use crate::support::load::{Load, Running};
use crate::support::service::{Plan, Service};

/// Three workers that have half a second to start; a bake time that sees a death 200 ms after readiness.
fn plan() -> Plan {
    Plan::new().pool("start_timeout", "\"500ms\"").rollout("bake_time", "\"500ms\"")
}

fn service(plan: Plan) -> (Service, Running) {
    let service = plan.workers(3).start();
    let load = Load::open(service.address(), 200).start();
    (service, load)
}

/// What holds after every failed deploy, and that the next good one works.
#[track_caller]
fn nothing_changed(service: &Service, load: Running, output: &Output, texts: &[&str]) {
    output.assert_code(handover::exit::FAILED);
    for text in texts {
        output.assert_says(text);
    }
    let ready = service.ready();
    assert_eq!(ready.len(), 3, "{ready:?}");
    assert!(ready.iter().all(|worker| worker.generation == 1), "{ready:?}");
    let tally = load.stop();
    tally.assert_nothing_lost();
    let status = service.daemon.cli(&["status"]).stdout;
    for text in texts {
        assert!(status.contains(text), "nothing of {text:?} in:\n{status}");
    }
    service.deploy("version=good");
    service.reload_and_settle();
    assert_eq!(service.get("/").expect("an answer").version(), "good");
}

#[test]
fn a_program_that_crashes() {
    let (service, load) = service(plan());
    service.deploy("eprint=unwise\ncrash");
    let output = service.reload();
    nothing_changed(&service, load, &output, &["unwise", "signal 11"]);
    service.stop();
}

#[test]
fn a_program_that_exits() {
    let (service, load) = service(plan());
    service.deploy("print=first\neprint=no such table: users\nexit=3");
    let output = service.reload();
    nothing_changed(&service, load, &output, &["no such table: users", "status 3"]);
    service.stop();
}

#[test]
fn a_program_that_hangs() {
    let (service, load) = service(plan());
    service.deploy("eprint=connecting to the database\nhang");
    let output = service.reload();
    nothing_changed(&service, load, &output, &["connecting to the database", "500ms"]);
    service.stop();
}

#[test]
fn a_program_that_hangs_and_ignores_sigterm() {
    let (service, load) = service(plan().pool("stop_timeout", "\"200ms\""));
    service.deploy("ignore-term\nhang");
    let output = service.reload();
    nothing_changed(&service, load, &output, &["500ms"]);
    service.stop();
}

#[test]
fn a_program_that_dies_soon_after_it_was_ready() {
    let (service, load) = service(plan());
    service.deploy("serve\nready\nwait=200ms\neprint=out of luck\nexit=7");
    let output = service.reload();
    output.assert_code(handover::exit::FAILED);
    output.assert_says("out of luck").assert_says("status 7");
    assert!(service.ready().iter().all(|worker| worker.generation == 1));
    // The canary served, and what it had accepted when it died is lost with it: that is the program's own doing.
    drop(load);
    service.deploy("version=good");
    service.reload_well();
    service.stop();
}

/// A program of its own in a file, so that the file can be changed.
fn own_program() -> (Plan, PathBuf) {
    let plan = plan();
    let text = format!("#!/bin/sh\nexec {}\n", crate::support::scripted_worker().display());
    let path = plan.scratch.write_program("program", &text);
    let plan = plan.command(&[path.to_str().expect("a path in /tmp")]);
    (plan, path)
}

#[test]
fn a_program_that_is_gone() {
    let (plan, path) = own_program();
    let (service, load) = service(plan);
    let text = std::fs::read_to_string(&path).expect("our file");
    std::fs::remove_file(&path).expect("our file");
    let output = service.reload();
    service.plan.scratch.write_program("program", &text);
    nothing_changed(&service, load, &output, &["program"]);
    service.stop();
}

#[test]
fn a_program_that_cannot_be_executed() {
    let (plan, path) = own_program();
    let (service, load) = service(plan);
    let text = std::fs::read_to_string(&path).expect("our file");
    service.plan.scratch.write("program", &text);
    let output = service.reload();
    service.plan.scratch.write_program("program", &text);
    nothing_changed(&service, load, &output, &["program", "exec"]);
    service.stop();
}

#[test]
fn a_program_that_is_no_program() {
    let (plan, path) = own_program();
    let (service, load) = service(plan);
    let text = std::fs::read_to_string(&path).expect("our file");
    service.plan.scratch.write_program("program", "\u{7f}ELF, or so it says");
    let output = service.reload();
    service.plan.scratch.write_program("program", &text);
    nothing_changed(&service, load, &output, &["exec"]);
    service.stop();
}

#[test]
fn a_later_worker_that_fails_takes_the_earlier_ones_back() {
    let (service, load) = service(plan().rollout("max_failures", "1"));
    service.deploy("[slot=2] exit=9\nserve\nready");
    let output = service.reload();
    nothing_changed(&service, load, &output, &["status 9"]);
    service.stop();
}

#[test]
fn a_rollout_that_passes_its_deadline_is_rolled_back() {
    let plan = plan().rollout("bake_time", "\"100ms\"").rollout("deadline", "\"300ms\"");
    let (service, load) = service(plan.pool("start_timeout", "\"10s\""));
    service.deploy("hang");
    let output = service.reload();
    output.assert_code(handover::exit::FAILED).assert_says("deadline");
    load.stop().assert_nothing_lost();
    assert!(service.ready().iter().all(|worker| worker.generation == 1));
    service.stop();
}

#[test]
fn a_cancelled_rollout_is_rolled_back_and_says_so_to_who_waits() {
    let (service, load) = service(plan().rollout("bake_time", "\"60s\""));
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "ready" && report.generation == 2);
    service.daemon.cli(&["cancel"]).assert_code(handover::exit::DONE);
    reload.finish().assert_code(handover::exit::FAILED).assert_says("cancel");
    assert!(service.ready().iter().all(|worker| worker.generation == 1));
    load.stop().assert_nothing_lost();
    service.daemon.cli(&["cancel"]).assert_code(handover::exit::FAILED);
    service.stop();
}

#[test]
fn a_second_failure_is_measured_against_the_same_good_generation() {
    let (service, load) = service(plan());
    for status in ["1", "2", "3"] {
        service.deploy(&format!("exit={status}"));
        service.reload().assert_code(handover::exit::FAILED).assert_says(&format!("status {status}"));
        assert!(service.ready().iter().all(|worker| worker.generation == 1));
    }
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(status.contains("status 3") && !status.contains("status 1"), "{status}");
    load.stop().assert_nothing_lost();
    service.stop();
}

#[test]
fn a_rollback_of_a_program_that_no_longer_exists_keeps_the_ready_worker() {
    let (plan, path) = own_program();
    let (service, load) = service(plan.rollout("bake_time", "\"20ms\""));
    // Slot 0 moves to the new program; slot 1 fails; the old program is then no longer there.
    let text = format!("#!/bin/sh\n# new\nexec {}\n", crate::support::scripted_worker().display());
    std::fs::remove_file(&path).expect("our file");
    service.plan.scratch.write_program("program", &text);
    service.deploy("[slot=1] exit=9\nserve\nready");
    let output = service.reload();
    output.assert_code(handover::exit::FAILED).assert_says("rolled back in part");
    let ready = service.ready();
    assert_eq!(
        ready.len(),
        3,
        "a rollback never ends a ready worker before its replacement is ready: {ready:?}"
    );
    load.stop().assert_nothing_lost();
    service.stop();
}

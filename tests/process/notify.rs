//! What workers, and others, send to a worker's notify socket.

use crate::support::child::OwnedChild;
use crate::support::machine::{skipped, succeeds};
use crate::support::service::Plan;

#[test]
fn garbage_and_giants_are_dropped_and_harm_nobody() {
    let service = Plan::new()
        .script("notify-garbage\nnotify-huge=1M\nnotify-huge=60K\nserve\nready\nnotify-garbage")
        .start();
    service.reload_well();
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn unknown_and_ignored_keys_are_harmless() {
    let script = "notify=X_UNKNOWN=1\\nMAINPID=1\\nERRNO=2\nnotify=BARRIER=1\nserve\nready";
    let service = Plan::new().script(script).start();
    let pid = service.ready()[0].pid;
    assert_ne!(pid, 1, "MAINPID= is ignored");
    service.stop();
}

#[test]
fn a_process_of_the_workers_group_may_speak_for_it() {
    let service = Plan::new().script("serve\nnotify-from-child=group").start();
    assert_eq!(service.ready().len(), 1);
    service.stop();
}

#[test]
fn a_stranger_cannot_make_a_worker_ready() {
    let service = Plan::new().workers(2).script("serve\n[slot=1] hang\nready").begin();
    service.reports().wait("slot 1 is executed", |report| report.what == "started" && report.slot == 1);
    crate::support::eventually("slot 0 is ready", || (service.ready().len() == 1).then_some(()));
    let status = service.daemon.status();
    let silent = status.workers("web").into_iter().find(|worker| worker.slot == 1).expect("slot 1");
    let environment = std::fs::read(format!("/proc/{}/environ", silent.pid)).expect("it lives");
    let path = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"NOTIFY_SOCKET="))
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .expect("each worker has one");
    // A process that lives, and is neither the worker nor of its group.
    let stranger = OwnedChild::spawn(
        std::process::Command::new(crate::support::scripted_worker())
            .arg(format!("forge-notify={path}"))
            .arg("hang"),
    );
    let line = service
        .daemon
        .log
        .wait_for("a forged datagram is logged", |line| line.text.contains("process group"));
    assert_eq!(line.text("worker"), Some(silent.worker.to_string()));
    drop(stranger);
    assert!(service.daemon.status().counter("notifications_dropped") > 0);
    assert_eq!(service.ready().len(), 1);
    service.stop();
}

#[test]
fn readiness_is_taken_before_the_exit_that_follows_at_once() {
    // Ready and gone at once: that is the death of a worker that had been ready, not a failed start, which would wait.
    let plan = Plan::new().restart("backoff", "\"30s\"").restart("backoff_max", "\"30s\"");
    let service = plan.script("serve\n[worker=1] notify=READY=1\n[worker=1] exit=0\nready").begin();
    service.reports().wait("the successor, at once", |report| report.what == "ready" && report.worker == 2);
    service.stop();
}

#[test]
fn a_script_with_systemd_notify_is_heard_though_its_helper_is_gone() {
    if skipped("systemd-notify", !succeeds(&["systemd-notify", "--version"])) {
        return;
    }
    let plan = Plan::new().without_script();
    let program = plan.scratch.write_program(
        "program",
        "#!/bin/sh\nsystemd-notify --ready --status='from a script'\nexec sleep 1000\n",
    );
    let service = plan.command(&[program.to_str().expect("a path in /tmp")]).start();
    assert!(service.daemon.status().mentions("from a script"));
    service.stop();
}

#[test]
fn the_status_text_of_a_worker_is_shown() {
    let service = Plan::new().script("serve\nstatus=warming the cache\nready").start();
    assert!(service.daemon.cli(&["status", "--json"]).stdout.contains("warming the cache"));
    service.stop();
}

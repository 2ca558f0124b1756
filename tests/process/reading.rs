//! A reload whose files cannot be read: nobody else waits for it, and whoever does gets an answer.

use std::time::{Duration, Instant};

use crate::support::daemon::Running;
use crate::support::eventually;
use crate::support::lease::Lease;
use crate::support::service::{Plan, Service, quoted};

/// A service with an environment file that is there, and the file.
fn service() -> (Service, std::path::PathBuf) {
    let plan = Plan::new();
    let path = plan.scratch.write("environment", "FROM_FILE=1\n");
    let files = format!("[{}]", quoted(&path.display().to_string()));
    (plan.pool("environment_files", &files).start(), path)
}

/// Begins a reload, and waits until it hangs with `path`.
#[track_caller]
fn hanging_reload(service: &Service, path: &std::path::Path) -> Running {
    let reload = service.daemon.begin(&["reload"]);
    let what = format!("reading {}", path.display());
    eventually("the reload hangs", || {
        let readings = service.daemon.status().0["readings"].clone();
        let hangs =
            |reading: &serde_json::Value| reading["what"] == what.as_str() && reading["given_up"] == false;
        readings.as_array()?.iter().any(hangs).then_some(())
    });
    reload
}

fn threads(service: &Service) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.daemon.pid())).expect("it runs");
    tasks.count()
}

#[test]
fn a_reload_that_hangs_holds_nobody_up_and_can_be_cancelled() {
    let (mut service, path) = service();
    let idle = threads(&service);
    let lease = Lease::take(&path);
    let reload = hanging_reload(&service, &path);
    service.get("/").expect("an answer");
    service.daemon.cli(&["status"]).assert_code(0).assert_says("reading").assert_says("fine");
    service.kill(&service.ready()[0]);
    eventually("a worker is replaced meanwhile", || (service.ready().len() == 1).then_some(()));
    service.daemon.cli(&["cancel"]).assert_code(0);
    reload.finish().assert_code(handover::exit::FAILED).assert_says("cancelled before anything was changed");
    assert_eq!(
        service.manager().said(&["READY", "RELOADING"]),
        ["READY=1", "RELOADING=1", "READY=1"],
        "the manager has its answer"
    );
    service.daemon.cli(&["status"]).assert_says("needs attention: reading");
    // Its thread is still stuck. That is no reason against another reload.
    service.configure("pool.web", "environment_files", None);
    service.reload_well();
    assert_eq!(service.ready()[0].generation, 2, "what was given up has used no number");
    drop(lease);
    eventually("the thread has ended", || {
        let none = service.daemon.status().0["readings"].as_array().is_some_and(Vec::is_empty);
        (none && threads(&service) == idle).then_some(())
    });
    assert_eq!(service.ready()[0].generation, 2, "what came late is not used");
    service.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_reload_that_hangs() {
    let mut service = Plan::new().start();
    let path = service.plan.scratch.join("c.toml");
    let _lease = Lease::take(&path);
    let reload = hanging_reload(&service, &path);
    service.daemon.stop();
    reload.finish().assert_code(handover::exit::FAILED).assert_says("stopping");
}

#[test]
fn a_reload_that_takes_too_long_is_refused_by_name() {
    let (service, path) = service();
    let _lease = Lease::take(&path);
    let reload = hanging_reload(&service, &path);
    let output = reload.finish_before(Instant::now() + Duration::from_secs(40));
    let reason = format!("reading {} takes more than 30 s", path.display());
    output.assert_code(handover::exit::USAGE).assert_says(&reason).assert_says("hint:");
    assert_eq!(service.manager().said(&["READY", "RELOADING"]), ["READY=1", "RELOADING=1", "READY=1"]);
    assert_eq!(service.reports().count("started"), 1);
    service.stop();
}

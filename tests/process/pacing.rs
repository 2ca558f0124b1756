//! How soon a worker is followed: the first death at once, everything else after a wait, until it is a crash loop.

use std::time::Duration;

use handover::control::What;

use crate::support::load::Load;
use crate::support::service::{Plan, Service};

/// So long a wait that a start after it would not be seen.
fn patient() -> Plan {
    Plan::new().restart("stable_after", "\"60s\"").restart("backoff_max", "\"60s\"")
}

/// The starts up to the first crash loop.
fn starts(service: &Service) -> usize {
    let loops = |line: &crate::support::log::Line| {
        line.message() == "worker failed" && line.field("crash_loop").is_some_and(|value| value == true)
    };
    service.daemon.log.wait_for("a crash loop", loops);
    let lines = service.daemon.log.lines();
    lines.iter().filter(|line| line.message() == "worker started").count()
}

#[test]
fn a_worker_that_is_killed_right_after_it_was_ready_is_followed_at_once() {
    let service = patient().restart("backoff", "\"60s\"").start();
    let victim = service.ready()[0].clone();
    service.kill(&victim);
    service.reports().wait("the successor", |report| report.what == "ready" && report.worker == 2);
    let second = service.ready()[0].clone();
    let events = service.daemon.events();
    service.kill(&second);
    let failed = events.wait_for("the second death", |event| matches!(event.what, What::WorkerFailed { .. }));
    let What::WorkerFailed { restart_in, .. } = failed.what else { unreachable!("it was asked for") };
    assert!(restart_in > Duration::from_secs(40), "{restart_in:?}");
    events.close();
    service.stop();
}

#[test]
fn workers_that_stop_themselves_as_soon_as_they_are_ready_get_the_verdict() {
    let service = patient().script("serve\nready\nstopping\nexit=0").begin();
    assert_eq!(starts(&service), 5);
}

#[test]
fn workers_that_exit_as_soon_as_they_are_ready_get_the_verdict() {
    let service = patient().script("serve\nready\nexit=0").begin();
    assert_eq!(starts(&service), 5);
}

#[test]
fn workers_that_ask_to_be_replaced_as_soon_as_they_are_ready_get_the_verdict_and_serve() {
    let plan = patient()
        .script("hello=messages\nserve\nsay={\"type\":\"replace\"}\nready\nsay={\"type\":\"replace\"}");
    let service = plan.begin();
    assert_eq!(starts(&service), 5);
    crate::support::eventually("it serves", || service.get("/").ok());
    service.stop();
}

#[test]
fn workers_that_lose_their_channel_as_soon_as_they_are_ready_get_the_verdict_and_serve() {
    let plan = patient().script("hello=messages\nserve\nready\nsay=no line");
    let service = plan.begin();
    assert_eq!(starts(&service), 5);
    crate::support::eventually("it serves", || service.get("/").ok());
    service.stop();
}

#[test]
fn a_start_whose_workers_all_stop_themselves_in_the_breath_in_which_they_are_ready_ends_with_the_reason() {
    let plan = patient().workers(2).script("serve\nnotify=READY=1\\nSTOPPING=1\nexit=0");
    let mut service = plan.begin();
    let (code, log) = service.ended();
    assert_eq!(code, Some(i32::from(handover::exit::FAILED)), "{log}");
    assert!(log.contains("pool web: no worker became ready"), "{log}");
}

#[test]
fn a_deploy_whose_worker_stops_itself_while_it_bakes_is_rolled_back_and_nothing_is_lost() {
    for wish in ["stopping\nexit=0", "stopping\nhang", "hello=messages\nsay={\"type\":\"replace\"}"] {
        let plan = Plan::new().restart("stable_after", "\"60s\"").rollout("bake_time", "\"60s\"");
        let service = plan.pool("stop_timeout", "\"500ms\"").start();
        let load = Load::open(service.address(), 100).start();
        // It takes no connection, so that none is lost by its end.
        service.deploy(&format!("ready\n{wish}"));
        let output = service.reload();
        output.assert_code(handover::exit::FAILED).assert_says("asked to be replaced");
        load.stop().assert_nothing_lost();
        assert_eq!(service.ready().len(), 1);
        service.stop();
    }
}

//! Watchdogs of workers: fed, forgotten, triggered; and a worker's own wish to be replaced.

use crate::support::load::Load;
use crate::support::service::Plan;

#[test]
fn a_worker_that_feeds_its_watchdog_is_left_alone() {
    let service = Plan::new().pool("watchdog", "\"200ms\"").start();
    let load = Load::open(service.address(), 100).start();
    load.wait_for(60);
    load.stop().assert_nothing_lost();
    assert_eq!(service.reports().count("started"), 1);
    service.stop();
}

#[test]
fn a_worker_that_stops_feeding_its_watchdog_is_replaced() {
    let plan = Plan::new().workers(2).pool("watchdog", "\"150ms\"");
    let service = plan.script("serve\nready\n[worker=1] wait=100ms\n[worker=1] stop-heartbeat").start();
    service.reports().wait("the third worker", |report| report.what == "ready" && report.worker == 3);
    service.daemon.log.wait_for("why", |line| line.text.contains("watchdog"));
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn a_worker_may_trigger_its_own_watchdog() {
    let service = Plan::new()
        .pool("watchdog", "\"60s\"")
        .script("serve\nready\n[worker=1] notify=WATCHDOG=trigger")
        .start();
    service.reports().wait("its successor", |report| report.what == "ready" && report.worker == 2);
    service.stop();
}

#[test]
fn a_worker_that_says_it_stops_and_exits_with_zero_is_replaced_and_has_not_failed() {
    let plan = Plan::new().workers(2).restart("backoff", "\"30s\"").restart("backoff_max", "\"60s\"");
    let plan = plan.restart("stable_after", "\"1ms\"");
    let service = plan.script("serve\nready\nwait=500ms\n[worker=1] stopping\n[worker=1] exit=0").start();
    service.reports().wait("its successor, at once", |report| report.what == "ready" && report.worker == 3);
    let slots = service.daemon.status();
    assert!(!slots.mentions("\"restarts\":1"), "{slots:?}");
    service.stop();
}

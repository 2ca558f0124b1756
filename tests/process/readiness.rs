//! When a worker is ready: it says so, it was executed, or it wrote to its fd.

use crate::support::eventually;
use crate::support::service::Plan;

#[test]
fn a_worker_that_has_not_said_so_is_not_ready() {
    let service = Plan::new().workers(2).script("serve\n[slot=1] hang\nready").begin();
    service.reports().wait_for("ready");
    let ready = eventually("the daemon knows", || Some(service.ready()).filter(|ready| !ready.is_empty()));
    assert_eq!(ready.iter().map(|worker| worker.slot).collect::<Vec<_>>(), [0]);
    assert!(service.manager().said(&["READY"]).is_empty(), "slot 1 is neither ready nor given up");
    service.stop();
}

#[test]
fn executed_is_ready_where_the_pool_says_so() {
    let service = Plan::new().pool("ready", "\"exec\"").script("serve\nhang").start();
    assert_eq!(service.ready().len(), 1);
    service.stop();
}

#[test]
fn a_newline_on_its_fd_makes_a_worker_ready() {
    let plan = Plan::new().pool("ready", "\"fd\"").pool("ready_fd", "4");
    let service = plan.script("serve\nwait=20ms\nready-fd=4").start();
    let load = crate::support::load::Load::closed(service.address(), 2).start();
    service.reload_well();
    load.stop().assert_nothing_lost();
    service.stop();
}

#[test]
fn a_fd_that_is_closed_without_a_newline_makes_no_worker_ready() {
    let plan = Plan::new().pool("ready", "\"fd\"").pool("ready_fd", "4").pool("start_timeout", "\"100ms\"");
    let plan = plan.restart("burst", "1").script("exit=0");
    let mut service = plan.begin();
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
}

#[test]
fn a_start_takes_as_long_as_the_worker_asks_for() {
    let plan = Plan::new().pool("start_timeout", "\"300ms\"");
    let service = plan.script("serve\nextend-timeout=10s\nwait=600ms\nready").start();
    assert_eq!(service.reports().count("started"), 1);
    service.stop();
}

#[test]
fn a_pool_without_listeners_is_an_ordinary_pool() {
    let service = Plan::new().unset("listener.http", "address").unset("pool.web", "listeners").start();
    assert_eq!(service.ready().len(), 1);
    service.reload_well();
    service.stop();
}

#[test]
fn ready_is_said_when_all_slots_are_decided_not_before() {
    let plan = Plan::new().workers(4).script("serve\nwait=50ms\nready");
    let service = plan.start();
    assert_eq!(service.ready().len(), 4, "READY=1 came before the last worker was ready");
    service.stop();
}

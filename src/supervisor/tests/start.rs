//! From nothing to READY, or to the verdict that there will be none.

use super::*;

#[test]
fn all_slots_start_at_once_and_ready_is_told_when_all_are_ready() {
    let mut m = Machine::new(policy(2));
    assert_eq!(m.orders(), ["spawn 1 in web/0 of 1", "spawn 2 in web/1 of 1"]);
    m.starts(1);
    assert!(m.orders().is_empty());
    m.starts(2);
    assert_eq!(m.orders(), ["READY"]);
}

#[test]
fn a_worker_without_a_voice_is_ready_when_it_is_executed() {
    let mut m = Machine::new(policy_with(1, |policy| policy.ready = Ready::Exec));
    m.orders();
    m.spawned(1);
    assert_eq!(m.orders(), ["READY"]);
}

#[test]
fn readiness_may_be_reported_before_the_execution_is() {
    let mut m = Machine::new(policy(1));
    m.orders();
    m.ready(1);
    assert_eq!(m.orders(), ["READY"]);
    m.spawned(1);
    assert!(m.orders().is_empty());
}

#[test]
fn ready_is_told_without_a_slot_that_crash_loops_if_enough_others_are_ready() {
    let mut m = Machine::new(policy_with(2, |policy| policy.restart.burst = 1));
    m.starts(1);
    m.orders();
    m.ends(2, 1);
    assert_eq!(
        m.orders(),
        ["end group 2", "[failed 2: exited with status 1 before it was ready, crash loop]", "READY"]
    );
}

#[test]
fn a_start_without_any_ready_worker_ends_with_the_reason() {
    let mut m = Machine::new(policy_with(1, |policy| policy.restart.burst = 2));
    m.ends(1, 1);
    m.wait(100);
    m.orders();
    m.ends(2, 1);
    assert_eq!(
        m.orders(),
        [
            "end group 2",
            "[failed 2: exited with status 1 before it was ready, crash loop]",
            "STOPPING",
            "exit: pool web: no worker became ready: exited with status 1 before it was ready",
        ]
    );
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_a_failed_start() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.orders();
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(
        m.orders(),
        ["[retire 1: StartTimeout]", "signal 1 with 15", "[failed 1: not ready after 30s (start_timeout)]"]
    );
    m.wait(100);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 1"]);
}

#[test]
fn a_start_that_asks_for_more_time_gets_it() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.orders();
    m.wait(20_000);
    m.event(Event::MoreTime { worker: WorkerId(1), by: Duration::from_secs(60) });
    m.wait(59_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[0], "[retire 1: StartTimeout]");
}

#[test]
fn a_start_that_lacks_workers_waits_for_a_reload_and_is_ready_when_that_is_done() {
    let two = |policy: &mut Policy| (policy.min_ready, policy.restart.burst) = (2, 1);
    let mut m = Machine::new(policy_with(2, two));
    m.starts(1);
    m.ends(2, 1);
    m.orders();
    m.reload();
    assert_eq!(m.orders(), ["RELOADING", "prepare 2"]);
    m.prepared([("web", Some(policy_with(2, two)))]);
    m.starts(3);
    assert_eq!(m.orders(), ["spawn 3 in web/1 of 2"], "enough are ready, but the canary bakes");
    m.wait(2_000);
    m.starts(4);
    let orders = m.orders();
    assert_eq!(orders[orders.len() - 3..], ["commit 2", "answer 1: done with 2", "READY"]);
}

#[test]
fn the_service_manager_waits_for_a_start_as_long_as_that_gets_on() {
    let mut m = Machine::new(policy_with(2, |policy| (policy.min_ready, policy.restart.burst) = (2, 1)));
    m.starts(1);
    assert_eq!(m.extended.take(), Some(Duration::from_secs(35)), "until start_timeout and a little more");
    m.ends(2, 1);
    m.extended = None;
    m.wait(1_000_000);
    assert_eq!(m.extended, None, "one is ready, the other crash-loops, and that is not enough: no progress");
}

//! Rollouts that succeed: the order of things, and the limits while they last.

use super::*;

#[test]
fn a_reload_replaces_one_slot_after_the_other_start_first() {
    let mut m = Machine::running(policy(2));
    let request = m.reload();
    assert_eq!(m.orders(), ["RELOADING", "prepare 2"]);
    m.prepared([("web", Some(policy(2)))]);
    assert_eq!(m.orders(), ["spawn 3 in web/0 of 2"]);
    m.starts(3);
    m.wait(1_999);
    assert!(m.orders().is_empty(), "the canary bakes");
    m.wait(1);
    assert_eq!(
        m.orders(),
        ["[canary proven]", "[retire 1: Replaced]", "signal 1 with 15", "spawn 4 in web/1 of 2"]
    );
    m.ends(1, 0);
    assert_eq!(m.orders(), ["end group 1"]);
    m.starts(4);
    assert_eq!(
        m.orders(),
        [
            "[retire 2: Replaced]",
            "signal 2 with 15",
            "commit 2",
            "READY",
            &format!("answer {request}: done with 2")
        ]
    );
    m.ends(2, 0);
    assert_eq!(m.orders(), ["end group 2", "forget 1"]);
}

#[test]
fn old_workers_may_drain_long_after_the_rollout() {
    let mut m =
        Machine::running(policy_with(1, |policy| policy.drain_timeout = crate::time::Timeout::INFINITY));
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(1_000_000);
    m.reload_to(policy(1));
    assert_eq!(m.slot(0), ["1:Draining", "2:Ready", "3:Starting"]);
    m.starts(3);
    m.wait(2_000);
    assert_eq!(m.slot(0), ["1:Draining", "2:Draining", "3:Ready"]);
}

#[test]
fn no_old_worker_is_asked_to_end_before_the_canary_of_every_pool_is_proven() {
    let mut m = Machine::with_pools([("jobs", policy(1)), ("web", policy(1))]);
    m.starts(1);
    m.starts(2);
    m.reload();
    m.prepared([("jobs", Some(policy(1))), ("web", Some(policy(1)))]);
    m.starts(3);
    m.orders();
    m.wait(10_000);
    assert!(m.orders().is_empty());
    m.starts(4);
    m.wait(1_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[..3], ["[canary proven]", "[retire 1: Replaced]", "signal 1 with 15"]);
}

#[test]
fn a_slot_that_serves_nobody_takes_the_canary() {
    let mut m = Machine::running(policy(2));
    m.ends(2, 1);
    m.orders();
    m.reload();
    m.prepared([("web", Some(policy(2)))]);
    assert_eq!(m.orders(), ["RELOADING", "prepare 2", "spawn 4 in web/1 of 2"]);
}

#[test]
fn all_at_once_is_a_surge_of_all() {
    let surge = |policy: &mut Policy| policy.rollout.max_surge = Share::Percent(100);
    let mut m = Machine::running(policy_with(3, surge));
    m.reload_to(policy_with(3, surge));
    m.starts(4);
    m.wait(2_000);
    let orders = m.orders();
    assert_eq!(orders[3..], ["spawn 5 in web/1 of 2", "spawn 6 in web/2 of 2"]);
}

#[test]
fn stop_first_asks_the_old_worker_to_end_before_the_new_one_starts() {
    let stop_first = |policy: &mut Policy| {
        policy.rollout.max_surge = Share::Count(0);
        policy.rollout.max_unavailable = Share::Count(1);
    };
    let mut m = Machine::running(policy_with(2, stop_first));
    m.reload();
    m.orders();
    m.prepared([("web", Some(policy_with(2, stop_first)))]);
    assert_eq!(m.orders(), ["[retire 1: MakeRoom]", "signal 1 with 15"]);
    m.ends(1, 0);
    assert_eq!(m.orders(), ["end group 1", "spawn 3 in web/0 of 2"]);
    m.starts(3);
    m.wait(2_000);
    assert_eq!(m.orders(), ["[canary proven]", "[retire 2: MakeRoom]", "signal 2 with 15"]);
}

#[test]
fn a_rollout_waits_while_too_many_drain_and_says_so() {
    let few = |policy: &mut Policy| policy.rollout.max_draining = 1;
    let mut m = Machine::running(policy_with(2, few));
    m.reload_to(policy_with(2, few));
    m.starts(3);
    m.wait(2_000);
    m.starts(4);
    m.orders();
    assert_eq!(m.slot(1), ["2:Ready", "4:Ready"]);
    let waiting = m.status().rollout.expect("it runs").waiting_for.0;
    assert_eq!(waiting, "pool web: 1 workers still drain (max_draining)");
    m.ends(1, 0);
    assert_eq!(m.orders()[..3], ["end group 1", "[retire 2: Replaced]", "signal 2 with 15"]);
}

#[test]
fn a_pool_that_is_new_grows_and_one_that_is_gone_ends_when_all_else_is_done() {
    let mut m = Machine::with_pools([("jobs", policy(1)), ("web", policy(1))]);
    m.starts(1);
    m.starts(2);
    m.reload();
    m.orders();
    m.prepared([("jobs", None), ("mail", Some(policy(2)))]);
    assert_eq!(m.orders(), ["spawn 3 in mail/0 of 2"]);
    m.starts(3);
    m.wait(2_000);
    assert_eq!(m.orders(), ["[canary proven]", "spawn 4 in mail/1 of 2"]);
    m.starts(4);
    assert_eq!(
        m.orders(),
        ["commit 2", "READY", "answer 1: done with 2", "[retire 1: Removed]", "signal 1 with 15"]
    );
    m.ends(1, 0);
    assert_eq!(m.status().pools.keys().map(PoolName::as_str).collect::<Vec<_>>(), ["mail", "web"]);
}

#[test]
fn a_reload_that_changes_nothing_is_done_at_once() {
    let mut m = Machine::running(policy(1));
    m.reload();
    m.prepared([]);
    assert_eq!(m.orders()[2..], ["[canary proven]", "commit 2", "READY", "answer 1: done with 2"]);
}

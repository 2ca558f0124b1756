//! The end of the daemon.

use super::*;
use crate::time::Timeout;

#[test]
fn a_stop_asks_all_workers_to_end_and_exits_when_nothing_is_left() {
    let mut m = Machine::running(policy(2));
    m.stop(false);
    assert_eq!(
        m.orders(),
        [
            "STOPPING",
            "[retire 1: DaemonStops]",
            "signal 1 with 15",
            "[retire 2: DaemonStops]",
            "signal 2 with 15"
        ]
    );
    m.ends(1, 0);
    m.exits(2, 0);
    assert_eq!(m.orders(), ["end group 1", "end group 2"]);
    m.group_ended(2);
    assert_eq!(m.orders(), ["answer 1: done", "exit"]);
}

#[test]
fn who_does_not_end_when_the_daemon_stops_is_killed() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.orders();
    m.wait(30_000);
    assert_eq!(m.orders(), ["kill 1"]);
    m.ends(1, 0);
    assert_eq!(m.orders()[1..], ["answer 1: done", "exit"]);
}

#[test]
fn a_stop_at_once_kills_everybody_once() {
    let mut m = Machine::running(policy(2));
    m.stop(false);
    m.orders();
    m.exits(2, 0);
    m.stop(true);
    assert_eq!(m.orders(), ["end group 2", "kill 1", "kill 2"]);
    m.stop(true);
    m.wait(29_000);
    assert!(m.orders().is_empty());
    m.ends(1, 0);
    m.group_ended(2);
    assert_eq!(m.orders()[1..], ["answer 1: done", "answer 2: done", "answer 3: done", "exit"]);
}

#[test]
fn a_stop_during_a_rollout_answers_everybody() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.reload();
    m.scale(2);
    m.orders();
    m.stop(false);
    let orders = m.orders();
    let answers: Vec<&String> = orders.iter().filter(|order| order.starts_with("answer")).collect();
    assert_eq!(
        answers,
        [
            "answer 1: failed, the daemon is stopping",
            "answer 2: failed, the daemon is stopping",
            "answer 3: failed, the daemon is stopping"
        ]
    );
    m.reload();
    assert_eq!(m.orders(), ["answer 5: failed, the daemon is stopping"]);
    m.prepared([("web", Some(policy(1)))]);
    assert!(m.orders().is_empty(), "the answer to a prepare comes too late");
}

#[test]
fn a_stop_shortens_the_patience_with_those_that_drain() {
    let mut m = Machine::running(policy_with(1, |policy| policy.drain_timeout = Timeout::INFINITY));
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(2_000);
    m.ends(2, 0);
    m.stop(false);
    m.orders();
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[0], "kill 1");
}

#[test]
fn a_broken_promise_ends_the_daemon_with_its_reason() {
    let mut m = Machine::running(policy(1));
    m.event(Event::Broken { reason: "listener http no longer listens".to_owned() });
    m.ends(1, 0);
    assert_eq!(m.orders().last().map(String::as_str), Some("exit: listener http no longer listens"));
}

#[test]
fn a_worker_that_is_not_yet_executed_is_killed() {
    let mut m = Machine::new(policy(1));
    m.orders();
    m.stop(false);
    assert_eq!(m.orders(), ["STOPPING", "[retire 1: DaemonStops]", "kill 1"]);
    m.spawn_fails(1, false);
    assert_eq!(m.orders(), ["answer 1: done", "exit"]);
}

// Regressions.

#[test]
fn a_stop_that_comes_after_the_end_is_answered_and_ends_nothing_twice() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.ends(1, 0);
    m.orders();
    m.stop(true);
    m.reload();
    assert_eq!(m.orders(), ["answer 2: done", "answer 3: failed, the daemon is stopping"]);
}

#[test]
fn a_stop_at_once_kills_what_is_left_of_a_group_whose_patience_was_endless() {
    let mut m = Machine::running(policy_with(1, |policy| policy.stop_timeout = Timeout::INFINITY));
    m.stop(false);
    m.exits(1, 0);
    m.orders();
    m.stop(true);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn without_any_patience_the_kill_follows_the_signal() {
    let mut m = Machine::running(policy_with(1, |policy| policy.drain_timeout = Duration::ZERO.into()));
    m.scale(0);
    m.wait(1);
    assert_eq!(m.orders(), ["[retire 1: Removed]", "signal 1 with 15", "answer 1: done", "kill 1"]);
}

#[test]
fn the_exit_is_the_last_order() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(2_000);
    m.ends(2, 0);
    m.stop(false);
    m.spawn_fails(3, false);
    m.orders();
    m.ends(1, 0);
    assert_eq!(m.orders(), ["end group 1", "forget 1", "answer 2: done", "exit"]);
}

#[test]
fn a_stop_asks_the_service_manager_for_time_of_its_own() {
    let slow = |policy: &mut Policy| {
        policy.start_timeout = Timeout::INFINITY;
        policy.stop_timeout = Duration::from_secs(120).into();
    };
    let mut m = Machine::running(policy_with(1, slow));
    m.reload_to(policy_with(1, slow));
    assert_eq!(m.extended.take(), Some(Duration::from_secs(305)), "until the rollout's deadline");
    m.spawned(2);
    m.stop(false);
    assert_eq!(m.extended, Some(Duration::from_secs(125)), "until the kill, and a little more");
}

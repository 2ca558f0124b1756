//! Signals that stop the daemon: which of them are a second thought.

use super::*;

#[test]
fn a_second_signal_within_a_second_is_the_same_one() {
    let mut m = Machine::running(policy(1));
    m.stop_signal();
    assert_eq!(m.orders(), ["STOPPING", "[retire 1: DaemonStops]", "signal 1 with 15", "[signal: Graceful]"]);
    m.wait(1);
    m.stop_signal();
    m.wait(998);
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Ignored]", "[signal: Ignored]"]);
    m.ends(1, 0);
    assert_eq!(m.orders()[1..], ["answer 1: done", "answer 2: done", "answer 3: done", "exit"]);
}

#[test]
fn a_second_signal_a_second_later_ends_the_waiting() {
    let mut m = Machine::running(policy(1));
    m.stop_signal();
    m.wait(1_000);
    m.orders();
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Now]", "kill 1"]);
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Now]"], "nobody is killed twice");
}

#[test]
fn the_second_counts_from_the_first_and_not_from_one_that_was_ignored() {
    let mut m = Machine::running(policy(1));
    m.stop_signal();
    m.wait(900);
    m.stop_signal();
    m.wait(100);
    m.orders();
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Now]", "kill 1"]);
}

#[test]
fn after_a_client_asked_for_the_stop_the_first_signal_is_a_first_signal() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.wait(5_000);
    m.orders();
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Graceful]"], "systemctl stop while `handover stop` waits");
    m.stop(false);
    assert!(m.orders().is_empty(), "clients are joined, whenever they come");
    m.wait(1_000);
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Now]", "kill 1"]);
}

#[test]
fn a_stop_that_nobody_asked_for_is_not_shortened_by_the_first_signal() {
    let mut m = Machine::running(policy(1));
    m.event(Event::Broken { reason: "listener http no longer listens".to_owned() });
    m.wait(2_000);
    m.orders();
    m.stop_signal();
    assert_eq!(m.orders(), ["[signal: Graceful]"]);
}

#[test]
fn a_stop_at_once_needs_no_second_thought() {
    let mut m = Machine::running(policy(1));
    m.stop_signal();
    m.orders();
    m.stop(true);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn a_signal_after_the_end_is_answered() {
    let mut m = Machine::running(policy(1));
    m.stop_signal();
    m.ends(1, 0);
    m.orders();
    m.stop_signal();
    assert_eq!(m.orders(), ["answer 2: done"]);
}

//! Workers that cannot be ended: told as it is, and let go.

use super::*;
use crate::supervisor::WorkerState;
use crate::time::Timeout;

fn not_killed(m: &mut Machine, worker: u64) {
    let reason = "process 7: operation not permitted".to_owned();
    m.event(Event::KillFailed { worker: WorkerId(worker), reason });
}

#[test]
fn a_stop_ends_without_a_worker_that_may_not_be_killed_and_says_so() {
    let mut m = Machine::running(policy(2));
    m.stop(false);
    m.ends(2, 0);
    m.wait(30_000);
    m.orders();
    not_killed(&mut m, 1);
    assert_eq!(
        m.orders(),
        [
            "[let go 1: process 7: operation not permitted]",
            "answer 1: failed, not ended, and left behind: worker 1 of pool web",
            "exit: not ended, and left behind: worker 1 of pool web",
        ]
    );
    assert_eq!(m.slot(0), ["1:LetGo"], "it is known as long as it lives");
}

#[test]
fn a_stop_at_once_ends_without_it_too() {
    let mut m = Machine::running(policy(1));
    m.stop(true);
    m.orders();
    not_killed(&mut m, 1);
    assert_eq!(m.orders().len(), 3);
    not_killed(&mut m, 1);
    m.wait(1_000_000);
    assert!(m.orders().is_empty(), "once");
}

#[test]
fn one_that_the_kernel_holds_is_let_go_after_another_stop_timeout() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.wait(30_000);
    m.orders();
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[0], "[let go 1: it is still there 30s after SIGKILL]");
}

#[test]
fn that_takes_ten_seconds_at_least_and_ends_where_the_patience_with_the_worker_is_endless() {
    for (stop_timeout, seconds) in
        [(Duration::ZERO.into(), 10), (Timeout::INFINITY, 30), (Duration::from_secs(86_400).into(), 300)]
    {
        let mut m = Machine::running(policy_with(1, |policy| policy.stop_timeout = stop_timeout));
        m.stop(true);
        m.orders();
        m.wait(seconds * 1000 - 1);
        assert!(m.orders().is_empty(), "{stop_timeout:?}");
        m.wait(1);
        assert!(m.orders().last().is_some_and(|order| order.starts_with("exit: ")), "{stop_timeout:?}");
    }
}

#[test]
fn the_rest_of_a_group_that_does_not_end_is_let_go() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.exits(1, 0);
    m.wait(30_000);
    m.orders();
    m.wait(30_000);
    assert_eq!(m.orders()[0], "[let go 1: processes of its group are still there 30s after SIGKILL]");
}

#[test]
fn a_slot_has_its_successor_and_what_drains_holds_up_nobody() {
    let one_drains = |policy: &mut Policy| policy.rollout.max_draining = 1;
    let mut m = Machine::running(policy_with(2, one_drains));
    m.reload_to(policy_with(2, one_drains));
    m.starts(3);
    m.wait(2_000);
    m.starts(4);
    m.wait(30_000);
    let orders = m.orders();
    assert_eq!(orders.last().map(String::as_str), Some("kill 1"), "{orders:?}");
    assert_eq!(m.slot(1), ["2:Ready", "4:Ready"], "one drains, so this one waits");
    not_killed(&mut m, 1);
    let orders = m.orders();
    assert_eq!(orders[0], "[let go 1: process 7: operation not permitted]");
    assert!(orders.contains(&"signal 2 with 15".to_owned()), "{orders:?}");
    assert!(orders.iter().any(|order| order.starts_with("answer 1: done")), "{orders:?}");
    assert_eq!(m.status().pools[&PoolName::new("web")].draining, 1);
}

#[test]
fn one_that_ends_after_all_is_reaped_and_forgotten() {
    let mut m = Machine::running(policy(1));
    m.scale(0);
    m.wait(30_000);
    not_killed(&mut m, 1);
    m.orders();
    m.exits(1, 0);
    assert_eq!(m.orders(), ["end group 1"]);
    m.exits(1, 0);
    m.group_ended(1);
    assert!(m.orders().is_empty());
    assert!(m.slot(0).is_empty());
    let late = m.status().pools.values().flat_map(|pool| pool.slots.values()).count();
    assert_eq!(late, 0);
}

#[test]
fn one_that_ends_after_all_is_no_failure_of_its_slot() {
    let mut m = Machine::running(policy(1));
    m.event(Event::Stopping { worker: WorkerId(1) });
    m.wait(30_000);
    not_killed(&mut m, 1);
    m.starts(2);
    m.orders();
    m.exits(1, 1);
    assert_eq!(m.orders(), ["end group 1"]);
}

#[test]
fn what_is_left_of_a_group_is_forgotten_when_it_ends_after_all() {
    let mut m = Machine::running(policy(1));
    m.exits(1, 1);
    m.wait(100);
    m.starts(2);
    m.wait(60_000);
    assert!(m.slot(0).contains(&format!("1:{:?}", WorkerState::LetGo)));
    m.group_ended(1);
    assert_eq!(m.slot(0).len(), 1, "its successor");
}

#[test]
fn a_failure_to_kill_one_that_was_not_to_be_killed_changes_nothing() {
    let mut m = Machine::running(policy(1));
    not_killed(&mut m, 1);
    assert!(m.orders().is_empty());
    assert_eq!(m.slot(0), ["1:Ready"]);
}

//! Rollouts that fail: nothing is lost, and the reason is told.

use super::*;

/// A machine with two slots, the first of which was moved to generation 2 by worker 3; the second is
/// being moved by worker 4.
fn half_moved() -> Machine {
    half_moved_from(policy(2))
}

fn half_moved_from(old: Policy) -> Machine {
    let mut m = Machine::running(old);
    m.reload_to(policy(2));
    m.starts(3);
    m.wait(2_000);
    m.ends(1, 0);
    m.spawned(4);
    m.orders();
    m
}

#[test]
fn a_canary_that_fails_changes_nothing() {
    let mut m = Machine::running(policy(2));
    m.reload_to(policy(2));
    m.exits(3, 1);
    assert_eq!(
        m.orders(),
        [
            "end group 3",
            "[failed 3: exited with status 1 before it was ready]",
            "[rolling back: worker 3 (pool web, slot 0, generation 2) exited with status 1 before it was ready]",
            "READY",
            "answer 1: rolled back from 2",
        ]
    );
    m.group_ended(3);
    assert_eq!(m.orders(), ["forget 2"]);
    assert!(m.status().last_failure.is_some());
}

#[test]
fn a_canary_that_dies_while_it_bakes_has_failed() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(1_999);
    m.exits(2, 0);
    assert_eq!(m.orders().last().map(String::as_str), Some("answer 1: rolled back from 2"));
    assert_eq!(m.slot(0), ["1:Ready", "2:Ending"]);
}

#[test]
fn slots_that_were_moved_go_back_start_first() {
    let mut m = half_moved();
    m.ends(4, 1);
    let orders = m.orders();
    assert_eq!(orders.last().map(String::as_str), Some("spawn 5 in web/0 of 1 exactly"));
    m.spawned(5);
    assert!(m.orders().is_empty(), "worker 3 serves until worker 5 is ready");
    m.ready(5);
    assert_eq!(
        m.orders(),
        ["[retire 3: RolledBack]", "signal 3 with 15", "READY", "answer 1: rolled back from 2"]
    );
}

#[test]
fn a_rollout_that_is_not_done_at_its_deadline_goes_back() {
    let mut m = Machine::running(policy(1));
    let slow = |policy: &mut Policy| policy.start_timeout = crate::time::Timeout::INFINITY;
    m.reload_to(policy_with(1, slow));
    m.spawned(2);
    m.wait(300_000);
    assert_eq!(
        m.orders(),
        [
            "[rolling back: the rollout's deadline passed while it waited for pool web: \
             the first new worker, in slot 0, to become ready]",
            "[retire 2: RolledBack]",
            "signal 2 with 15",
            "READY",
            "answer 1: rolled back from 2",
        ]
    );
}

#[test]
fn a_cancelled_rollout_goes_back_and_both_who_asked_are_answered() {
    let mut m = half_moved();
    let cancel = m.cancel();
    assert_eq!(
        m.orders(),
        [
            "[rolling back: cancelled]",
            "[retire 4: RolledBack]",
            "signal 4 with 15",
            "spawn 5 in web/0 of 1 exactly"
        ]
    );
    m.starts(5);
    let orders = m.orders();
    assert_eq!(
        orders[2..],
        ["READY".to_owned(), format!("answer {cancel}: done"), "answer 1: rolled back from 2".to_owned()]
    );
}

#[test]
fn there_is_nothing_to_cancel_when_nothing_runs() {
    let mut m = Machine::running(policy(1));
    m.cancel();
    assert_eq!(m.orders(), ["answer 1: failed, no such rollout is running"]);
}

#[test]
fn where_the_old_program_is_gone_the_new_worker_stays() {
    let mut m = half_moved();
    m.cancel();
    m.orders();
    m.spawn_fails(5, true);
    assert_eq!(m.orders(), ["READY", "answer 2: done", "answer 1: rolled back from 2 but for slot 0"]);
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].kept);
    assert_eq!(
        (m.slot(0), m.slot(1)),
        (vec!["3:Ready".to_owned()], vec!["2:Ready".to_owned(), "4:Draining".to_owned()])
    );
}

#[test]
fn a_kept_slot_goes_back_when_its_worker_ends() {
    let mut m = half_moved();
    m.cancel();
    m.spawn_fails(5, true);
    m.ends(4, 0);
    m.wait(60_000);
    m.orders();
    m.ends(3, 1);
    let orders = m.orders();
    assert_eq!(orders[2..], ["spawn 6 in web/0 of 1", "forget 2"]);
}

#[test]
fn a_kept_slot_goes_back_start_first_when_its_worker_wishes_to_be_replaced() {
    let mut m = half_moved();
    m.cancel();
    m.spawn_fails(5, true);
    m.ends(4, 0);
    m.wait(60_000);
    m.orders();
    m.event(Event::ReplacementWished { worker: WorkerId(3), reason: "memory".to_owned() });
    assert_eq!(
        m.orders(),
        ["[worn 3: memory]", "spawn 6 in web/0 of 1"],
        "no thrown-away program is started"
    );
    m.starts(6);
    assert_eq!(m.orders(), ["[retire 3: Replaced]", "signal 3 with 15"]);
}

#[test]
fn a_worn_worker_that_cannot_go_back_stays_for_the_rollback() {
    let mut m = half_moved();
    m.event(Event::ReplacementWished { worker: WorkerId(3), reason: "memory".to_owned() });
    m.cancel();
    m.orders();
    m.spawn_fails(5, true);
    let orders = m.orders();
    assert_eq!(orders[..3], ["READY", "answer 2: done", "answer 1: rolled back from 2 but for slot 0"]);
    assert_eq!(orders[3..], ["spawn 6 in web/0 of 1"], "whatever the program is now");
}

#[test]
fn a_kept_slot_moves_with_the_next_rollout() {
    let mut m = half_moved();
    m.cancel();
    m.spawn_fails(5, true);
    m.ends(4, 0);
    m.reload_to(policy(2));
    m.starts(6);
    m.wait(2_000);
    m.starts(7);
    assert_eq!(m.orders().last().map(String::as_str), Some("answer 3: done with 3"));
    assert!(!m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].kept);
}

#[test]
fn a_failed_generation_is_not_the_base_of_the_next() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.ends(2, 1);
    m.reload_to(policy(1));
    m.starts(3);
    m.orders();
    m.cancel();
    assert_eq!(m.slot(0), ["1:Ready", "3:Draining"]);
}

#[test]
fn what_grew_in_a_failed_rollout_is_taken_down_again() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(2));
    m.starts(2);
    m.wait(2_000);
    assert_eq!(
        (m.slot(0), m.slot(1)),
        (vec!["1:Ready".to_owned(), "3:Starting".to_owned()], vec!["2:Ready".to_owned()])
    );
    m.orders();
    m.cancel();
    assert_eq!(
        (m.slot(0).as_slice(), m.slot(1).as_slice()),
        (["1:Ready".to_owned(), "3:Killed".to_owned()].as_slice(), ["2:Draining".to_owned()].as_slice())
    );
}

#[test]
fn a_slot_that_goes_while_it_is_kept_is_not_said_to_be_kept() {
    let slow = |policy: &mut Policy| policy.start_timeout = crate::time::Timeout::INFINITY;
    let mut m = half_moved_from(policy_with(2, slow));
    m.cancel();
    m.wait(299_999);
    m.orders();
    // Nobody called at the deadline; the request comes first.
    m.now = m.now + Duration::from_millis(1);
    m.scale(0);
    assert!(m.orders().contains(&"answer 1: rolled back from 2".to_owned()));
}

#[test]
fn a_rollback_does_not_wait_for_those_that_drain() {
    let few = |policy: &mut Policy| policy.rollout.max_draining = 1;
    let mut m = Machine::running(policy_with(1, few));
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(1_000);
    m.scale(2);
    m.starts(3);
    m.scale(1);
    assert_eq!(m.slot(1), ["3:Draining"]);
    m.orders();
    m.cancel();
    assert_eq!(m.slot(0), ["1:Ready", "2:Draining"]);
    assert_eq!(m.orders().last().map(String::as_str), Some("answer 1: rolled back from 2"));
}

#[test]
fn an_old_worker_that_ends_badly_as_it_wished_is_no_reason_to_keep_the_new_one() {
    let mut m = Machine::running(policy(2));
    m.stopping(1);
    m.starts(3);
    m.reload_to(policy(2));
    m.starts(4);
    m.wait(2_000);
    m.cancel();
    assert_eq!(m.slot(0), ["1:Draining", "3:Draining", "4:Ready", "6:Starting"]);
    m.exits(1, 1);
    assert!(!m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].kept);
}

#[test]
fn an_old_worker_that_does_not_come_up_again_leaves_the_new_one_in_its_slot() {
    let mut m = half_moved();
    m.cancel();
    m.spawned(5);
    m.orders();
    m.ends(5, 1);
    assert_eq!(m.orders().last().map(String::as_str), Some("answer 1: rolled back from 2 but for slot 0"));
    assert_eq!(m.slot(0), ["3:Ready"]);
}

#[test]
fn where_a_pool_grew_those_who_serve_stay_until_the_old_ones_are_back() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy_with(3, |policy| policy.rollout.max_unavailable = Share::Count(1)));
    // The canary is in slot 1, which serves nobody; then slot 0 moves, and its new worker dies.
    m.starts(2);
    m.wait(2_000);
    m.starts(4);
    m.orders();
    m.exits(4, 1);
    let orders = m.orders();
    assert!(orders.contains(&"spawn 5 in web/0 of 1".to_owned()), "{orders:?}");
    assert_eq!(m.slot(1), ["2:Ready"], "nobody else serves");
    m.starts(5);
    assert_eq!(m.slot(1), ["2:Draining"]);
}

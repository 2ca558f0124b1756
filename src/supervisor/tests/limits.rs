//! Odd numbers in policies.

use super::*;

#[test]
fn shares_that_round_to_nothing_still_let_a_rollout_move() {
    let nothing = |policy: &mut Policy| {
        policy.rollout.max_surge = Share::Percent(0);
        policy.rollout.max_unavailable = Share::Percent(25);
    };
    let mut m = Machine::running(policy_with(2, nothing));
    m.reload_to(policy_with(2, nothing));
    assert_eq!((m.slot(0), m.slot(1)), (vec!["1:Draining".to_owned()], vec!["2:Ready".to_owned()]));
}

#[test]
fn the_longest_times_overflow_nothing() {
    let longest = |policy: &mut Policy| {
        policy.restart.backoff = Duration::MAX;
        policy.restart.backoff_max = Duration::MAX;
        policy.restart.stable_after = Duration::MAX;
        policy.rollout.bake_time = Duration::MAX;
        policy.start_timeout = Duration::MAX.into();
        policy.drain_timeout = Duration::MAX.into();
    };
    let mut m = Machine::running(policy_with(2, longest));
    m.ends(1, 1);
    m.event(Event::MoreTime { worker: WorkerId(2), by: Duration::MAX });
    m.reload_to(policy_with(2, longest));
    m.starts(3);
    m.scale(1);
    m.event(Event::MoreTime { worker: WorkerId(2), by: Duration::MAX });
    assert!(m.status().rollout.is_some());
}

#[test]
fn a_pool_may_be_scaled_to_nothing_and_back() {
    let mut m = Machine::running(policy(1));
    m.scale(0);
    m.ends(1, 0);
    m.reload_to(policy(1));
    assert_eq!(m.status().rollout, None, "nothing to move");
    m.scale(1);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 2"]);
}

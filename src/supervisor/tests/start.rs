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
fn a_worker_without_a_voice_is_ready_when_it_has_stayed_for_its_bake_time() {
    let mut m = Machine::new(policy_with(1, |policy| policy.ready = Ready::Exec));
    m.orders();
    m.spawned(1);
    m.wait(1_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["READY"]);
}

#[test]
fn a_worker_without_a_voice_and_without_a_bake_time_is_ready_when_it_is_executed() {
    let at_once = |policy: &mut Policy| {
        (policy.ready, policy.rollout.bake_time) = (Ready::Exec, Duration::ZERO);
    };
    let mut m = Machine::new(policy_with(1, at_once));
    m.orders();
    m.spawned(1);
    assert_eq!(m.orders(), ["READY"]);
}

#[test]
fn a_program_that_ends_at_once_again_and_again_ends_the_start_however_it_is_ready() {
    for ready in [Ready::Exec, Ready::Accept, Ready::Notify] {
        let mut m = Machine::new(policy_with(1, |policy| (policy.ready, policy.restart.burst) = (ready, 2)));
        m.spawned(1);
        m.ends(1, 3);
        m.wait(100);
        m.spawned(2);
        m.orders();
        m.ends(2, 3);
        let last = m.orders().pop();
        let verdict = "exit: pool web: no worker became ready: exited with status 3 before it was ready";
        assert_eq!(last.as_deref(), Some(verdict), "{ready:?}");
    }
}

#[test]
fn the_bake_time_of_a_worker_without_a_voice_is_not_cut_short_by_its_start_timeout() {
    let longer = |policy: &mut Policy| {
        (policy.ready, policy.start_timeout) = (Ready::Exec, Duration::from_secs(1).into());
    };
    let mut m = Machine::new(policy_with(1, longer));
    m.orders();
    m.spawned(1);
    m.wait(2_000);
    assert_eq!(m.orders(), ["READY"]);
}

#[test]
fn a_worker_that_nobody_can_see_is_ready_when_it_has_stayed_for_its_bake_time() {
    let mut m = Machine::new(policy_with(1, |policy| policy.ready = Ready::Accept));
    m.orders();
    m.spawned(1);
    m.wait(1_000);
    m.event(Event::ReadinessUnknown { worker: WorkerId(1) });
    m.wait(1_500);
    m.event(Event::ReadinessUnknown { worker: WorkerId(1) });
    m.wait(499);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["READY"], "two seconds after it was first said");
}

#[test]
fn a_worker_that_nobody_could_see_is_ready_as_soon_as_it_is_seen() {
    let mut m = Machine::new(policy_with(1, |policy| policy.ready = Ready::Accept));
    m.spawned(1);
    m.event(Event::ReadinessUnknown { worker: WorkerId(1) });
    m.orders();
    m.ready_by(1, ReadyBy::Accept);
    assert_eq!(m.orders(), ["READY"]);
}

#[test]
fn a_worker_becomes_ready_in_the_way_of_its_pool_and_in_no_other() {
    let ways = [ReadyBy::Notify, ReadyBy::Fd, ReadyBy::Accept];
    let modes = [
        (Ready::Notify, Some(ReadyBy::Notify)),
        (Ready::Fd(3), Some(ReadyBy::Fd)),
        (Ready::Accept, Some(ReadyBy::Accept)),
        (Ready::Exec, None),
    ];
    for (mode, counts) in modes {
        let mut m = Machine::new(policy_with(1, |policy| policy.ready = mode));
        m.spawned(1);
        m.orders();
        for way in ways.into_iter().filter(|way| Some(*way) != counts) {
            m.ready_by(1, way);
            assert!(m.orders().is_empty(), "{mode:?} {way:?}");
        }
        match counts {
            Some(way) => m.ready_by(1, way),
            None => m.wait(2_000),
        }
        assert_eq!(m.orders(), ["READY"], "{mode:?}");
    }
}

#[test]
fn only_where_readiness_is_looked_for_can_it_be_unknown() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.event(Event::ReadinessUnknown { worker: WorkerId(1) });
    m.orders();
    m.wait(10_000);
    assert!(!m.orders().contains(&"READY".to_owned()));
}

#[test]
fn a_worker_that_is_not_ready_after_three_seconds_is_told_of_once() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.wait(2_999);
    assert_eq!(m.late, []);
    m.wait(1);
    assert_eq!(m.late, [(1, Duration::from_secs(3))]);
    m.wait(20_000);
    assert_eq!(m.late.len(), 1);
}

#[test]
fn a_worker_that_will_be_ready_or_given_up_by_itself_is_not_told_of() {
    let bakes = |policy: &mut Policy| {
        (policy.ready, policy.rollout.bake_time) = (Ready::Exec, Duration::from_secs(5));
    };
    let soon = |policy: &mut Policy| policy.start_timeout = Duration::from_secs(3).into();
    for policy in [policy_with(1, bakes), policy_with(1, soon)] {
        let mut m = Machine::new(policy);
        m.spawned(1);
        m.wait(4_000);
        assert_eq!(m.late, []);
    }
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
fn what_nobody_listened_to_counts_that_much_later() {
    let mut m = Machine::new(policy_with(1, |policy| policy.watchdog = Some(Duration::from_secs(10))));
    m.spawned(1);
    m.orders();
    let not_heard = |by| Event::NotHeard { worker: WorkerId(1), by: Duration::from_secs(by) };
    m.event(not_heard(3));
    m.event(not_heard(4));
    m.wait(36_999);
    m.ready(1);
    m.orders();
    m.wait(9_000);
    m.event(not_heard(2));
    m.wait(2_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[0], "[retire 1: Watchdog]");
    m.event(not_heard(1_000));
    m.wait(60_000);
    assert!(m.orders().iter().any(|order| order == "kill 1"), "an end is not put off");
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

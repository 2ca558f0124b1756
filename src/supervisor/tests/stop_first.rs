//! `max_surge = 0`: the successor starts when nothing is left of the one before it.

use super::*;

fn stop_first(workers: u32) -> Policy {
    policy_with(workers, no_surge)
}

fn no_surge(policy: &mut Policy) {
    policy.rollout.max_surge = Share::Count(0);
    policy.rollout.max_unavailable = Share::Count(1);
}

#[test]
fn a_rollout_waits_for_the_whole_process_group_and_says_so() {
    let mut m = Machine::running(stop_first(1));
    let request = m.reload();
    m.orders();
    m.prepared([("web", Some(stop_first(1)))]);
    assert_eq!(m.orders(), ["[retire 1: MakeRoom]", "signal 1 with 15"]);
    m.wait(1_000);
    assert!(m.orders().is_empty());
    let waiting = || m.status().rollout.expect("it runs").waiting_for.0;
    assert_eq!(waiting(), "pool web: worker 1 of slot 0 to end before the next one starts");
    m.exits(1, 0);
    assert_eq!(m.orders(), ["end group 1"], "a helper of it may hold the port");
    m.group_ended(1);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 2"]);
    m.starts(2);
    m.wait(2_000);
    let done = format!("answer {request}: done with 2");
    assert!(m.orders().contains(&done));
}

#[test]
fn one_that_cannot_be_ended_is_not_waited_for() {
    let mut m = Machine::running(stop_first(1));
    m.reload_to(stop_first(1));
    m.wait(30_000);
    assert!(m.orders().contains(&"kill 1".to_owned()));
    m.event(Event::KillFailed {
        worker: WorkerId(1),
        reason: "process 7: operation not permitted".to_owned(),
    });
    assert!(m.orders().contains(&"spawn 2 in web/0 of 2".to_owned()));
}

#[test]
fn a_crash_waits_for_the_rest_of_the_group() {
    let mut m = Machine::running(stop_first(1));
    m.exits(1, 1);
    assert_eq!(
        m.orders(),
        [
            "end group 1",
            "[failed 1: exited with status 1 after it was ready for 60.0s]",
            "[successor waits for 1]"
        ]
    );
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["kill 1"]);
    m.group_ended(1);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 1"]);
}

#[test]
fn slots_go_one_by_one_and_two_at_once_where_two_may_be_missing() {
    for missing in [1, 2] {
        let few = |policy: &mut Policy| {
            no_surge(policy);
            policy.rollout.max_unavailable = Share::Count(missing);
        };
        let mut m = Machine::running(policy_with(4, few));
        m.reload_to(policy_with(4, few));
        m.ends(1, 0);
        m.starts(5);
        m.orders();
        m.wait(2_000);
        let retired: Vec<String> =
            m.orders().into_iter().filter(|order| order.starts_with("[retire")).collect();
        let all = ["[retire 2: MakeRoom]", "[retire 3: MakeRoom]"];
        assert_eq!(retired, all[..usize::try_from(missing).expect("few")]);
        m.ends(2, 0);
        assert_eq!(m.orders(), ["end group 2", "spawn 6 in web/1 of 2"]);
    }
}

#[test]
fn a_rollback_ends_the_new_worker_before_the_old_program_starts_and_is_done_when_that_serves() {
    let mut m = Machine::running(stop_first(1));
    let request = m.reload_to(stop_first(1));
    m.ends(1, 0);
    m.starts(2);
    m.orders();
    m.cancel();
    assert_eq!(
        m.orders(),
        ["[rolling back: cancelled]", "[retire 2: RolledBack]", "signal 2 with 15"],
        "not beside it"
    );
    m.exits(2, 0);
    assert_eq!(m.orders(), ["end group 2"]);
    m.group_ended(2);
    assert_eq!(m.orders(), ["spawn 3 in web/0 of 1"]);
    m.starts(3);
    let orders = m.orders();
    assert!(orders.contains(&format!("answer {request}: rolled back from 2")), "{orders:?}");
}

#[test]
fn a_canary_that_dies_is_followed_by_the_old_program_when_its_group_is_gone() {
    let mut m = Machine::running(stop_first(1));
    m.reload_to(stop_first(1));
    m.ends(1, 0);
    m.spawned(2);
    m.orders();
    m.exits(2, 1);
    let orders = m.orders();
    assert!(!orders.iter().any(|order| order.starts_with("spawn")), "{orders:?}");
    m.group_ended(2);
    assert_eq!(m.orders(), ["spawn 3 in web/0 of 1"]);
}

#[test]
fn a_rollback_keeps_to_max_unavailable() {
    let mut m = Machine::running(stop_first(2));
    m.reload_to(stop_first(2));
    m.ends(1, 0);
    m.starts(3);
    m.wait(2_000);
    m.ends(2, 0);
    m.orders();
    m.spawned(4);
    m.cancel();
    let orders = m.orders();
    assert_eq!(
        orders,
        [
            "[rolling back: cancelled]",
            "[retire 4: RolledBack]",
            "signal 4 with 15",
            "[successor waits for 4]"
        ],
        "worker 3 serves alone"
    );
    m.ends(4, 0);
    m.starts(5);
    assert_eq!(
        m.orders(),
        ["end group 4", "spawn 5 in web/1 of 1", "[retire 3: RolledBack]", "signal 3 with 15"]
    );
}

#[test]
fn a_rollback_is_over_when_the_old_program_has_failed_to_come_up() {
    let mut m = Machine::running(stop_first(1));
    let request = m.reload_to(stop_first(1));
    m.ends(1, 0);
    m.starts(2);
    m.cancel();
    m.ends(2, 0);
    m.orders();
    m.exits(3, 1);
    m.group_ended(3);
    let orders = m.orders();
    assert!(orders.contains(&format!("answer {request}: rolled back from 2")), "{orders:?}");
}

#[test]
fn a_rollback_from_a_generation_that_was_stop_first_is_so_too() {
    let mut m = Machine::running(policy(1));
    m.reload_to(stop_first(1));
    m.ends(1, 0);
    m.starts(2);
    m.orders();
    m.cancel();
    assert!(m.orders().contains(&"[retire 2: RolledBack]".to_owned()));
    assert_eq!(m.slot(0), ["2:Draining"]);
}

#[test]
fn the_generation_that_comes_says_whether_the_old_one_stops_first() {
    let mut m = Machine::running(stop_first(1));
    m.reload_to(policy(1));
    assert_eq!(m.slot(0), ["1:Ready", "2:Starting"]);
    let mut m = Machine::running(policy(1));
    m.reload_to(stop_first(1));
    assert_eq!(m.slot(0), ["1:Draining"]);
}

#[test]
fn a_wish_a_watchdog_and_a_scale_up_wait_for_the_end_of_the_one_before() {
    let mut m = Machine::running(stop_first(1));
    m.stopping(1);
    m.exits(1, 0);
    assert_eq!(m.slot(0), ["1:Ending"]);
    m.group_ended(1);
    assert_eq!(m.slot(0), ["2:Starting"]);

    let mut m = Machine::running(stop_first(1));
    m.event(Event::WatchdogTriggered { worker: WorkerId(1) });
    assert_eq!(m.slot(0), ["1:Draining"]);
    m.ends(1, 1);
    assert_eq!(m.slot(0), ["2:Starting"]);

    let mut m = Machine::running(stop_first(1));
    m.scale(0);
    m.scale(1);
    assert_eq!(m.slot(0), ["1:Draining"]);
    m.ends(1, 0);
    assert_eq!(m.slot(0), ["2:Starting"]);
}

#[test]
fn a_start_that_takes_too_long_is_ended_before_the_next() {
    let mut m = Machine::new(stop_first(1));
    m.spawned(1);
    m.wait(31_000);
    assert_eq!(m.slot(0), ["1:Draining"]);
    m.ends(1, 0);
    assert_eq!(m.slot(0), ["2:Starting"]);
}

#[test]
fn one_that_waits_out_its_backoff_is_not_ended_before_its_successor_may_start() {
    let mut m = Machine::new(stop_first(1));
    m.starts(1);
    m.orders();
    m.event(Event::ReplacementWished { worker: WorkerId(1), reason: "memory".to_owned() });
    assert_eq!(m.slot(0), ["1:Ready"]);
    m.wait(100);
    assert_eq!(m.slot(0), ["1:Draining"]);
}

#[test]
fn a_rollback_is_over_at_its_deadline_though_the_new_worker_does_not_end() {
    let mut m = Machine::running(policy_with(1, |policy| {
        no_surge(policy);
        policy.drain_timeout = crate::time::Timeout::INFINITY;
        policy.rollout.deadline = Duration::from_secs(60).into();
    }));
    let request = m.reload_to(policy_with(1, |policy| {
        no_surge(policy);
        policy.drain_timeout = crate::time::Timeout::INFINITY;
    }));
    m.ends(1, 0);
    m.starts(2);
    m.cancel();
    m.wait(59_999);
    let done = format!("answer {request}: rolled back from 2");
    assert!(!m.orders().contains(&done));
    m.wait(1);
    assert!(m.orders().contains(&done));
    m.ends(2, 0);
    assert_eq!(m.slot(0), ["3:Starting"]);
}

//! A worker ends unasked: pacing, crash loops, watchdogs, a worker's own wish.

use super::*;

#[test]
fn a_stable_worker_that_crashes_is_followed_at_once() {
    let mut m = Machine::running(policy(1));
    m.exits(1, 1);
    assert_eq!(
        m.orders(),
        [
            "end group 1",
            "[failed 1: exited with status 1 after it was ready for 60.0s]",
            "spawn 2 in web/0 of 1"
        ]
    );
}

#[test]
fn an_unstable_worker_is_followed_after_a_wait() {
    let mut m = Machine::new(policy(1));
    m.ends(1, 1);
    m.orders();
    m.wait(79);
    assert!(m.orders().is_empty(), "less than the shortest jitter");
    m.wait(21);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 1"]);
}

#[test]
fn the_first_death_of_a_ready_worker_is_followed_at_once_and_the_second_after_a_wait() {
    let mut m = Machine::new(policy(1));
    m.starts(1);
    m.wait(1);
    m.orders();
    m.exits(1, 1);
    assert_eq!(
        m.orders()[1..],
        ["[failed 1: exited with status 1 after it was ready for 1.0ms]", "spawn 2 in web/0 of 1"]
    );
    m.starts(2);
    m.wait(9_999);
    m.exits(2, 1);
    m.wait(79);
    m.orders();
    m.wait(21);
    assert_eq!(m.orders(), ["spawn 3 in web/0 of 1"]);
    m.starts(3);
    m.exits(3, 1);
    m.wait(159);
    m.orders();
    m.wait(41);
    assert_eq!(m.orders(), ["spawn 4 in web/0 of 1"], "twice as long");
    m.starts(4);
    m.wait(10_000);
    m.exits(4, 1);
    assert_eq!(m.slot(0), ["1:Ending", "2:Ending", "3:Ending", "4:Ending", "5:Starting"]);
    m.starts(5);
    m.wait(9_999);
    m.exits(5, 1);
    assert_eq!(m.slot(0).len(), 5, "the second death within stable_after, though the first was stable");
    m.wait(100);
    assert_eq!(m.slot(0).len(), 6);
    m.starts(6);
    m.wait(10_000);
    m.exits(6, 1);
    assert_eq!(m.slot(0).len(), 7, "pacing had started afresh");
}

#[test]
fn a_failed_start_waits_though_it_is_the_first_and_a_young_death_after_it_does_too() {
    let mut m = Machine::new(policy(1));
    m.ends(1, 1);
    assert_eq!(m.slot(0), Vec::<String>::new());
    m.wait(100);
    m.starts(2);
    m.ends(2, 1);
    assert_eq!(m.slot(0), Vec::<String>::new());
    m.wait(159);
    assert_eq!(m.slot(0), Vec::<String>::new());
    m.wait(41);
    assert_eq!(m.slot(0), ["3:Starting"]);
}

#[test]
fn all_slots_at_once_are_followed_at_once() {
    let mut m = Machine::new(policy(4));
    (1..=4).for_each(|worker| m.starts(worker));
    m.orders();
    (1..=4).for_each(|worker| m.ends(worker, 9));
    let spawned = |orders: Vec<String>| orders.iter().filter(|order| order.starts_with("spawn")).count();
    assert_eq!(spawned(m.orders()), 4);
    (5..=8).for_each(|worker| m.starts(worker));
    (5..=8).for_each(|worker| m.ends(worker, 9));
    assert_eq!(spawned(m.orders()), 0);
    m.wait(100);
    assert_eq!(spawned(m.orders()), 4);
}

#[test]
fn with_a_burst_of_one_the_first_early_death_is_the_verdict() {
    let mut m = Machine::new(policy_with(1, |policy| policy.restart.burst = 1));
    m.starts(1);
    m.ends(1, 1);
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].crash_loop);
    assert_eq!(m.slot(0), Vec::<String>::new());
}

#[test]
fn a_young_worker_that_hangs_is_followed_at_once_and_the_next_one_after_a_wait() {
    let mut m = Machine::new(policy_with(1, |policy| policy.watchdog = Some(Duration::from_secs(3))));
    m.starts(1);
    m.wait(3_000);
    assert_eq!(m.slot(0), ["1:Draining", "2:Starting"]);
    m.starts(2);
    m.wait(3_000);
    assert_eq!(m.slot(0), ["1:Draining", "2:Draining"]);
    m.wait(100);
    assert_eq!(m.slot(0), ["1:Draining", "2:Draining", "3:Starting"]);
}

#[test]
fn a_new_generation_starts_with_a_clear_slate_and_so_does_the_old_one_after_a_rollback() {
    let many = |policy: &mut Policy| policy.rollout.max_failures = 2;
    let mut m = Machine::new(policy_with(1, many));
    m.starts(1);
    m.ends(1, 1);
    m.starts(2);
    m.wait(1_000);
    m.reload_to(policy_with(1, many));
    m.starts(3);
    m.exits(3, 1);
    assert_eq!(m.orders().last().map(String::as_str), Some("spawn 4 in web/0 of 2"));
    m.starts(4);
    m.ends(4, 1);
    assert_eq!(m.slot(0), ["2:Ready", "3:Ending"], "it is rolled back");
    m.orders();
    m.ends(2, 1);
    assert!(m.orders().contains(&"spawn 5 in web/0 of 1".to_owned()));
}

#[test]
fn one_broken_worker_leaves_its_siblings_alone() {
    let mut m = Machine::running(policy(3));
    m.ends(2, 1);
    m.orders();
    for worker in 4..10 {
        m.ends(worker, 1);
        m.wait(30_000);
    }
    let orders = m.orders();
    assert!(
        orders.iter().all(|order| !order.contains("retire") && !order.contains("STOPPING")),
        "{orders:?}"
    );
    assert_eq!((m.slot(0), m.slot(2)), (vec!["1:Ready".to_owned()], vec!["3:Ready".to_owned()]));
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(1)].crash_loop);
}

#[test]
fn a_watchdog_that_is_not_fed_ends_its_worker() {
    let mut m = Machine::running(policy_with(1, |policy| policy.watchdog = None));
    m.wait(1_000_000);
    assert!(m.orders().is_empty(), "no watchdog, nothing to feed");
    let mut m = Machine::new(policy_with(1, |policy| policy.watchdog = Some(Duration::from_secs(10))));
    m.starts(1);
    m.orders();
    m.wait(9_000);
    m.event(Event::Heartbeat { worker: WorkerId(1) });
    m.wait(9_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(
        m.orders(),
        [
            "[retire 1: Watchdog]",
            "signal 1 with 6",
            "[failed 1: no WATCHDOG=1 for 10s (watchdog)]",
            "spawn 2 in web/0 of 1"
        ]
    );
}

#[test]
fn a_worker_that_wishes_to_be_replaced_is_followed_at_once_and_has_not_failed() {
    let mut m = Machine::running(policy(1));
    m.stopping(1);
    assert_eq!(m.orders(), ["[retire 1: OwnWish]", "spawn 2 in web/0 of 1"]);
    m.ends(1, 0);
    assert_eq!(m.orders(), ["end group 1"]);
    assert_eq!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].restarts, 0);
}

#[test]
fn a_wish_that_ends_badly_is_a_failure() {
    let mut m = Machine::running(policy(1));
    m.stopping(1);
    m.orders();
    m.exits(1, 3);
    assert_eq!(m.orders(), ["end group 1", "[failed 1: exited with status 3 after it was ready for 60.0s]"]);
}

#[test]
fn a_worker_that_does_not_end_as_it_wished_is_killed() {
    let mut m = Machine::running(policy(1));
    m.stopping(1);
    m.starts(2);
    m.orders();
    m.wait(30_000);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn what_is_left_of_a_group_is_killed_in_the_end() {
    let mut m = Machine::running(policy(1));
    m.exits(1, 1);
    m.starts(2);
    m.orders();
    m.wait(30_000);
    assert_eq!(m.orders(), ["kill 1"]);
    m.group_ended(1);
    m.wait(1_000_000);
    assert!(m.orders().is_empty());
}

#[test]
fn an_exit_may_be_reported_before_the_execution_is() {
    let mut m = Machine::new(policy(1));
    m.orders();
    m.exits(1, 127);
    m.spawned(1);
    m.group_ended(1);
    m.spawned(1);
    assert_eq!(m.orders(), ["end group 1", "[failed 1: exited with status 127 before it was ready]"]);
}

// Regressions.

#[test]
fn a_worker_that_speaks_before_its_execution_is_reported_is_not_killed_for_it() {
    let mut m = Machine::new(policy(1));
    m.orders();
    m.stopping(1);
    assert!(!m.orders().contains(&"kill 1".to_owned()));
}

#[test]
fn a_worker_that_gives_up_before_it_is_ready_is_not_followed_without_a_wait() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.orders();
    m.stopping(1);
    assert_eq!(m.orders(), ["[retire 1: OwnWish]"]);
    m.exits(1, 0);
    assert_eq!(m.orders(), ["end group 1", "[failed 1: exited with status 0 before it was ready]"]);
    m.wait(100);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 1"]);
}

#[test]
fn a_new_worker_that_fails_waits_though_the_old_one_beside_it_is_stable() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy_with(1, |policy| policy.rollout.max_failures = 3));
    m.ends(2, 1);
    m.wait(79);
    assert_eq!(m.orders(), ["end group 2", "[failed 2: exited with status 1 before it was ready]"]);
    m.wait(21);
    assert_eq!(m.orders(), ["spawn 3 in web/0 of 2"]);
}

#[test]
fn heartbeats_that_are_found_after_a_stall_count_before_the_deadlines_that_passed() {
    let mut m = Machine::running(policy_with(2, |policy| policy.watchdog = Some(Duration::from_secs(120))));
    m.now = m.now + Duration::from_secs(600);
    let found = [1, 2].map(|worker| Event::Heartbeat { worker: WorkerId(worker) });
    m.supervisor.handle_together(m.now, found);
    m.collect();
    assert_eq!(m.orders(), Vec::<String>::new());
    m.event(Event::DeadlinePassed);
    assert_eq!((m.slot(0), m.slot(1)), (vec!["1:Ready".to_owned()], vec!["2:Ready".to_owned()]));
}

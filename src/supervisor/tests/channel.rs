//! Workers that speak on their channel: drains, pings, wishes, and the loss of the channel.

use super::*;

impl Machine {
    pub(super) fn opens(&mut self, worker: u64) {
        self.event(Event::ChannelOpened { worker: WorkerId(worker), drains: true, answers: true });
    }

    fn loses(&mut self, worker: u64) {
        self.event(Event::ChannelLost { worker: WorkerId(worker) });
    }

    pub(super) fn closes(&mut self, worker: u64) {
        self.event(Event::ChannelClosed { worker: WorkerId(worker) });
    }

    fn wishes(&mut self, worker: u64) {
        self.event(Event::ReplacementWished { worker: WorkerId(worker), reason: "memory".to_owned() });
    }

    fn answers(&mut self, worker: u64) {
        self.event(Event::Answered { worker: WorkerId(worker) });
    }
}

fn long_drain(workers: u32) -> Policy {
    policy_with(workers, |policy| policy.drain_timeout = Duration::from_secs(300).into())
}

/// Of which a wish counts after a second.
fn soon_stable(policy: &mut Policy) {
    policy.restart.stable_after = Duration::from_secs(1);
}

#[test]
fn a_worker_that_drains_gets_its_signal_at_the_drain_timeout_and_is_killed_a_stop_timeout_later() {
    let mut m = Machine::running(long_drain(1));
    m.opens(1);
    m.scale(0);
    assert_eq!(
        m.orders(),
        ["[retire 1: Removed]", "drain 1 for 300s: its slot is no longer wanted", "answer 1: done"]
    );
    m.wait(299_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["signal 1 with 15"]);
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn one_that_cannot_drain_gets_its_signal_at_once() {
    let mut m = Machine::running(long_drain(1));
    m.event(Event::ChannelOpened { worker: WorkerId(1), drains: false, answers: false });
    m.scale(0);
    assert_eq!(m.orders()[1], "signal 1 with 15");
    m.wait(300_000);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn hello_counts_once() {
    let mut m = Machine::running(policy(1));
    m.event(Event::ChannelOpened { worker: WorkerId(1), drains: false, answers: false });
    m.opens(1);
    m.scale(0);
    assert_eq!(m.orders()[1], "signal 1 with 15");
}

#[test]
fn when_the_daemon_stops_the_stop_timeout_takes_the_place_of_the_drain_timeout() {
    let mut m = Machine::running(long_drain(2));
    m.opens(1);
    m.stop(false);
    assert_eq!(
        m.orders(),
        [
            "STOPPING",
            "[retire 1: DaemonStops]",
            "drain 1 for 30s: the daemon stops",
            "[retire 2: DaemonStops]",
            "signal 2 with 15"
        ]
    );
    m.wait(30_000);
    assert_eq!(m.orders(), ["signal 1 with 15", "kill 2"]);
    m.ends(2, 0);
    m.orders();
    m.wait(30_000);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn a_drain_that_runs_is_cut_short_when_the_daemon_stops() {
    let mut m = Machine::running(long_drain(1));
    m.opens(1);
    m.scale(0);
    m.wait(1_000);
    m.orders();
    m.stop(false);
    m.wait(30_000);
    assert_eq!(m.orders(), ["STOPPING", "signal 1 with 15"]);
}

#[test]
fn a_worker_whose_start_takes_too_long_is_not_asked_to_drain() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.opens(1);
    m.orders();
    m.wait(30_000);
    assert_eq!(m.orders()[..2], ["[retire 1: StartTimeout]", "signal 1 with 15"]);
}

#[test]
fn a_worker_that_wishes_it_serves_until_its_successor_does() {
    let mut m = Machine::running(policy(2));
    m.opens(1);
    m.wishes(1);
    m.wishes(1);
    assert_eq!(m.orders(), ["[worn 1: memory]", "spawn 3 in web/0 of 1"]);
    m.spawned(3);
    assert!(m.orders().is_empty());
    m.ready(3);
    assert_eq!(m.orders(), ["[retire 1: Replaced]", "drain 1 for 30s: its successor took over"]);
    m.ends(1, 0);
    let slot = &m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)];
    assert_eq!((slot.restarts, slot.last_failure.is_none()), (0, true));
}

#[test]
fn with_stop_first_the_one_that_wishes_it_goes_before_its_successor_comes() {
    let mut m = Machine::running(policy_with(2, |policy| {
        policy.rollout.max_surge = Share::Count(0);
        policy.rollout.max_unavailable = Share::Count(1);
    }));
    m.wishes(2);
    assert_eq!(m.orders(), ["[worn 2: memory]", "[retire 2: MakeRoom]", "signal 2 with 15"]);
    m.ends(2, 0);
    assert_eq!(m.orders(), ["end group 2", "spawn 3 in web/1 of 1"]);
}

#[test]
fn a_worker_without_its_channel_is_replaced_while_it_serves_and_counts_as_failed() {
    let mut m = Machine::running(policy(1));
    m.opens(1);
    m.loses(1);
    m.loses(1);
    assert_eq!(m.orders(), ["[failed 1: channel lost]", "spawn 2 in web/0 of 1"]);
    m.starts(2);
    assert_eq!(m.orders(), ["[retire 1: Replaced]", "signal 1 with 15"]);
}

#[test]
fn a_channel_on_which_nothing_was_said_is_no_loss_nor_is_one_of_a_worker_that_drains() {
    let mut m = Machine::running(policy(2));
    m.loses(1);
    m.opens(2);
    m.scale(1);
    m.orders();
    m.loses(2);
    assert!(m.orders().is_empty());
    m.wait(30_000);
    assert_eq!(m.orders(), ["signal 2 with 15"]);
}

#[test]
fn workers_that_lose_their_channels_at_once_do_not_pile_up() {
    let mut m = Machine::new(policy(1));
    m.orders();
    for newest in 1..=20 {
        m.starts(newest);
        m.opens(newest);
        m.loses(newest);
        let serving = m.slot(0).iter().filter(|worker| worker.ends_with(":Ready")).count();
        assert!(serving <= 2, "{:?}", m.slot(0));
        m.wait(30_000);
        let orders = m.orders();
        for old in 1..newest {
            m.ends(old, 0);
        }
        assert_eq!(orders.iter().filter(|order| order.starts_with("spawn")).count(), 1, "{orders:?}");
    }
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].crash_loop);
}

#[test]
fn a_first_new_worker_that_loses_its_channel_fails_the_rollout() {
    let mut m = Machine::running(policy(1));
    let request = m.reload_to(policy(1));
    m.starts(2);
    m.opens(2);
    m.orders();
    m.loses(2);
    let orders = m.orders();
    assert!(
        orders.contains(&"[rolling back: worker 2 (pool web, slot 0, generation 2) channel lost]".to_owned()),
        "{orders:?}"
    );
    assert!(orders.contains(&format!("answer {request}: rolled back from 2")), "{orders:?}");
    m.ends(2, 0);
    assert_eq!(m.slot(0), ["1:Ready"]);
}

#[test]
fn a_rollback_does_not_wait_for_an_old_worker_that_is_worn() {
    let mut m = Machine::running(policy(1));
    let request = m.reload_to(policy(1));
    m.opens(1);
    m.loses(1);
    m.orders();
    m.ends(2, 1);
    let orders = m.orders();
    assert!(orders.contains(&format!("answer {request}: rolled back from 2")), "{orders:?}");
}

#[test]
fn pings_come_every_half_of_the_timeout_and_each_must_be_answered_in_time() {
    let mut m = Machine::new(policy_with(1, |policy| policy.ping_timeout = Some(Duration::from_secs(10))));
    m.spawned(1);
    m.opens(1);
    m.wait(20_000);
    m.orders();
    assert!(m.orders().is_empty(), "only a ready worker is asked");
    m.ready(1);
    m.orders();
    m.wait(4_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["ping 1"]);
    m.wait(2_000);
    m.answers(1);
    m.wait(2_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["ping 1"]);
    m.wait(9_999);
    assert!(m.orders().is_empty(), "not asked again before it has answered");
    m.answers(1);
    m.wait(1);
    assert_eq!(m.orders(), ["ping 1"]);
    m.wait(10_000);
    assert_eq!(
        m.orders(),
        [
            "[retire 1: Watchdog]",
            "signal 1 with 6",
            "[failed 1: no answer to a ping for 10s (ping_timeout)]",
            "spawn 2 in web/0 of 1"
        ]
    );
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let mut m = Machine::new(policy_with(1, |policy| policy.ping_timeout = Some(Duration::from_secs(10))));
    m.starts(1);
    m.answers(1);
    m.opens(1);
    m.answers(1);
    m.orders();
    m.wait(5_000);
    assert_eq!(m.orders(), ["ping 1"]);
}

#[test]
fn a_channel_that_was_lost_is_not_opened_again() {
    let mut m = Machine::running(policy(1));
    m.opens(1);
    m.loses(1);
    m.opens(1);
    m.scale(0);
    assert_eq!(m.orders().last().unwrap(), "answer 1: done");
    assert_eq!(m.slot(0)[0], "1:Draining");
    m.wait(30_000);
    assert!(m.orders().contains(&"kill 1".to_owned()), "it was signalled, not told to drain");
}

#[test]
fn a_worker_that_loses_its_channel_and_then_dies_has_failed_once() {
    let mut m = Machine::running(policy_with(2, |policy| policy.rollout.max_failures = 2));
    m.reload_to(policy_with(2, |policy| policy.rollout.max_failures = 2));
    m.starts(3);
    m.opens(3);
    m.loses(3);
    m.ends(3, 1);
    let orders = m.orders();
    assert!(!orders.iter().any(|order| order.starts_with("[rolling back")), "{orders:?}");
    assert_eq!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].restarts, 1);
}

#[test]
fn one_that_wishes_to_be_replaced_before_it_is_ready_and_then_dies_is_a_failed_start() {
    let mut m = Machine::new(policy(1));
    m.orders();
    for worker in 1..=5 {
        m.spawned(worker);
        m.wishes(worker);
        m.ends(worker, 1);
        if m.status().phase == Phase::Stopping {
            return assert!(m.orders().last().unwrap().starts_with("exit: "));
        }
        m.wait(30_000);
        let more = m.slot(0).len();
        assert!(more <= 2, "{:?}", m.slot(0));
    }
    let slot = m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].clone();
    assert!(slot.crash_loop, "{slot:?}");
}

#[test]
fn a_wish_and_then_the_end_that_it_says_is_one_wish() {
    let mut m = Machine::running(policy(1));
    m.wishes(1);
    m.starts(2);
    m.orders();
    m.wishes(2);
    m.stopping(2);
    m.ends(2, 0);
    let orders = m.orders();
    let failures = orders.iter().filter(|order| order.starts_with("[failed")).count();
    assert_eq!(failures, 1, "{orders:?}");
    m.wait(100);
    assert!(m.orders().contains(&"spawn 3 in web/0 of 1".to_owned()), "the shortest wait");
}

#[test]
fn a_reload_does_not_wait_for_what_a_worn_worker_holds_of_the_surge() {
    let mut m = Machine::running(policy(1));
    m.wishes(1);
    m.orders();
    m.reload_to(policy(1));
    m.spawned(2);
    m.wait(0);
    // Its successor is of no use any more; the worn one serves until the new one does.
    assert_eq!(m.slot(0)[0], "1:Ready");
    assert!(m.slot(0).contains(&"3:Starting".to_owned()), "{:?}", m.slot(0));
    m.starts(3);
    m.wait(2_000);
    assert!(m.orders().contains(&"commit 2".to_owned()));
}

#[test]
fn a_worn_worker_makes_way_for_its_successor_while_a_canary_waits_for_room() {
    let mut m = Machine::running(policy(2));
    m.wishes(2);
    m.orders();
    m.reload_to(policy(2));
    m.starts(3);
    assert_eq!(m.orders(), ["[retire 2: Replaced]", "signal 2 with 15", "spawn 4 in web/0 of 2"]);
}

#[test]
fn a_first_new_worker_that_is_worn_proves_the_new_program_all_the_same() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy_with(1, soon_stable));
    m.starts(2);
    m.wait(1_000);
    m.wishes(2);
    m.orders();
    m.wait(1_000);
    let orders = m.orders();
    assert_eq!(orders[..3], ["[canary proven]", "[retire 1: Replaced]", "signal 1 with 15"]);
    assert!(orders.contains(&"commit 2".to_owned()), "{orders:?}");
    assert!(orders.contains(&"spawn 3 in web/0 of 2".to_owned()), "{orders:?}");
}

#[test]
fn slots_that_have_not_moved_come_before_those_whose_new_worker_is_worn() {
    let mut m = Machine::running(policy(3));
    m.reload_to(policy_with(3, soon_stable));
    m.starts(4);
    m.wait(2_000);
    m.wishes(4);
    m.orders();
    m.starts(5);
    assert_eq!(m.orders(), ["[retire 2: Replaced]", "signal 2 with 15", "spawn 6 in web/2 of 2"]);
    m.starts(6);
    assert!(m.orders().contains(&"spawn 7 in web/0 of 2".to_owned()));
}

#[test]
fn old_workers_drain_before_new_ones_that_are_worn() {
    let narrow = |policy: &mut Policy| {
        soon_stable(policy);
        policy.rollout.max_surge = Share::Count(2);
        policy.rollout.max_draining = 1;
    };
    let mut m = Machine::running(policy_with(2, narrow));
    m.reload_to(policy_with(2, narrow));
    m.starts(3);
    m.wait(2_000);
    m.wishes(3);
    m.starts(4);
    m.starts(5);
    m.orders();
    m.ends(1, 0);
    assert_eq!(m.orders()[..2], ["end group 1", "[retire 2: Replaced]"]);
}

//! Workers that ask to be replaced before they were stable: failed starts like any other.

use super::*;

impl Machine {
    fn asks(&mut self, worker: u64) {
        self.event(Event::ReplacementWished { worker: WorkerId(worker), reason: "memory".to_owned() });
    }

    /// The starts ordered since this was last asked for.
    fn starts_ordered(&mut self) -> usize {
        self.orders().iter().filter(|order| order.starts_with("spawn")).count()
    }
}

const EARLY: &str = "asked to be replaced as soon as it was ready (stable_after is 10s)";

#[test]
fn a_worker_that_stops_itself_right_after_it_was_ready_is_a_failed_start() {
    let mut m = Machine::new(policy(1));
    m.starts(1);
    m.orders();
    m.stopping(1);
    assert_eq!(m.orders(), ["[retire 1: OwnWish]".to_owned(), format!("[failed 1: {EARLY}]")]);
    m.ends(1, 0);
    assert_eq!(m.orders(), ["end group 1"], "it has failed once");
    m.wait(79);
    assert_eq!(m.starts_ordered(), 0);
    m.wait(21);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 1"]);
    assert_eq!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].restarts, 1);
}

#[test]
fn workers_that_stop_themselves_at_once_each_time_get_the_verdict() {
    let mut m = Machine::new(policy(1));
    for worker in 1..=5 {
        m.starts(worker);
        m.stopping(worker);
        m.ends(worker, 0);
        m.orders();
        m.wait(1_000);
        assert_eq!(m.starts_ordered(), usize::from(worker < 5), "after worker {worker}");
    }
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].crash_loop);
}

#[test]
fn a_start_whose_workers_say_ready_and_stopping_in_one_breath_ends_with_the_reason() {
    let mut m = Machine::new(policy_with(1, |policy| policy.restart.burst = 3));
    for id in 1..=3 {
        let worker = WorkerId(id);
        let ready = Event::Ready { worker, by: ReadyBy::Notify };
        let found = [Event::Spawned { worker }, ready, Event::Stopping { worker }];
        m.supervisor.handle_together(m.now, found);
        m.collect();
        m.ends(id, 0);
        m.wait(400);
    }
    let orders = m.orders();
    let exit = format!("exit: pool web: no worker became ready: {EARLY}");
    assert_eq!(orders.last(), Some(&exit), "{orders:?}");
}

#[test]
fn a_canary_that_stops_itself_while_it_bakes_fails_the_rollout() {
    let mut m = Machine::running(policy(1));
    let request = m.reload_to(policy(1));
    m.starts(2);
    m.wait(1_000);
    m.orders();
    m.stopping(2);
    let orders = m.orders();
    assert!(orders.contains(&format!("answer {request}: rolled back from 2")), "{orders:?}");
    assert_eq!(m.slot(0), ["1:Ready", "2:Draining"], "the old one serves");
}

#[test]
fn a_canary_that_asks_to_be_replaced_while_it_bakes_fails_the_rollout() {
    let mut m = Machine::running(policy(1));
    let request = m.reload_to(policy(1));
    m.starts(2);
    m.orders();
    m.asks(2);
    let orders = m.orders();
    assert!(orders.contains(&format!("answer {request}: rolled back from 2")), "{orders:?}");
    assert_eq!(m.slot(0)[0], "1:Ready");
}

#[test]
fn one_that_asks_to_be_replaced_too_early_serves_until_its_successor_does_after_the_wait() {
    let mut m = Machine::running(policy(1));
    m.asks(1);
    m.starts(2);
    m.ends(1, 0);
    m.orders();
    m.asks(2);
    assert_eq!(m.orders(), ["[worn 2: memory]".to_owned(), format!("[failed 2: {EARLY}]")]);
    m.wait(79);
    assert_eq!(m.starts_ordered(), 0);
    m.wait(21);
    assert_eq!(m.orders(), ["spawn 3 in web/0 of 1"]);
    assert_eq!(m.slot(0), ["2:Ready", "3:Starting"]);
    m.starts(3);
    assert_eq!(m.orders(), ["[retire 2: Replaced]", "signal 2 with 15"]);
}

#[test]
fn one_that_asks_to_be_replaced_while_it_starts_is_a_failed_start() {
    let mut m = Machine::new(policy(1));
    m.spawned(1);
    m.orders();
    m.asks(1);
    assert_eq!(m.orders(), ["[worn 1: memory]", "[failed 1: asked to be replaced before it was ready]"]);
    m.wait(100);
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 1"]);
    m.ready(1);
    m.ends(1, 0);
    assert_eq!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].restarts, 1, "it failed once");
}

#[test]
fn all_slots_whose_workers_ask_at_once_each_time_are_paced() {
    let mut m = Machine::new(policy(3));
    m.orders();
    let mut asked = 0;
    let mut starts = 3;
    for _ in 0..150 {
        for worker in asked + 1..=starts {
            m.starts(worker);
            m.asks(worker);
            asked = worker;
        }
        m.wait(100);
        starts += u64::try_from(m.starts_ordered()).expect("few");
    }
    assert_eq!(starts, 3 * 5, "each slot has its verdict after five");
    let served = (0..3).all(|slot| m.slot(slot).iter().any(|worker| worker.ends_with(":Ready")));
    assert!(served, "they serve all the same");
}

#[test]
fn a_worker_that_exits_with_0_right_after_it_was_ready_died() {
    let mut m = Machine::new(policy(1));
    for worker in 1..=5 {
        m.starts(worker);
        m.ends(worker, 0);
        m.wait(1_000);
    }
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].crash_loop);
}

#[test]
fn a_wish_too_early_of_one_that_never_ends_is_paced_all_the_same() {
    let mut m = Machine::new(policy(1));
    for worker in 1..=5 {
        m.starts(worker);
        m.stopping(worker);
        m.wait(1_000);
    }
    let orders = m.orders();
    assert_eq!(orders.iter().filter(|order| order.starts_with("spawn")).count(), 5, "{orders:?}");
    assert!(m.status().pools[&PoolName::new("web")].slots[&SlotIndex(0)].crash_loop);
}

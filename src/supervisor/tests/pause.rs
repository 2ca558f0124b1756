//! Pauses: time in which nobody ran, as the shell sees it, and every deadline that must not count it.
//!
//! [`Paused`] is the machine behind the clock that counts, as the event loop keeps it: it looks once a second while
//! something is armed. A pause stops everybody: what a worker would have said in that time it says afterwards.

use super::*;
use crate::supervisor::CountedTime;

/// See the module.
struct Paused {
    m: Machine,
    clock: Monotonic,
    time: CountedTime,
}

impl Paused {
    fn new(m: Machine) -> Self {
        Self { clock: m.now, time: CountedTime::new(m.now), m }
    }

    /// Wakes up now, whoever ran since.
    fn wake(&mut self) {
        let lost = self.time.look(self.clock, self.m.supervisor.next_deadline());
        self.m.now = self.time.now();
        if let Some(lost) = lost {
            self.m.event(Event::TimeLost(lost));
        }
        if self.m.supervisor.next_deadline().is_some_and(|at| at <= self.m.now) {
            self.m.event(Event::DeadlinePassed);
        }
    }

    /// Time passes, and everybody runs.
    fn runs(&mut self, millis: u64) {
        let until = self.clock + Duration::from_millis(millis);
        while let Some(at) = self.time.next_look(self.m.supervisor.next_deadline()).filter(|at| *at < until) {
            self.clock = at;
            self.wake();
        }
        self.clock = until;
        self.wake();
    }

    /// Time passes, and nobody runs.
    fn pause(&mut self, millis: u64) {
        self.clock = self.clock + Duration::from_millis(millis);
        self.wake();
    }

    /// Nothing comes of a pause, but word of it.
    fn pauses_unharmed(&mut self, what: &str) {
        self.m.orders();
        self.pause(3_600_000);
        let orders = self.m.orders();
        let only_told = matches!(&orders[..], [one] if one.starts_with("[time lost: "));
        assert!(only_told, "{what}: {orders:?}");
    }

    /// It is exactly `millis` of running time from now to this order: a look more, at the most.
    fn comes_after(&mut self, millis: u64, order: &str) {
        self.runs(millis - 1);
        assert!(!self.m.orders().iter().any(|found| found.starts_with(order)), "too soon: {order}");
        self.runs(1_001);
        let orders = self.m.orders();
        assert!(orders.iter().any(|found| found.starts_with(order)), "{order}: {orders:?}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_watchdog_does_not_count_a_pause_however_short_it_is() {
    for millis in [200, 1_500, 3_000] {
        let watchdog = Duration::from_millis(millis);
        let mut p = Paused::new(Machine::new(policy_with(1, |policy| policy.watchdog = Some(watchdog))));
        p.m.starts(1);
        p.runs(millis / 2);
        p.pauses_unharmed("a watchdog");
        p.comes_after(millis / 2, "[retire 1: Watchdog]");
    }
}

#[test]
fn a_start_does_not_count_a_pause() {
    let mut p = Paused::new(Machine::new(policy(1)));
    p.m.spawned(1);
    p.runs(29_900);
    p.pauses_unharmed("a start");
    p.comes_after(100, "[retire 1: StartTimeout]");
}

#[test]
fn a_canary_bakes_as_long_as_it_runs() {
    let mut p = Paused::new(Machine::running(policy_with(1, |policy| policy.rollout.bake_time = SECOND * 4)));
    p.m.reload_to(policy_with(1, |policy| policy.rollout.bake_time = SECOND * 4));
    p.m.starts(2);
    p.runs(1_000);
    p.pauses_unharmed("a canary");
    p.comes_after(3_000, "[canary proven]");
}

#[test]
fn a_rollouts_deadline_does_not_count_a_pause_forward_or_back() {
    let mut p = Paused::new(Machine::running(policy_with(1, |policy| {
        policy.start_timeout = crate::time::Timeout::INFINITY;
    })));
    p.m.reload_to(policy_with(1, |policy| policy.start_timeout = crate::time::Timeout::INFINITY));
    p.m.spawned(2);
    p.runs(299_000);
    p.pauses_unharmed("a rollout");
    p.comes_after(1_000, "[rolling back: the rollout's deadline");
}

#[test]
fn a_drain_a_stop_and_a_group_do_not_count_a_pause() {
    let mut p = Paused::new(Machine::running(policy(3)));
    p.m.event(Event::ChannelOpened { worker: WorkerId(3), drains: true, answers: false });
    p.m.scale(2);
    p.runs(29_000);
    p.pauses_unharmed("a drain on the channel");
    p.comes_after(1_000, "signal 3 with 15");
    p.runs(28_000);
    p.pauses_unharmed("a drain");
    p.comes_after(1_000, "kill 3");
    p.m.ends(3, 0);
    p.m.stop(false);
    p.m.exits(2, 0);
    p.runs(29_900);
    p.pauses_unharmed("a stop");
    p.comes_after(100, "kill 1");
    p.runs(28_000);
    p.pauses_unharmed("one that was killed");
    p.comes_after(1_000, "[let go 1");
}

#[test]
fn a_ping_does_not_count_a_pause_before_it_or_after_it() {
    let mut p = Paused::new(Machine::new(policy_with(1, |policy| policy.ping_timeout = Some(SECOND * 4))));
    p.m.starts(1);
    p.m.event(Event::ChannelOpened { worker: WorkerId(1), drains: false, answers: true });
    p.runs(1_900);
    p.pauses_unharmed("before the question");
    p.comes_after(100, "ping 1");
    p.runs(2_900);
    p.pauses_unharmed("before the answer");
    p.comes_after(100, "[retire 1: Watchdog]");
}

#[test]
fn a_wait_before_a_restart_and_what_is_stable_do_not_count_a_pause() {
    let mut p = Paused::new(Machine::new(policy_with(1, |policy| policy.restart.backoff = SECOND * 10)));
    p.m.starts(1);
    // The first death is followed at once, the second after a wait.
    p.m.ends(1, 1);
    p.m.starts(2);
    p.m.ends(2, 1);
    p.runs(1_000);
    p.pauses_unharmed("a backoff");
    // The wait is shortened by up to a fifth.
    p.runs(6_999);
    assert!(p.m.orders().is_empty(), "too soon");
    p.runs(3_001);
    assert_eq!(p.m.orders(), ["spawn 3 in web/0 of 1"]);
    p.m.starts(3);
    p.runs(9_000);
    p.pauses_unharmed("a worker that is nearly stable");
    p.m.ends(3, 1);
    assert!(!p.m.orders().iter().any(|order| order.starts_with("spawn")), "it was not");
}

#[test]
fn a_second_signal_is_judged_by_the_time_in_which_workers_could_end() {
    let mut p = Paused::new(Machine::running(policy(1)));
    p.m.stop_signal();
    p.pause(3_600_000);
    p.m.orders();
    p.m.stop_signal();
    assert_eq!(p.m.orders(), ["[signal: Ignored]"]);
}

#[test]
fn what_lay_unread_counts_as_said_when_the_pause_began() {
    let watchdog = |policy: &mut Policy| policy.watchdog = Some(SECOND * 3);
    let mut p = Paused::new(Machine::new(policy_with(2, watchdog)));
    p.m.starts(1);
    p.runs(2_900);
    p.clock = p.clock + SECOND * 8;
    let lost = p.time.look(p.clock, p.m.supervisor.next_deadline()).expect("a pause");
    p.m.now = p.time.now();
    let heartbeat = Event::Heartbeat { worker: WorkerId(1) };
    let ready = Event::Ready { worker: WorkerId(2), by: ReadyBy::Notify };
    p.m.supervisor.handle_together(p.m.now, [heartbeat, ready, Event::TimeLost(lost)]);
    p.m.collect();
    assert_eq!(p.m.slot(1), ["2:Ready"]);
    p.m.orders();
    p.comes_after(3_000, "[retire 1: Watchdog]");
}

#[test]
fn the_service_manager_is_asked_again_because_its_time_went_on() {
    let mut p = Paused::new(Machine::new(policy(1)));
    p.m.spawned(1);
    p.runs(20_000);
    assert_eq!(p.m.extended.take(), Some(Duration::from_secs(35)));
    p.pause(60_000);
    assert_eq!(p.m.extended.take(), Some(Duration::from_secs(15)), "what is left, and a little more");
    p.m.ready(1);
    p.pause(60_000);
    assert_eq!(p.m.extended, None, "nothing is under way");
}

#[test]
fn a_pause_in_which_nothing_was_armed_is_none() {
    let mut p = Paused::new(Machine::running(policy(1)));
    p.pause(3_600_000);
    assert!(p.m.orders().is_empty());
    assert_eq!(p.time.next_look(p.m.supervisor.next_deadline()), None, "and nobody looks");
}

#[test]
fn pauses_in_a_row_are_told_less_and_less_often() {
    let mut p = Paused::new(Machine::new(policy(1)));
    p.m.spawned(1);
    p.m.orders();
    (0..16).for_each(|_| p.pause(5_000));
    let orders = p.m.orders();
    assert_eq!(orders.len(), 5, "1, 2, 4, 8, 16: {orders:?}");
}

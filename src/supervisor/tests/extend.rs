//! `EXTEND_TIMEOUT_USEC=`: what a worker may ask for, and what it gets.

use super::*;
use crate::time::Timeout;

/// More than thirty years, as one message may say.
const FOR_EVER: Duration = Duration::from_secs(1_000_000_000);

fn asks(m: &mut Machine, worker: u64, by: Duration) {
    m.event(Event::MoreTime { worker: WorkerId(worker), by });
}

#[test]
fn in_a_stop_a_worker_and_the_service_manager_wait_for_twice_its_time_and_no_longer() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.extended = None;
    m.wait(20_000);
    m.orders();
    asks(&mut m, 1, FOR_EVER);
    assert_eq!(m.extended.take(), Some(Duration::from_secs(45)), "until the kill, and a little more");
    m.wait(30_000);
    asks(&mut m, 1, FOR_EVER);
    assert_eq!(m.extended.take(), None, "it has asked for all that there is");
    m.wait(9_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn in_a_stop_a_worker_gets_the_little_that_it_asks_for() {
    let mut m = Machine::running(policy(1));
    m.stop(false);
    m.wait(25_000);
    m.orders();
    asks(&mut m, 1, Duration::from_secs(10));
    m.wait(9_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn a_stop_counts_from_its_own_beginning_for_a_worker_that_drained_before() {
    let mut m = Machine::running(policy_with(1, |policy| policy.drain_timeout = Timeout::INFINITY));
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(2_000);
    m.stop(false);
    m.ends(2, 0);
    m.orders();
    asks(&mut m, 1, FOR_EVER);
    m.wait(59_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[0], "kill 1");
}

#[test]
fn one_that_drains_on_its_channel_gets_its_signal_in_time_and_the_stop_ends_in_time() {
    let mut m = Machine::running(policy(1));
    m.event(Event::ChannelOpened { worker: WorkerId(1), drains: true, answers: false });
    m.stop(false);
    m.orders();
    asks(&mut m, 1, FOR_EVER);
    m.wait(30_000);
    assert_eq!(m.orders(), ["signal 1 with 15"]);
    asks(&mut m, 1, FOR_EVER);
    m.wait(30_000);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn a_worker_that_hangs_gets_no_more_than_a_stop_would_give() {
    let mut m = Machine::running(policy_with(1, |policy| policy.watchdog = Some(Duration::from_secs(120))));
    m.wait(60_000);
    m.orders();
    asks(&mut m, 1, FOR_EVER);
    m.wait(59_999);
    m.orders();
    m.wait(1);
    assert!(m.orders().contains(&"kill 1".to_owned()));
}

#[test]
fn a_drain_gets_another_drain_timeout_each_time_it_asks() {
    let mut m = Machine::running(policy(1));
    m.scale(0);
    m.wait(20_000);
    m.orders();
    asks(&mut m, 1, FOR_EVER);
    m.wait(25_000);
    asks(&mut m, 1, FOR_EVER);
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["kill 1"]);
}

#[test]
fn a_start_gets_the_rollouts_deadline_each_time_it_asks() {
    let mut m =
        Machine::new(policy_with(1, |policy| policy.rollout.deadline = Duration::from_secs(100).into()));
    m.spawned(1);
    m.wait(10_000);
    m.orders();
    m.extended = None;
    asks(&mut m, 1, FOR_EVER);
    assert_eq!(m.extended, Some(Duration::from_secs(105)), "the service manager is asked for no more");
    m.wait(99_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders()[0], "[retire 1: StartTimeout]");
}

#[test]
fn a_start_that_may_take_longer_than_a_rollout_gets_that() {
    let mut m = Machine::new(policy_with(1, |policy| {
        policy.start_timeout = Duration::from_secs(200).into();
        policy.rollout.deadline = Duration::from_secs(100).into();
    }));
    m.spawned(1);
    m.wait(150_000);
    m.orders();
    asks(&mut m, 1, FOR_EVER);
    m.wait(199_999);
    assert!(m.orders().is_empty());
}

#[test]
fn what_is_endless_stays_so() {
    let endless = |policy: &mut Policy| {
        (policy.start_timeout, policy.stop_timeout, policy.drain_timeout) =
            (Timeout::INFINITY, Timeout::INFINITY, Timeout::INFINITY);
    };
    let mut m = Machine::new(policy_with(1, endless));
    m.spawned(1);
    asks(&mut m, 1, Duration::from_secs(1));
    m.stop(false);
    asks(&mut m, 1, Duration::from_secs(1));
    m.orders();
    m.wait(1_000_000);
    assert!(m.orders().is_empty());
}

//! Channels that workers close: the first sign of their own end, or a loss.

use super::*;

#[test]
fn a_channel_that_is_closed_is_lost_when_its_worker_lives_on_for_a_second() {
    for able in [true, false] {
        let mut m = Machine::running(policy(1));
        m.event(Event::ChannelOpened { worker: WorkerId(1), drains: able, answers: able });
        m.closes(1);
        m.wait(999);
        m.closes(1);
        assert!(m.orders().is_empty());
        m.wait(1);
        assert_eq!(m.orders(), ["[failed 1: channel lost]", "spawn 2 in web/0 of 1"]);
    }
}

#[test]
fn a_worker_that_closes_its_channel_and_ends_has_ended_and_no_more() {
    let mut m = Machine::running(policy(1));
    m.opens(1);
    m.closes(1);
    m.wait(900);
    m.ends(1, 3);
    m.starts(2);
    m.wait(10_000);
    let failures: Vec<_> = m.orders().into_iter().filter(|order| order.starts_with("[failed")).collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].contains("exited with status 3"), "{failures:?}");
}

#[test]
fn an_exit_that_is_found_with_the_second_after_the_channel_closed_is_not_a_lost_channel() {
    let mut m = Machine::running(policy(1));
    m.opens(1);
    m.closes(1);
    m.orders();
    m.now = m.now + Duration::from_secs(2);
    let found = [Event::DeadlinePassed, Event::Exited { worker: WorkerId(1), status: ExitStatus::Code(3) }];
    m.supervisor.handle_together(m.now, found);
    m.collect();
    assert!(!m.orders().iter().any(|order| order.contains("channel lost")));
}

#[test]
fn who_has_closed_its_channel_gets_a_signal_and_no_question() {
    let mut m = Machine::running(policy_with(1, |policy| policy.ping_timeout = Some(Duration::from_secs(1))));
    m.opens(1);
    m.closes(1);
    m.wait(600);
    assert!(m.orders().is_empty(), "no ping");
    m.scale(0);
    assert_eq!(m.orders()[1], "signal 1 with 15");
}

//! The machine, written down and read back.

use super::*;

#[test]
fn a_machine_that_is_read_back_is_the_same_in_the_middle_of_a_rollout() {
    let mut m = Machine::running(policy(2));
    m.ends(2, 1);
    m.reload_to(policy(2));
    m.reload();
    m.scale(3);
    m.starts(4);
    m.cancel();
    let text = serde_json::to_string(&m.supervisor).unwrap();
    let copy: Supervisor = serde_json::from_str(&text).unwrap();
    assert_eq!(copy, m.supervisor);
}

#[test]
fn a_machine_with_channels_questions_and_worn_workers_reads_back_the_same_and_goes_on_alike() {
    let mut m = Machine::running(policy_with(4, |policy| {
        policy.ping_timeout = Some(Duration::from_secs(10));
        policy.rollout.max_surge = Share::Count(3);
    }));
    for worker in 1..=4 {
        m.event(Event::ChannelOpened { worker: WorkerId(worker), drains: true, answers: true });
    }
    m.wait(5_000);
    m.event(Event::Answered { worker: WorkerId(1) });
    m.event(Event::ReplacementWished { worker: WorkerId(2), reason: "memory".to_owned() });
    m.event(Event::ChannelLost { worker: WorkerId(3) });
    m.starts(5);
    m.event(Event::ChannelOpened { worker: WorkerId(6), drains: false, answers: true });
    m.orders();
    let text = serde_json::to_string(&m.supervisor).unwrap();
    // One drains and has its signal yet to come, one was asked, one is worn, one has lost its channel.
    for part in ["\"next\":\"Signal\"", "\"asked\":true", "\"worn\":true", "\"failed\":true"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let copy: Supervisor = serde_json::from_str(&text).unwrap();
    assert_eq!(copy, m.supervisor);
    let before = m.now;
    m.wait(60_000);
    let orders = m.orders();
    assert!(orders.contains(&"signal 2 with 15".to_owned()), "{orders:?}");
    (m.supervisor, m.now) = (copy, before);
    m.wait(60_000);
    assert_eq!(m.orders(), orders);
}

#[test]
fn a_state_with_a_field_that_this_version_does_not_know_is_refused() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.reload();
    m.event(Event::ChannelOpened { worker: WorkerId(1), drains: true, answers: true });
    let text = serde_json::to_string(&m.supervisor).unwrap();
    // The first member, one of a worker, of a policy and of its parts, of a request that waits, and of a channel.
    for member in ["cx", "executed", "min_ready", "bake_time", "stable_after", "changed_only", "drains"] {
        let newer = text.replacen(&format!("\"{member}\":"), &format!("\"moon\":1,\"{member}\":"), 1);
        assert_ne!(newer, text, "{member}");
        assert!(serde_json::from_str::<Supervisor>(&newer).is_err(), "{member}");
    }
}

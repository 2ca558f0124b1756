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
fn a_state_with_a_field_that_this_version_does_not_know_is_refused() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.reload();
    let text = serde_json::to_string(&m.supervisor).unwrap();
    // The first member, one of a worker, of a policy and of its parts, and of a request that waits.
    for member in ["cx", "executed", "min_ready", "bake_time", "stable_after", "changed_only"] {
        let newer = text.replacen(&format!("\"{member}\":"), &format!("\"moon\":1,\"{member}\":"), 1);
        assert_ne!(newer, text, "{member}");
        assert!(serde_json::from_str::<Supervisor>(&newer).is_err(), "{member}");
    }
}

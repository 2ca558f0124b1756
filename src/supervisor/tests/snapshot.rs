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
    let text = serde_json::to_string(&Machine::running(policy(1)).supervisor).unwrap();
    let newer = text.replacen('{', "{\"moon\":1,", 1);
    assert_ne!(newer, text);
    assert!(serde_json::from_str::<Supervisor>(&newer).is_err());
    let newer = text.replacen("\"executed\":", "\"moon\":1,\"executed\":", 1);
    assert_ne!(newer, text);
    assert!(serde_json::from_str::<Supervisor>(&newer).is_err());
}

//! Listeners that a worker has ended for all: no worker stays on the dead socket, whatever becomes of the rolls.

use super::*;

const NEEDED: [&str; 3] = ["[roll web]", "RELOADING", "prepare 2"];

/// A machine with one worker, which has the dead socket of `http`; generation 2 is being made for that.
fn rolled() -> Machine {
    let mut m = Machine::running(policy(1));
    m.listener_replaced("http", ["web"]);
    assert_eq!(m.orders(), ["[roll web]", "RELOADING", "prepare 2"]);
    m
}

fn lost_by_web(m: &Machine) -> Vec<String> {
    m.status().pools[&PoolName::new("web")].lost_listeners.iter().map(ToString::to_string).collect()
}

/// Gives what was ordered within ten seconds, of which nothing came before the end.
#[track_caller]
fn after_the_pace(m: &mut Machine) -> Vec<String> {
    m.wait(9_999);
    assert_eq!(m.orders(), [""; 0], "before it is time");
    m.wait(1);
    m.orders()
}

#[test]
fn a_pool_is_rolled_once_and_that_is_that() {
    let mut m = rolled();
    m.prepared([("web", Some(policy(1)))]);
    m.starts(2);
    m.wait(2_000);
    let orders = m.orders();
    assert_eq!(orders[orders.len() - 2..], ["commit 2", "READY"], "nobody asked, so nobody is answered");
    assert_eq!(lost_by_web(&m), [""; 0]);
    m.ends(1, 0);
    m.orders();
    m.wait(60_000);
    assert_eq!(m.orders(), [""; 0]);
}

#[test]
fn a_roll_that_is_refused_is_tried_again() {
    let mut m = rolled();
    for generation in [2, 2] {
        m.event(Event::PrepareRefused { reason: "no such user".to_owned() });
        assert_eq!(m.orders(), ["READY"]);
        assert_eq!(after_the_pace(&mut m), ["[roll web]", "RELOADING", &format!("prepare {generation}")]);
    }
}

#[test]
fn a_roll_that_is_cancelled_is_tried_again() {
    let mut m = rolled();
    m.cancel();
    assert_eq!(m.orders(), ["READY", "answer 1: done"], "not in the same breath");
    assert_eq!(after_the_pace(&mut m), NEEDED);
    m.prepared([("web", Some(policy(1)))]);
    m.wait(60_000);
    m.orders();
    m.cancel();
    assert_eq!(m.orders().last().map(String::as_str), Some("answer 2: done"));
    m.ends(2, 0);
    m.orders();
    assert_eq!(after_the_pace(&mut m), ["[roll web]", "RELOADING", "prepare 3"]);
}

#[test]
fn a_roll_that_is_rolled_back_is_tried_again() {
    let mut m = rolled();
    m.prepared([("web", Some(policy(1)))]);
    m.ends(2, 1);
    assert_eq!(m.orders().last().map(String::as_str), Some("forget 2"));
    assert_eq!(after_the_pace(&mut m), ["[roll web]", "RELOADING", "prepare 3"]);
}

#[test]
fn after_a_rollback_those_count_that_were_not_moved() {
    let back = || {
        let mut m = Machine::running(policy(2));
        m.listener_replaced("http", ["web"]);
        m.prepared([("web", Some(policy(2)))]);
        m.starts(3);
        m.wait(2_000);
        m.ends(1, 0);
        m.ends(4, 1);
        m.starts(5);
        m.ends(3, 0);
        assert_eq!((m.slot(0), m.slot(1)), (vec!["5:Ready".to_owned()], vec!["2:Ready".to_owned()]));
        m.orders();
        m
    };
    assert_eq!(after_the_pace(&mut back()), ["[roll web]", "RELOADING", "prepare 3"]);
    let mut m = back();
    m.ends(2, 1);
    m.starts(6);
    m.orders();
    m.wait(60_000);
    assert_eq!(m.orders(), [""; 0], "worker 5, too, was started with the new socket");
}

#[test]
fn a_listener_that_is_ended_again_and_again_is_rolled_for_each_ten_seconds() {
    let mut m = rolled();
    m.prepared([("web", Some(policy_with(1, |policy| policy.rollout.bake_time = Duration::ZERO)))]);
    m.starts(2);
    m.ends(1, 0);
    m.orders();
    m.listener_replaced("http", ["web"]);
    assert_eq!(after_the_pace(&mut m), ["[roll web]", "RELOADING", "prepare 3"]);
}

#[test]
fn who_was_started_before_the_last_end_counts_as_well() {
    let mut m = Machine::running(policy(2));
    m.listener_replaced("http", ["web"]);
    m.cancel();
    m.ends(1, 1);
    m.starts(3);
    m.listener_replaced("http", ["web"]);
    m.ends(2, 1);
    m.starts(4);
    m.orders();
    assert_eq!(lost_by_web(&m), ["http"]);
    assert_eq!(after_the_pace(&mut m), NEEDED, "worker 3 has the second one, which is dead, too");
}

#[test]
fn listeners_have_each_their_own_pace() {
    let mut m = rolled();
    m.cancel();
    m.orders();
    m.listener_replaced("admin", ["web"]);
    assert_eq!(m.orders(), NEEDED);
    m.event(Event::PrepareRefused { reason: "no".to_owned() });
    m.orders();
    assert_eq!(after_the_pace(&mut m), NEEDED, "one roll for both");
}

#[test]
fn what_comes_during_a_rollout_follows_it_with_what_was_asked_for() {
    let mut m = Machine::with_pools([("jobs", policy(1)), ("web", policy(1))]);
    m.starts(1);
    m.starts(2);
    m.reload();
    m.prepared([("jobs", Some(policy(1))), ("web", Some(policy(1)))]);
    m.starts(3);
    m.starts(4);
    m.listener_replaced("http", ["web"]);
    m.orders();
    let only_jobs = Scope { reread: true, pools: Some([PoolName::new("jobs")].into()), changed_only: false };
    m.request(Request::Roll(only_jobs));
    assert_eq!(m.orders(), ["RELOADING"]);
    m.wait(2_000);
    let orders = m.orders();
    assert_eq!(
        orders[orders.len() - 5..],
        ["READY", "answer 1: done with 2", "[roll web]", "RELOADING", "prepare 3"],
        "worker 4 has the dead socket, too"
    );
    assert_eq!(
        m.scope.as_ref().and_then(|scope| scope.pools.as_ref()).map(BTreeSet::len),
        Some(2),
        "one rollout for both"
    );
    m.event(Event::PrepareRefused { reason: "no".to_owned() });
    assert_eq!(m.orders(), ["READY", "answer 2: refused, no"]);
    assert_eq!(after_the_pace(&mut m), ["[roll web]", "RELOADING", "prepare 3"]);
}

#[test]
fn somebody_elses_rollout_mends_it_as_well() {
    let mut m = rolled();
    m.cancel();
    m.reload_to(policy(1));
    m.starts(2);
    m.wait(2_000);
    m.ends(1, 0);
    m.orders();
    m.wait(60_000);
    assert_eq!(m.orders(), [""; 0]);
}

#[test]
fn workers_that_are_replaced_otherwise_need_no_roll() {
    let mut m = rolled();
    m.cancel();
    m.ends(1, 1);
    m.starts(2);
    m.orders();
    m.wait(60_000);
    assert_eq!(m.orders(), [""; 0], "worker 2 was started with the new socket");
}

#[test]
fn a_pool_that_a_reload_removes_is_not_rolled_and_the_others_are() {
    let mut m = Machine::with_pools([("jobs", policy(1)), ("web", policy(1))]);
    m.starts(1);
    m.starts(2);
    m.reload();
    m.prepared([("jobs", Some(policy(1))), ("web", None)]);
    m.starts(3);
    m.listener_replaced("http", ["jobs", "web"]);
    m.orders();
    m.wait(2_000);
    let orders = m.orders();
    assert!(orders.contains(&"[roll jobs]".to_owned()), "{orders:?}");
    let mut m = rolled();
    m.cancel();
    m.reload();
    m.prepared([("web", None)]);
    m.ends(1, 0);
    m.orders();
    m.wait(60_000);
    m.event(Event::DeadlinePassed);
    assert_eq!(m.orders(), [""; 0]);
    assert_eq!(m.supervisor.lost.len(), 0);
}

#[test]
fn before_the_first_ready_the_start_is_finished_first() {
    let mut m = Machine::new(policy(2));
    m.starts(1);
    m.listener_replaced("http", ["web"]);
    m.orders();
    m.starts(2);
    assert_eq!(m.orders(), ["READY", "[roll web]", "RELOADING", "prepare 2"]);
}

#[test]
fn a_pool_without_workers_is_not_rolled() {
    let mut m = Machine::running(policy(0));
    m.listener_replaced("http", ["web", "unknown"]);
    assert_eq!(m.orders(), [""; 0]);
    assert_eq!(m.supervisor.lost.len(), 0);
}

#[test]
fn a_daemon_that_stops_rolls_nothing() {
    let mut m = rolled();
    m.cancel();
    m.stop(false);
    m.orders();
    m.listener_replaced("http", ["web"]);
    m.wait(20_000);
    assert_eq!(m.orders(), [""; 0]);
}

#[test]
fn a_machine_that_is_read_back_goes_on_where_it_was() {
    let mut m = rolled();
    m.cancel();
    m.orders();
    let text = serde_json::to_string(&m.supervisor).unwrap();
    m.supervisor = serde_json::from_str(&text).unwrap();
    assert_eq!(after_the_pace(&mut m), NEEDED);
}

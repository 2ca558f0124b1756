//! What people ask for, alone and at the same time.

use super::*;
use crate::id::Generation;

#[test]
fn a_reload_that_is_refused_changes_nothing() {
    let mut m = Machine::running(policy(1));
    m.reload();
    m.orders();
    m.event(Event::PrepareRefused { reason: "line 3: unknown key".to_owned() });
    assert_eq!(m.orders(), ["READY", "answer 1: refused, line 3: unknown key"]);
}

#[test]
fn a_reload_that_takes_too_long_is_given_up_once_and_refused_with_its_reason() {
    let mut m = Machine::running(policy(1));
    m.reload();
    m.orders();
    m.wait(29_999);
    assert!(m.orders().is_empty());
    m.wait(1);
    assert_eq!(m.orders(), ["give up preparing"]);
    m.wait(100_000);
    assert!(m.orders().is_empty(), "the reason is awaited");
    m.event(Event::PrepareRefused { reason: "reading /mnt takes more than 30 s".to_owned() });
    assert_eq!(m.orders(), ["READY", "answer 1: refused, reading /mnt takes more than 30 s"]);
}

#[test]
fn a_generation_that_is_found_with_the_end_of_its_time_was_made_in_time() {
    let mut m = Machine::running(policy(1));
    m.reload();
    m.orders();
    m.now = m.now + Duration::from_secs(60);
    let pools = [(PoolName::new("web"), Some(policy(1)))].into();
    m.supervisor.handle_together(m.now, [Event::DeadlinePassed, Event::Prepared { pools }]);
    m.collect();
    assert_eq!(m.orders(), ["spawn 2 in web/0 of 2"]);
}

#[test]
fn a_cancel_gives_up_what_is_being_made_and_its_late_answer_changes_nothing() {
    let mut m = Machine::running(policy(1));
    m.reload();
    m.reload();
    assert!(m.supervisor.is_preparing());
    assert_eq!(m.supervisor.next_generation(), Generation(3));
    m.orders();
    m.cancel();
    let reason = "cancelled before anything was changed";
    assert_eq!(
        m.orders(),
        ["READY", "answer 3: done", &format!("answer 1: failed, {reason}"), "RELOADING", "prepare 2"],
        "what was asked for meanwhile follows"
    );
    m.cancel();
    assert_eq!(m.orders(), ["READY", "answer 4: done", &format!("answer 2: failed, {reason}")]);
    assert!(!m.supervisor.is_preparing());
    let before = m.supervisor.clone();
    m.prepared([("web", Some(policy(3)))]);
    m.event(Event::PrepareRefused { reason: "late".to_owned() });
    assert_eq!(m.orders(), [""; 0]);
    assert_eq!(m.supervisor, before);
}

#[test]
fn an_answer_that_comes_after_the_stop_changes_nothing() {
    let mut m = Machine::running(policy(1));
    m.reload();
    m.orders();
    m.stop(false);
    assert_eq!(m.orders()[..2], ["STOPPING", "answer 1: failed, the daemon is stopping"]);
    let before = m.supervisor.clone();
    m.prepared([("web", Some(policy(3)))]);
    assert_eq!(m.orders(), [""; 0]);
    assert_eq!(m.supervisor, before);
}

#[test]
fn reloads_during_a_rollout_are_joined_into_one_that_follows_it() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.reload();
    m.reload();
    assert_eq!(m.orders(), ["RELOADING", "RELOADING"]);
    m.starts(2);
    m.wait(2_000);
    let orders = m.orders();
    assert_eq!(orders[3..], ["commit 2", "READY", "answer 1: done with 2", "RELOADING", "prepare 3"]);
    m.prepared([("web", Some(policy(1)))]);
    m.starts(3);
    m.wait(2_000);
    let orders = m.orders();
    assert_eq!(
        orders[orders.len() - 4..],
        ["commit 3", "READY", "answer 2: done with 3", "answer 3: done with 3"]
    );
}

#[test]
fn a_reload_during_the_start_follows_it() {
    let mut m = Machine::new(policy(1));
    m.reload();
    assert_eq!(m.orders(), ["spawn 1 in web/0 of 1", "RELOADING"]);
    m.starts(1);
    assert_eq!(m.orders(), ["READY", "RELOADING", "prepare 2"]);
}

#[test]
fn joined_scopes_cover_both() {
    let only = |pool: &str| Some([PoolName::new(pool)].into());
    let web = Scope { reread: false, pools: only("web"), changed_only: false };
    let jobs = Scope { reread: true, pools: only("jobs"), changed_only: true };
    let both = web.clone().joined(jobs);
    assert_eq!(both.pools.map(|pools| pools.len()), Some(2));
    assert!(both.reread && !both.changed_only);
    assert_eq!(web.joined(Scope { reread: false, pools: None, changed_only: false }).pools, None);
}

#[test]
fn scaling_up_is_done_when_the_new_slots_are_ready() {
    let mut m = Machine::running(policy(1));
    m.scale(2);
    assert_eq!(m.orders(), ["spawn 2 in web/1 of 1"]);
    m.starts(2);
    assert_eq!(m.orders(), ["answer 1: done"]);
}

#[test]
fn a_surplus_worker_stands_in_for_a_wanted_one_that_is_down() {
    let mut m = Machine::running(policy(2));
    m.exits(1, 1);
    m.orders();
    m.scale(1);
    assert_eq!(m.orders(), Vec::<String>::new(), "nobody else serves");
    m.starts(3);
    assert_eq!(m.orders(), ["[retire 2: Removed]", "signal 2 with 15", "answer 1: done"]);
}

#[test]
fn scaling_down_asks_the_highest_slots_to_end() {
    let mut m = Machine::running(policy(3));
    m.scale(1);
    assert_eq!(
        m.orders(),
        [
            "[retire 2: Removed]",
            "signal 2 with 15",
            "[retire 3: Removed]",
            "signal 3 with 15",
            "answer 1: done"
        ]
    );
}

#[test]
fn a_scale_outlives_reloads_until_it_is_reset() {
    let mut m = Machine::running(policy(1));
    m.scale(2);
    m.starts(2);
    m.reload_to(policy(1));
    m.starts(3);
    m.wait(2_000);
    m.starts(4);
    m.orders();
    let web = PoolName::new("web");
    assert_eq!((m.status().pools[&web].wanted, m.status().pools[&web].scaled), (2, true));
    m.request(Request::Scale { pool: web.clone(), workers: None });
    assert_eq!(m.orders(), ["[retire 4: Removed]", "signal 4 with 15", "answer 3: done"]);
}

#[test]
fn of_two_scales_of_a_pool_the_first_is_told_that_it_was_overtaken() {
    let mut m = Machine::running(policy(1));
    m.scale(3);
    m.orders();
    m.scale(2);
    assert_eq!(m.orders()[0], "answer 1: failed, another scale command for this pool came after it");
    m.starts(2);
    assert_eq!(m.orders(), ["answer 2: done"]);
}

#[test]
fn of_two_clients_that_want_one_more_each_gets_one_and_its_answer() {
    let mut m = Machine::running(policy(2));
    let web = PoolName::new("web");
    m.request(Request::ScaleBy { pool: web.clone(), by: 1 });
    m.request(Request::ScaleBy { pool: web.clone(), by: 1 });
    assert_eq!(m.status().pools[&web].wanted, 4);
    m.orders();
    m.starts(3);
    assert_eq!(m.orders(), [""; 0], "both wait for both");
    m.starts(4);
    assert_eq!(m.orders(), ["answer 1: done", "answer 2: done"]);
    m.request(Request::ScaleBy { pool: web.clone(), by: -3 });
    assert_eq!(m.status().pools[&web].wanted, 1);
}

#[test]
fn more_or_fewer_workers_than_there_can_be_are_refused() {
    let mut m = Machine::running(policy(2));
    for by in [-2, -3, i32::MIN, 9_999, i32::MAX] {
        m.request(Request::ScaleBy { pool: PoolName::new("web"), by });
    }
    m.request(Request::ScaleBy { pool: PoolName::new("mail"), by: 1 });
    let refused = |number: u32, what: &str| format!("answer {number}: refused, {what}: there are 1 to 10000");
    assert_eq!(
        m.orders(),
        [
            refused(1, "pool web has 2 workers, and -2 makes 0"),
            refused(2, "pool web has 2 workers, and -3 makes fewer than none"),
            refused(3, "pool web has 2 workers, and -2147483648 makes fewer than none"),
            refused(4, "pool web has 2 workers, and +9999 makes 10001"),
            refused(5, "pool web has 2 workers, and +2147483647 makes 2147483649"),
            "answer 6: refused, there is no pool mail".to_owned(),
        ]
    );
    assert!(!m.status().pools[&PoolName::new("web")].scaled, "nothing was changed");
}

#[test]
fn scaling_into_a_crash_loop_fails() {
    let mut m = Machine::running(policy_with(1, |policy| policy.restart.burst = 1));
    m.scale(2);
    m.orders();
    m.ends(2, 1);
    assert_eq!(m.orders()[2], "answer 1: failed, pool web: slot 1 is in a crash loop");
}

#[test]
fn what_cannot_be_scaled_is_refused() {
    let mut m = Machine::running(policy(1));
    m.request(Request::Scale { pool: PoolName::new("mail"), workers: Some(1) });
    m.scale(10_001);
    assert_eq!(
        m.orders(),
        ["answer 1: refused, there is no pool mail", "answer 2: refused, a pool has at most 10000 workers"]
    );
}

#[test]
fn scaling_down_during_a_bake_is_done_when_the_canary_beyond_is_gone_too() {
    let mut m = Machine::running(policy(1));
    m.reload_to(policy(1));
    m.starts(2);
    m.scale(0);
    assert_eq!(m.slot(0), ["1:Ready", "2:Ready"]);
    assert!(m.orders().is_empty());
    m.wait(2_000);
    assert_eq!(m.slot(0), ["1:Draining", "2:Draining"]);
    assert_eq!(m.orders().last().map(String::as_str), Some("answer 2: done"));
}

#[test]
fn a_pool_that_was_removed_and_comes_back_is_as_it_is_configured() {
    let mut m = Machine::with_pools([("jobs", policy(1)), ("web", policy(1))]);
    m.starts(1);
    m.starts(2);
    m.scale(0);
    m.reload();
    m.prepared([("web", None)]);
    assert_eq!(m.slot(0), ["2:Draining"], "its last worker is still there");
    m.reload();
    m.prepared([("web", Some(policy(1)))]);
    assert_eq!(m.slot(0), ["2:Draining", "3:Starting"]);
}

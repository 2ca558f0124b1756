//! Ends: of a worker with its process group, of the daemon, asked for and forced.

use std::time::Duration;

use crate::support::child::Handle;
use crate::support::client::Connection;
use crate::support::freezer::elapse;
use crate::support::load::Load;
use crate::support::service::{Plan, Service};
use crate::support::{deadline, eventually, proc};

/// The pid of the child that the service's worker forks.
fn forked(service: &Service) -> u32 {
    let report = service.reports().wait("a child", |report| report.what.starts_with("forked"));
    report.child().expect("its pid")
}

#[test]
fn a_stop_lets_workers_answer_what_they_accepted() {
    let service = Plan::new().workers(2).start();
    let mut slow: Vec<Connection> = (0..8)
        .map(|_| {
            let mut connection = Connection::open(service.address()).expect("a connection");
            connection.ask("/slow/200", true).expect("a request");
            connection
        })
        .collect();
    for _ in 0..20 {
        service.get("/").expect("whatever came before is accepted now");
    }
    service.daemon.signal(libc::SIGTERM);
    for connection in &mut slow {
        assert!(connection.answer().expect("an answer in spite of the stop").closing);
    }
    let mut daemon = service.daemon;
    assert_eq!(daemon.wait().code(), Some(0));
    daemon.assert_nothing_left();
}

#[test]
fn sigint_and_the_command_stop_like_sigterm() {
    let mut service = Plan::new().start();
    service.daemon.signal(libc::SIGINT);
    assert_eq!(service.daemon.wait().code(), Some(0));
    service.reports().wait_for("ended");
    let mut service = Plan::new().start();
    service.daemon.cli(&["stop"]).assert_code(handover::exit::DONE);
    assert_eq!(service.daemon.wait().code(), Some(0));
    service.reports().wait_for("ended");
    service.daemon.cli(&["status"]).assert_code(handover::exit::NO_DAEMON);
}

#[test]
fn a_worker_that_ignores_sigterm_is_killed_after_its_time() {
    let plan = Plan::new().pool("stop_timeout", "\"100ms\"").script("ignore-term\nserve\nready");
    let mut service = plan.start();
    service.daemon.signal(libc::SIGTERM);
    assert_eq!(service.daemon.wait().code(), Some(0), "it ended all workers, as asked");
    service.daemon.assert_nothing_left();
}

#[test]
fn a_second_sigterm_a_sigquit_and_stop_now_do_not_wait() {
    for how in ["twice", "quit", "now"] {
        let mut service =
            Plan::new().pool("stop_timeout", "\"60s\"").script("ignore-term\nserve\nready").start();
        match how {
            "twice" => {
                service.daemon.signal(libc::SIGTERM);
                service.manager().wait_for("STOPPING=1");
                elapse(Duration::from_millis(1_100));
                service.daemon.signal(libc::SIGINT);
            }
            "quit" => service.daemon.signal(libc::SIGQUIT),
            _ => drop(service.daemon.cli(&["stop", "--now"])),
        }
        assert!(service.daemon.wait().code().is_some(), "{how}");
        service.daemon.assert_nothing_left();
    }
}

#[test]
fn a_stop_during_the_start_and_during_a_rollout_ends_all() {
    let mut service = Plan::new().script("hang").begin();
    service.reports().wait_for("started");
    service.daemon.stop();
    let service = Plan::new().workers(3).script("serve\n[generation=2] hang\nready").start();
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    let mut daemon = service.daemon;
    daemon.stop();
    reload.finish().assert_code(handover::exit::FAILED);
}

#[test]
fn a_workers_process_group_ends_with_it() {
    for script in ["fork=group\nserve\nready", "fork=group ignore-term\nserve\nready"] {
        let service = Plan::new().pool("stop_timeout", "\"200ms\"").script(script).start();
        let child = Handle::open(forked(&service)).expect("it lives");
        service.reload_well();
        assert!(child.wait(deadline()), "the child of a worker that was replaced lives on");
        service.stop();
    }
}

#[test]
fn the_children_of_a_worker_that_dies_end_and_its_successor_does_not_wait_for_them() {
    let plan = Plan::new().pool("stop_timeout", "\"60s\"");
    let service = plan.script("[worker=1] fork=group ignore-term\nserve\nready\n[worker=1] exit=1").start();
    let child = forked(&service);
    service.reports().wait("the successor", |report| report.what == "ready" && report.worker == 2);
    assert!(proc::is_alive(child), "its deadline is far away");
    service.daemon.cli(&["stop", "--now"]);
    eventually("the child is gone", || (!proc::is_alive(child)).then_some(()));
}

#[test]
fn what_leaves_the_group_does_not_hold_anything_up() {
    let service = Plan::new().script("fork=setsid ignore-term\nserve\nready").start();
    let child = forked(&service);
    service.reload_well();
    let mut daemon = service.daemon;
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    // Where there is a service manager, that ends it.
    assert!(proc::is_alive(child));
}

#[test]
fn a_worker_that_is_replaced_may_take_its_time_without_holding_up_the_others() {
    let service = Plan::new().workers(2).script("serve\nready\n[generation=1] end-takes=1500ms").start();
    service.reload_well();
    let status = service.daemon.status();
    let draining = status.workers("web").into_iter().filter(|worker| worker.state == "draining").count();
    assert_eq!(draining, 2, "{:?}", status.workers("web"));
    service.reload_well();
    service.stop();
}

#[test]
fn a_rollout_waits_while_too_many_workers_drain() {
    let plan = Plan::new().workers(2).rollout("max_draining", "1");
    let service = plan.script("serve\nready\n[generation=1] end-takes=200ms").start();
    service.reload_well();
    let reports = service.reports().seen();
    let place = |what: &str, generation: u64, nth: usize| {
        let mut found =
            reports.iter().enumerate().filter(|(_, r)| r.what == what && r.generation == generation);
        found.nth(nth).map(|(place, _)| place)
    };
    assert!(place("ended", 1, 0) < place("asked", 1, 1), "{reports:#?}");
    service.stop();
}

#[test]
fn when_handover_is_killed_no_worker_is_left_and_another_starts_at_once() {
    let service = Plan::new().workers(3).start();
    service.daemon.signal(libc::SIGKILL);
    let Service { mut daemon, plan } = service;
    daemon.wait();
    daemon.assert_nothing_left();
    plan.script("serve\nready").start().stop();
}

#[test]
fn stopping_under_load_refuses_but_never_cuts() {
    let service = Plan::new().workers(2).start();
    let kept = Load::closed(service.address(), 4).keep_alive().start();
    let slow = Load::closed(service.address(), 4).path("/slow/30").start();
    let Service { mut daemon, plan } = service;
    daemon.stop();
    for tally in [kept.stop(), slow.stop()] {
        assert!(
            tally.lost.iter().all(|lost| lost.failure != crate::support::client::Failure::Cut),
            "{tally:#?}"
        );
    }
    drop(plan);
}

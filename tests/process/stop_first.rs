//! `max_surge = 0`, and a program that binds its own port: the next worker starts when nothing is left of the old one.

use crate::support::child::Handle;
use crate::support::client;
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service};

/// A pool without listeners whose workers bind for themselves.
fn plan(script: impl Fn(&str) -> String) -> Plan {
    let plan = Plan::new().unset("pool.web", "listeners").unset("listener.http", "address");
    let Address::Tcp(to) = plan.address else { unreachable!("it is TCP") };
    plan.script(&script(&to.to_string())).restart("stable_after", "\"60s\"")
}

fn stop_first(script: impl Fn(&str) -> String) -> Service {
    let plan = plan(script).rollout("max_surge", "0").rollout("max_unavailable", "1");
    plan.start()
}

/// It has the port for a second after it was asked to end.
fn slow(to: &str) -> String {
    format!("[generation=3] exit=3\nbind={to}\nend-takes=1s\nready")
}

/// A process beside it has the port, for a while after the main process has gone.
fn with_helper(to: &str) -> String {
    format!("[generation=3] exit=3\nfork-holder={to}\nready")
}

#[track_caller]
fn no_worker_failed(service: &Service) {
    let log = service.daemon.log.text();
    assert!(!log.contains("worker failed"), "{log}");
}

#[track_caller]
fn lives(service: Service) {
    let old = service.ready()[0].pid;
    let reload = service.daemon.begin(&["reload"]);
    service.daemon.log.wait_for("the log says why", |line| {
        line.message() == "worker asked to end"
            && line.text("why").is_some_and(|why| why == "to make room for its successor")
    });
    crate::support::eventually("status says what it waits for", || {
        let text = format!("worker 1 of slot 0 to end before the next one starts (pid {old})");
        service.daemon.status().mentions(&text).then_some(())
    });
    reload.finish().assert_code(handover::exit::DONE);
    no_worker_failed(&service);
    client::get(service.address(), "/").expect("an answer");

    // A crash: its group may still have the port.
    let victim = service.ready()[0].clone();
    Handle::open(victim.pid).expect("it lives").signal(libc::SIGKILL);
    crate::support::eventually("its successor serves", || {
        service.ready().iter().any(|worker| worker.worker == victim.worker + 1).then_some(())
    });
    client::get(service.address(), "/").expect("an answer");
    let log = service.daemon.log.text();
    assert!(!log.contains("in use"), "{log}");

    // A bad deploy: the old program comes back, at its first try, and that is what the answer waits for.
    let output = service.reload();
    output.assert_code(handover::exit::FAILED).assert_says("exited with status 3");
    client::get(service.address(), "/").expect("an answer");
    let ready = service.ready();
    assert_eq!(ready.iter().map(|worker| worker.generation).collect::<Vec<_>>(), [2]);
    let log = service.daemon.log.text();
    assert!(!log.contains("in use"), "{log}");
    service.stop();
}

#[test]
fn a_program_that_binds_its_own_port_is_rolled_out_followed_and_rolled_back() {
    lives(stop_first(slow));
}

#[test]
fn a_helper_in_its_group_that_has_the_port_is_waited_for() {
    lives(stop_first(with_helper));
}

#[test]
fn the_successor_of_one_that_crashed_waits_for_its_helper_and_the_log_says_so() {
    let service = stop_first(with_helper);
    Handle::open(service.ready()[0].pid).expect("it lives").signal(libc::SIGKILL);
    service.daemon.log.wait_for("the log says so", |line| {
        line.message() == "successor waits for the end of this worker"
            && line.text("worker").as_deref() == Some("1")
    });
    crate::support::eventually("the next one serves", || client::get(service.address(), "/").ok());
    service.stop();
}

#[test]
fn slots_go_one_by_one() {
    let script = |_: &str| "end-takes=200ms\nready".to_owned();
    let plan = plan(script).workers(3).rollout("max_surge", "0").rollout("max_unavailable", "1");
    let service = plan.start();
    let events = service.daemon.events();
    service.reload_well();
    let (mut living, mut most) = (3_i32, 3_i32);
    let mut least = 3_i32;
    events.wait_for("the end of the rollout", |event| {
        match event.what {
            handover::control::What::WorkerStarted(_) => living += 1,
            handover::control::What::WorkerGone(_) => living -= 1,
            handover::control::What::RolloutDone(_) => return true,
            _ => {}
        }
        (most, least) = (most.max(living), least.min(living));
        false
    });
    assert_eq!((most, least), (3, 2));
    events.close();
    service.stop();
}

#[test]
fn start_first_with_a_port_of_its_own_is_told_what_to_do() {
    let service = plan(slow).start();
    let output = service.reload();
    output.assert_code(handover::exit::FAILED).assert_says("max_surge = 0");
    assert!(!output.text().contains("fd 3"), "{}", output.text());
    service.stop();
}

//! handover as PID 1 of a container: nobody else reaps orphans, and the kernel delivers it only signals that it handles.

use crate::support::child::Handle;
use crate::support::machine::{skipped, succeeds};
use crate::support::reports::Report;
use crate::support::scratch::Address;
use crate::support::service::Plan;
use crate::support::{eventually, proc};

/// `unshare` forks, so the daemon is its child.
const CONTAINER: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

#[test]
fn as_pid_1_it_reaps_orphans_and_stops_when_asked() {
    if skipped("a pid namespace", !succeeds(&[&CONTAINER[..], &["true"]].concat())) {
        return;
    }
    let plan = Plan::new().script("fork=setsid\nserve\nready\nend-takes=50ms");
    let setup = plan.setup().under(CONTAINER);
    let service = plan.start_with(setup);
    assert_eq!(service.daemon.status().0["daemon"]["pid"], 1);
    let pid = proc::children(service.daemon.pid())[0];
    let worker = proc::children(pid)[0];
    let orphan = proc::children(worker)[0];
    service.reload_and_settle();
    assert!(!proc::is_alive(worker));
    assert!(proc::children(pid).contains(&orphan), "what left its group is now the child of PID 1");
    Handle::open(orphan).expect("it lives").signal(libc::SIGKILL);
    eventually("it is reaped", || (!proc::children(pid).contains(&orphan)).then_some(()));
    service.get("/").expect("an answer");

    let mut daemon = service.daemon;
    Handle::open(pid).expect("it lives").signal(libc::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    service
        .plan
        .reports
        .wait("the worker ended by itself", |report| report.what == "ended" && report.generation == 2);
    daemon.assert_nothing_left();
}

#[test]
fn as_pid_1_it_takes_the_sockets_that_are_for_pid_1() {
    if skipped("a pid namespace", !succeeds(&[&CONTAINER[..], &["true"]].concat())) {
        return;
    }
    let plan = Plan::new();
    let Address::Tcp(to) = plan.address else { panic!("Plan::new is on TCP") };
    let socket = std::net::TcpListener::bind(to).expect("a free address");
    // No names: a container's manager drops them.
    let setup = plan.setup().pass(vec![socket.into()], "").under(CONTAINER);
    let service = plan.start_with(setup);
    let pid = proc::children(service.daemon.pid())[0];
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it lives");
    assert!(environment.split(|byte| *byte == 0).any(|variable| variable == b"LISTEN_PID=1"));
    let listener = service.daemon.status().listener("http").cloned().expect("it is shown");
    assert_eq!(listener["origin"], "inherited");
    service.get("/").expect("an answer");
    let mut daemon = service.daemon;
    Handle::open(pid).expect("it lives").signal(libc::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn as_pid_1_it_answers_to_every_signal_that_it_knows() {
    if skipped("a pid namespace", !succeeds(&[&CONTAINER[..], &["true"]].concat())) {
        return;
    }
    for last in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let plan = Plan::new();
        let setup = plan.setup().under(CONTAINER);
        let service = plan.start_with(setup);
        let pid = proc::children(service.daemon.pid())[0];
        let first = Handle::open(pid).expect("it lives");
        for (signal, generation) in [(libc::SIGHUP, 2), (libc::SIGUSR1, 3)] {
            first.signal(signal);
            eventually("the next generation serves", || {
                let ready = service.ready();
                (!ready.is_empty() && ready.iter().all(|worker| worker.generation == generation))
                    .then_some(())
            });
        }
        // It replaces itself by this one day; until then it is no reason to end.
        first.signal(libc::SIGUSR2);
        service.get("/").expect("an answer");
        let mut daemon = service.daemon;
        first.signal(last);
        assert_eq!(daemon.wait().code(), Some(0), "signal {last}");
        // Who is asked to end says so; who is killed cannot.
        if last != libc::SIGQUIT {
            let ended = |report: &Report| report.what == "ended" && report.generation == 3;
            service.plan.reports.wait("the worker was asked to end", ended);
        }
        daemon.assert_nothing_left();
    }
}

#[test]
fn orphans_are_reaped_though_it_is_not_pid_1() {
    let service = Plan::new().script("fork=setsid\nserve\nready").start();
    let orphan = service
        .reports()
        .wait("a child", |report| report.what.starts_with("forked"))
        .child()
        .expect("its pid");
    service.deploy("serve\nready");
    service.reload_and_settle();
    assert!(proc::children(service.daemon.pid()).contains(&orphan), "it is a subreaper");
    assert!(service.daemon.status().counter("orphans") > 0);
    Handle::open(orphan).expect("it lives").signal(libc::SIGKILL);
    eventually("it is reaped", || (!proc::children(service.daemon.pid()).contains(&orphan)).then_some(()));
    service.stop();
}

#[test]
fn orphans_are_reaped_though_a_worker_that_ended_before_them_stays_for_its_group() {
    let plan = Plan::new().pool("stop_timeout", "\"60s\"");
    let script = "fork=group ignore-term\nfork=setsid\nfork=setsid\nserve\nready";
    let service = plan.script(script).start();
    let daemon = service.daemon.pid();
    let worker = service.ready().remove(0);
    let forked = proc::children(worker.pid);
    let [stays, early, late] = forked[..] else { panic!("three children: {forked:?}") };
    // The first has ended before it becomes ours, together with its parent's end; the second does so later.
    Handle::open(early).expect("it lives").signal(libc::SIGKILL);
    service.deploy("serve\nready");
    Handle::open(worker.pid).expect("it lives").signal(libc::SIGKILL);
    eventually("its successor", || service.ready().iter().any(|other| other.pid != worker.pid).then_some(()));
    eventually("the first is reaped", || (!proc::children(daemon).contains(&early)).then_some(()));
    Handle::open(late).expect("it lives").signal(libc::SIGKILL);
    eventually("the second is reaped", || (!proc::children(daemon).contains(&late)).then_some(()));
    assert!(proc::is_alive(stays) && proc::children(daemon).contains(&worker.pid), "they are waited for");
    service.daemon.cli(&["stop", "--now"]);
    eventually("the child is gone", || (!proc::is_alive(stays)).then_some(()));
}

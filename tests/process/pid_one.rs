//! handover as PID 1 of a container: nobody else reaps orphans, and the kernel delivers it only signals that it handles.

use crate::support::child::Handle;
use crate::support::machine::{skipped, succeeds};
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

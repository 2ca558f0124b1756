//! `handover status --check`: what a health check is told.

use handover::exit::{DONE, FAILED, NO_DAEMON, TIMED_OUT};

use crate::support::child::Handle;
use crate::support::service::Plan;

#[test]
fn a_service_is_healthy_when_what_is_configured_serves() {
    let service = Plan::new().workers(2).start();
    let output = service.daemon.cli(&["status", "--check"]);
    output.assert_code(DONE);
    assert_eq!(output.stdout, "test: fine: 2 of 2 workers ready\n");
    assert_eq!(service.daemon.cli(&["status", "--check", "-q"]).assert_code(DONE).text(), "");
    assert!(service.daemon.status().mentions("\"healthy\":true"));

    service.deploy("exit=3");
    service.reload().assert_code(FAILED);
    let output = service.daemon.cli(&["status", "--check"]);
    output.assert_code(DONE).assert_says("needs attention: the rollout to generation 2 was rolled back");

    let socket = service.daemon.socket().to_owned();
    service.stop();
    let words = ["status", "--check", "--socket", socket.to_str().expect("a path in /tmp")];
    let output = crate::support::daemon::Running::start(&mut crate::support::daemon::command(words)).finish();
    output.assert_code(NO_DAEMON);
}

#[test]
fn a_service_of_which_nobody_is_ready_is_not_healthy() {
    let service = Plan::new().workers(2).start();
    service.deploy("exit=3");
    for worker in service.ready() {
        Handle::open(worker.pid).expect("it lives").signal(libc::SIGKILL);
    }
    crate::support::eventually("both slots loop", || {
        let output = service.daemon.cli(&["status", "--check"]);
        let loops = output.stdout.contains("crash loop in pool web, slots 0, 1: ");
        loops.then(|| drop(output.assert_code(FAILED).clone()))
    });
    let output = service.daemon.cli(&["status", "--check", "--json"]);
    output.assert_code(FAILED).assert_says("\"healthy\":false");
    assert_eq!(service.daemon.cli(&["status", "--check", "--quiet"]).assert_code(FAILED).text(), "");
    // Without --check it is an answer like any other.
    service.daemon.cli(&["status"]).assert_code(DONE);
}

#[test]
fn a_service_that_starts_or_stops_is_not_healthy() {
    let service = Plan::new().script("hang").begin();
    service.reports().wait_for("started");
    let output = service.daemon.cli(&["status", "--check"]);
    output.assert_code(FAILED);
    assert_eq!(output.stdout, "test: starting: 0 of 1 workers ready\n");

    let service = Plan::new().script("serve\nready\nend-takes=20s").start();
    let stop = service.daemon.begin(&["stop"]);
    service.manager().wait_for("STOPPING=1");
    service.daemon.cli(&["status", "--check"]).assert_code(FAILED).assert_says("test: stopping: ");
    service.daemon.cli(&["stop", "--now"]).assert_code(DONE);
    stop.finish();
}

#[test]
fn one_slot_in_a_crash_loop_is_not_healthy() {
    let service = Plan::new().workers(2).script("[slot=1] exit=3\nserve\nready").begin();
    crate::support::eventually("the crash loop is seen", || {
        let output = service.daemon.cli(&["status", "--check"]);
        output.stdout.contains("crash loop in pool web, slot 1").then(|| output.assert_code(FAILED).clone())
    });
}

#[test]
fn a_daemon_that_hangs_is_said_to_after_a_second_and_given_up_in_time() {
    let service = Plan::new().start();
    service.daemon.signal(libc::SIGSTOP);
    let patient = service.daemon.begin(&["status", "--check"]);
    let output = service.daemon.cli(&["status", "--check", "--timeout", "1500ms"]);
    output.assert_code(TIMED_OUT);
    let said = format!(
        "handover: no answer yet from {} (pid {}); state T (stopped)\n",
        service.daemon.socket().display(),
        service.daemon.pid()
    );
    assert!(output.stderr.starts_with(&said), "{output:#?}");
    assert_eq!(output.stdout, "");
    let output = patient.finish();
    output.assert_code(NO_DAEMON).assert_says("the daemon does not answer");
    assert!(output.stderr.starts_with(&said), "{output:#?}");
    service.daemon.signal(libc::SIGCONT);
    service.daemon.cli(&["status", "--check"]).assert_code(DONE);
    service.stop();
}

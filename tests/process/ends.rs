//! Stops that are asked for twice, that ask for time without end, and workers that cannot be killed.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::child::Handle;
use crate::support::client::Connection;
use crate::support::machine::{AS_NOBODY, cannot_be_nobody, skipped, succeeds};
use crate::support::scripted_worker;
use crate::support::service::{Plan, Service};
use crate::support::{deadline, eventually};

/// A request that takes longer than two signals are apart.
fn slow(service: &Service) -> Connection {
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.ask("/slow/700", true).expect("a request");
    service.get("/").expect("whatever came before is accepted now");
    connection
}

fn is_answered_and_the_daemon_ends_well(mut service: Service, mut request: Connection, how: &str) {
    assert!(request.answer().is_ok(), "{how}: the request was cut");
    assert_eq!(service.daemon.wait().code(), Some(0), "{how}");
    let text = service.daemon.log.text();
    assert!(!text.contains("worker killed"), "{how}: {text}");
}

#[test]
fn two_signals_within_a_second_are_one() {
    for second in [libc::SIGTERM, libc::SIGINT] {
        let service = Plan::new().workers(2).start();
        let request = slow(&service);
        service.daemon.signal(libc::SIGTERM);
        service.manager().wait_for("STOPPING=1");
        service.daemon.signal(second);
        service.daemon.log.wait_for("it says so", |line| line.message().starts_with("signal ignored"));
        is_answered_and_the_daemon_ends_well(service, request, "twice");
    }
}

#[test]
fn a_command_that_signals_twice_cuts_nothing() {
    if skipped("timeout", !succeeds(&["timeout", "1", "true"])) {
        return;
    }
    let plan = Plan::new().workers(2);
    // It executes nothing: it starts the daemon, and signals it and then its own process group.
    let setup = plan.setup().under(["timeout", "2"]);
    let service = plan.start_with(setup);
    let mut request = slow(&service);
    let asked = service.manager();
    asked.wait_for("STOPPING=1");
    // One that came just before the signals.
    assert!(request.answer().is_ok());
    let text = service.daemon.log.text();
    assert!(!text.contains("worker killed"), "{text}");
}

#[test]
fn after_a_client_asked_for_the_stop_the_first_signal_is_a_first_signal() {
    let service = Plan::new().workers(2).start();
    let request = slow(&service);
    let stop = service.daemon.begin(&["stop"]);
    service.manager().wait_for("STOPPING=1");
    let again = service.daemon.begin(&["stop"]);
    service.daemon.signal(libc::SIGTERM);
    is_answered_and_the_daemon_ends_well(service, request, "stop, then a signal");
    stop.finish().assert_code(handover::exit::DONE);
    drop(again);
}

#[test]
fn a_worker_that_asks_for_thirty_years_in_a_stop_gets_twice_its_time_and_so_does_systemd() {
    let plan = Plan::new().pool("stop_timeout", "\"700ms\"");
    let script = "ignore-term\nserve\nready\nwait=200ms\nextend-timeout=1000000000s\nwait=200ms\nextend-timeout=1000000000s";
    let mut service = plan.script(script).start();
    service.daemon.signal(libc::SIGTERM);
    service.manager().wait_for("STOPPING=1");
    assert!(service.daemon.wait().code().is_some(), "it is killed in time");
    let asked = service.manager().said(&["EXTEND_TIMEOUT_USEC"]);
    let longest = asked.iter().filter_map(|text| text.split('=').nth(1)?.parse::<u64>().ok()).max();
    assert!(longest.is_some_and(|usec| usec < 60_000_000), "{asked:?}");
}

/// A pool whose worker is root's, set-user-ID, under a daemon that is nobody: it may not be killed. `None` where that
/// cannot be had.
fn unkillable() -> Option<(Service, Handle)> {
    if cannot_be_nobody() || skipped("root", !nix::unistd::geteuid().is_root()) {
        return None;
    }
    let plan = Plan::new().pool("stop_timeout", "\"200ms\"").script("become-root\nignore-term\nserve\nready");
    let program = plan.scratch.join("setuid");
    std::fs::copy(scripted_worker(), &program).expect("a copy");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).expect("ours");
    let plan = plan.command(&[&program.display().to_string()]);
    plan.open_to_all();
    let setup = plan.setup().under(AS_NOBODY);
    let program = program.display().to_string();
    let words: Vec<&str> = AS_NOBODY.into_iter().chain([program.as_str(), "become-root", "exit=0"]).collect();
    if skipped("set-user-ID programs", !succeeds(&words)) {
        return None;
    }
    let service = plan.start_with(setup);
    let pid = service.ready().first().map(|worker| worker.pid).expect("its pid");
    let handle = Handle::open(pid).expect("it lives");
    Some((service, handle))
}

#[test]
fn a_stop_ends_without_a_worker_that_may_not_be_killed_and_names_its_pid() {
    let Some((mut service, worker)) = unkillable() else { return };
    service.daemon.signal(libc::SIGTERM);
    assert_eq!(service.daemon.wait().code(), Some(1), "not all workers have ended");
    let text = service.daemon.log.text();
    assert!(text.contains("worker not killed") && !text.contains("worker killed"), "{text}");
    assert!(text.contains("operation not permitted") || text.contains("Operation not permitted"), "{text}");
    assert!(text.contains("left behind"), "{text}");
    assert!(!worker.wait(std::time::Instant::now() + Duration::from_millis(50)), "it lives on");
    worker.signal(libc::SIGKILL);
}

#[test]
fn a_client_that_asks_for_the_stop_is_told_and_a_rollout_goes_on_without_it() {
    let Some((mut service, worker)) = unkillable() else { return };
    service.deploy("serve\nready");
    service.daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    eventually("it is let go", || service.daemon.log.text().contains("worker not killed").then_some(()));
    let status = service.daemon.cli(&["status"]);
    status.assert_says("cannot be ended").assert_says("not killed");
    service.daemon.cli(&["stop"]).assert_code(handover::exit::FAILED).assert_says("left behind");
    assert_eq!(service.daemon.wait().code(), Some(1));
    worker.signal(libc::SIGKILL);
    assert!(worker.wait(deadline()));
}

//! Pauses: a frozen cgroup (`docker pause`, a laptop that sleeps, a stopped machine), or everybody under `SIGSTOP`. What could
//! not run is not counted against anybody.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::freezer::{Freezer, elapse, stop_all};
use crate::support::load::Load;
use crate::support::service::{Plan, Service};
use crate::support::{deadline, proc};

const PAUSE: Duration = Duration::from_millis(3_500);

/// A service that can be frozen; `None` where this machine cannot do that.
fn frozen(plan: Plan) -> Option<(Freezer, Service)> {
    let freezer = Freezer::new()?;
    let setup = freezer.hold(plan.setup());
    let service = plan.start_with(setup);
    Some((freezer, service))
}

fn told(daemon: &Daemon) {
    daemon.log.wait_for("it is told", |line| line.message() == "time lost");
}

/// A watchdog that is shorter than the pause, with workers that feed it.
fn watched() -> Plan {
    Plan::new().workers(2).pool("watchdog", "\"1500ms\"")
}

fn nobody_was_replaced(service: Service) {
    told(&service.daemon);
    let load = Load::open(service.address(), 100).start();
    load.wait_for(300);
    load.stop().assert_nothing_lost();
    assert_eq!(service.reports().count("started"), 2);
    let text = service.daemon.log.text();
    assert!(!text.contains("worker failed") && !text.contains("worker killed"), "{text}");
    let status = service.daemon.cli(&["status"]);
    status.assert_says("seconds in which nobody ran");
    service.stop();
}

#[test]
fn a_frozen_watchdog_does_not_run_out() {
    let Some((freezer, service)) = frozen(watched()) else { return };
    freezer.pause(PAUSE);
    nobody_was_replaced(service);
}

#[test]
fn a_watchdog_does_not_run_out_under_sigstop() {
    let service = watched().start();
    stop_all(&service.daemon, PAUSE);
    nobody_was_replaced(service);
}

#[test]
fn a_worker_that_hangs_is_found_out_after_a_pause_as_before_it() {
    let plan = Plan::new().pool("watchdog", "\"1500ms\"");
    let plan = plan.script("serve\nready\n[worker=1] wait=100ms\n[worker=1] stop-heartbeat");
    let Some((freezer, service)) = frozen(plan) else { return };
    freezer.pause(PAUSE);
    service.reports().wait("its successor", |report| report.what == "ready" && report.worker == 2);
    service.daemon.log.wait_for("why", |line| line.text.contains("no WATCHDOG=1"));
    service.stop();
}

#[test]
fn a_frozen_canary_bakes_for_all_of_its_time_and_its_rollout_is_not_late() {
    let plan = Plan::new().rollout("bake_time", "\"3s\"").rollout("deadline", "\"5s\"");
    let Some((freezer, service)) = frozen(plan) else { return };
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "ready" && report.generation == 2);
    let ready = Instant::now();
    freezer.pause(PAUSE);
    reload.finish().assert_code(handover::exit::DONE);
    let baked = ready.elapsed().saturating_sub(PAUSE);
    // What the test saw late of it is not in it.
    assert!(baked > Duration::from_millis(2_500), "it ran for {baked:?} of 3s");
    told(&service.daemon);
    service.stop();
}

#[test]
fn a_frozen_start_is_not_late() {
    let plan = Plan::new().pool("start_timeout", "\"3s\"").script("serve\nwait=1500ms\nready");
    let Some(freezer) = Freezer::new() else { return };
    let setup = freezer.hold(plan.setup());
    let service = plan.begin_with(setup);
    service.reports().wait_for("started");
    freezer.pause(PAUSE);
    service
        .reports()
        .wait("the first one, in its time", |report| report.what == "ready" && report.worker == 1);
    service.stop();
}

#[test]
fn a_frozen_drain_and_a_frozen_stop_cut_nobody_short() {
    for how in ["drain", "stop"] {
        let plan = Plan::new().pool("stop_timeout", "\"3s\"").script("end-takes=1500ms\nserve\nready");
        let Some((freezer, mut service)) = frozen(plan) else { return };
        match how {
            "drain" => drop(service.daemon.cli(&["restart"]).assert_code(handover::exit::DONE)),
            _ => service.daemon.signal(libc::SIGTERM),
        }
        service.reports().wait_for("asked");
        freezer.pause(PAUSE);
        service.reports().wait("its own end", |report| report.what == "ended" && report.worker == 1);
        if how == "stop" {
            assert_eq!(service.daemon.wait().code(), Some(0));
        }
        let text = service.daemon.log.text();
        assert!(!text.contains("worker killed"), "{how}: {text}");
        drop(freezer);
    }
}

#[test]
fn while_nothing_is_armed_nobody_looks_at_the_clock_and_with_a_watchdog_once_a_second() {
    let Some((freezer, service)) = frozen(Plan::new().workers(2)) else { return };
    let before = settled(service.daemon.pid());
    freezer.pause(Duration::from_millis(2_500));
    // The freezer itself makes every task pass through the scheduler.
    assert!(proc::waits(service.daemon.pid()) <= before + 4, "nobody asked anything of it");
    assert!(!service.daemon.log.text().contains("time lost"), "and nothing was lost by that");
    service.stop();
}

/// The count of waits, once it stands still for longer than a look takes.
fn settled(pid: u32) -> u64 {
    let latest = deadline();
    loop {
        let before = proc::waits(pid);
        elapse(Duration::from_millis(1_200));
        if proc::waits(pid) == before {
            return before;
        }
        assert!(Instant::now() < latest, "it never rests");
    }
}

/// Frozen again and again while it rolls under load. A minute of it: `HANDOVER_TEST_PAUSE=60`.
#[test]
fn pauses_under_load_and_rollouts_replace_nobody_and_lose_nothing() {
    let seconds =
        std::env::var("HANDOVER_TEST_PAUSE").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(6);
    let plan = watched().rollout("bake_time", "\"500ms\"").rollout("deadline", "\"5s\"");
    let Some((freezer, service)) = frozen(plan) else { return };
    let load = Load::open(service.address(), 50).start();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut pauses, mut rollouts) = (0_u32, 0_u32);
    while Instant::now() < until {
        // In the middle of a rollout, at another place each time.
        let reload = service.daemon.begin(&["restart"]);
        elapse(Duration::from_millis(u64::from(pauses * 137 % 900)));
        freezer.pause(Duration::from_millis(1_700 + u64::from(pauses * 311 % 1_300)));
        pauses += 1;
        reload.finish().assert_code(handover::exit::DONE);
        rollouts += 1;
    }
    load.wait_for(50);
    let tally = load.stop();
    let text = service.daemon.log.text();
    let count = |what: &str| text.matches(what).count();
    let (failed, killed) = (count("worker failed"), count("worker killed"));
    let _ = writeln!(
        std::io::stderr(),
        "pauses: {pauses} in {seconds} s, {rollouts} rollouts, {} answers, {} lost, the slowest {:.1?}, {failed} workers failed, {killed} killed",
        tally.ok,
        tally.lost.len(),
        tally.slowest,
    );
    tally.assert_nothing_lost();
    assert_eq!((failed, killed), (0, 0), "{text}");
    assert_eq!(service.reports().count("started"), 2 + 2 * rollouts as usize);
    service.stop();
}

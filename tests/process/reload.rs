//! Reloads: what they read, that they are joined, and when they are refused.

use crate::support::load::Load;
use crate::support::service::{Plan, quoted};

#[test]
fn a_reload_starts_the_program_that_is_there_now() {
    let service = Plan::new().workers(2).script("version=1").start();
    assert_eq!(service.get("/").expect("an answer").version(), "1");
    service.deploy("version=2");
    service.reload_and_settle();
    let answer = service.get("/").expect("an answer");
    assert_eq!((answer.version().as_str(), answer.generation()), ("2", 2));
    assert!(service.ready().iter().all(|worker| worker.generation == 2));
    service.stop();
}

#[test]
fn a_reload_reads_the_configuration_and_a_restart_does_not() {
    let mut service = Plan::new().start();
    service.configure("pool.web", "workers", Some("3"));
    service.daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    assert_eq!(service.ready().len(), 1);
    service.reload_well();
    assert_eq!(service.ready().len(), 3);
    service.configure("pool.web", "workers", Some("1"));
    service.reload_well();
    assert_eq!(service.ready().len(), 1);
    service.stop();
}

#[test]
fn pools_come_and_go() {
    let mut service = Plan::new().start();
    let worker = format!("[{}]", quoted(&crate::support::scripted_worker().display().to_string()));
    let load = Load::open(service.address(), 200).start();
    service.configure("pool.jobs", "command", Some(&worker));
    service.configure("pool.jobs", "ready", Some("\"exec\""));
    service.configure("pool.jobs.rollout", "bake_time", Some("\"20ms\""));
    service.reload_well();
    assert_eq!(service.daemon.status().ready("jobs").len(), 1);
    service.configure("pool.jobs", "command", None);
    service.configure("pool.jobs", "ready", None);
    service.configure("pool.jobs.rollout", "bake_time", None);
    service.reload_well();
    assert!(service.daemon.status().pool("jobs").is_none());
    load.stop().assert_nothing_lost();
    service.stop();
}

#[test]
fn a_reload_of_a_bad_configuration_changes_nothing() {
    let service = Plan::new().start();
    let good = service.plan.text();
    let half = good.split_at(good.len() / 2).0.to_owned();
    for bad in [good.replace("workers", "wrokers") + "\n[pool.x]\n", "".to_owned(), half, "\u{0}".to_owned()]
    {
        service.plan.scratch.write("c.toml", &bad);
        service.reload().assert_code(handover::exit::USAGE).assert_says("c.toml:");
    }
    std::fs::remove_file(service.plan.scratch.join("c.toml")).expect("our file");
    service.reload().assert_code(handover::exit::USAGE).assert_says("c.toml");
    assert_eq!(service.reports().count("started"), 1);
    service.plan.write();
    service.reload_well();
    service.stop();
}

#[test]
fn only_changed_rolls_only_what_changed() {
    let mut service = Plan::new().start();
    let worker = format!("[{}]", quoted(&crate::support::scripted_worker().display().to_string()));
    service.configure("pool.jobs", "command", Some(&worker));
    service.configure("pool.jobs", "ready", Some("\"exec\""));
    service.configure("pool.jobs.rollout", "bake_time", Some("\"20ms\""));
    service.daemon.cli(&["reload", "--changed"]).assert_code(0);
    let (web, jobs) = (service.ready()[0].pid, service.daemon.status().ready("jobs")[0].pid);
    service.configure("pool.jobs", "stop_timeout", Some("\"5s\""));
    service.daemon.cli(&["reload", "--changed"]).assert_code(0);
    assert_eq!(service.ready()[0].pid, web);
    assert_ne!(service.daemon.status().ready("jobs")[0].pid, jobs);
    service.daemon.cli(&["reload", "--pool", "web"]).assert_code(0);
    assert_ne!(service.ready()[0].pid, web);
    service
        .daemon
        .cli(&["reload", "--pool", "nonsense"])
        .assert_code(handover::exit::USAGE)
        .assert_says("nonsense");
    service.stop();
}

#[test]
fn sighup_is_a_reload_and_sigusr1_a_restart() {
    let mut service = Plan::new().start();
    service.configure("pool.web", "workers", Some("2"));
    service.daemon.signal(libc::SIGUSR1);
    service.manager().wait_for("RELOADING=1");
    service.manager().wait_for("READY=1");
    assert_eq!(service.ready().len(), 1);
    service.daemon.signal(libc::SIGHUP);
    service.manager().wait_for("RELOADING=1");
    service.manager().wait_for("READY=1");
    assert_eq!(service.ready().len(), 2);
    service.stop();
}

#[test]
fn requests_that_arrive_during_a_rollout_are_joined_into_one_that_follows() {
    let service = Plan::new().workers(2).script("serve\nwait=100ms\nready").start();
    let load = Load::open(service.address(), 200).start();
    let first = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    let later: Vec<_> = (0..5).map(|_| service.daemon.begin(&["reload"])).collect();
    first.finish().assert_code(0);
    for output in later.into_iter().map(crate::support::daemon::Running::finish) {
        output.assert_code(0);
    }
    load.stop().assert_nothing_lost();
    assert!(service.ready().iter().all(|worker| worker.generation == 3), "{:?}", service.ready());
    service.stop();
}

#[test]
fn a_storm_of_signals_ends_in_one_generation_that_serves() {
    let service = Plan::new().workers(2).start();
    let load = Load::open(service.address(), 200).start();
    for _ in 0..300 {
        service.daemon.signal(libc::SIGHUP);
    }
    service.reload_well();
    load.stop().assert_nothing_lost();
    let ready = service.ready();
    assert_eq!(ready.len(), 2);
    assert_eq!(ready[0].generation, ready[1].generation);
    assert!(ready[0].generation < 50, "they are joined: {ready:?}");
    service.stop();
}

#[test]
fn a_reload_during_the_start_waits_for_it() {
    let service = Plan::new().script("serve\n[generation=1] wait=200ms\nready").begin();
    service.reports().wait_for("started");
    service.reload_and_settle();
    assert_eq!(service.get("/").expect("an answer").generation(), 2);
    service.stop();
}

#[test]
fn a_reload_during_the_stop_is_refused() {
    let mut service = Plan::new().script("serve\nready\nend-takes=300ms").start();
    service.daemon.signal(libc::SIGTERM);
    service.reports().wait_for("asked");
    service.reload().assert_code(handover::exit::FAILED).assert_says("stop");
    assert_eq!(service.daemon.wait().code(), Some(0));
}

#[test]
fn who_does_not_wait_gets_an_answer_at_once() {
    let service = Plan::new().script("serve\n[generation=2] hang\nready").start();
    service.daemon.cli(&["reload", "--no-wait"]).assert_code(handover::exit::DONE);
    let output = service.daemon.cli(&["reload", "--timeout", "100ms"]);
    output.assert_code(handover::exit::TIMED_OUT);
    service.daemon.cli(&["cancel"]).assert_code(handover::exit::DONE);
    service.stop();
}

#[test]
fn a_client_that_is_interrupted_ends_alone() {
    let service = Plan::new().script("serve\n[generation=2] wait=300ms\nready").start();
    let mut client = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    client.child().signal(libc::SIGINT);
    client.finish();
    service.reports().wait("the rollout goes on", |report| report.what == "ready" && report.generation == 2);
    service.reload_well();
    service.stop();
}

#[test]
fn scale_with_a_sign_changes_the_number_that_is_wanted() {
    let service = Plan::new().workers(2).start();
    let scale = |by: &str| service.daemon.cli(&["scale", "web", by]);
    scale("+1").assert_code(0).assert_says("pool web scaled from 2 to 3, 3 of 3 workers ready");
    // Several at the same time: none is lost.
    let all: Vec<_> = (0..4).map(|_| service.daemon.begin(&["scale", "web", "+1"])).collect();
    for one in all {
        one.finish().assert_code(0);
    }
    assert_eq!(service.ready().len(), 7);
    scale("-5").assert_code(0).assert_says("from 7 to 2");
    scale("-2").assert_code(handover::exit::USAGE).assert_says("pool web has 2 workers, and -2 makes 0");
    for nonsense in ["+0", "-0", "0", "+", "-", "++1", "+-1", "10001", "+10001", "1.5", "web"] {
        scale(nonsense).assert_code(handover::exit::USAGE).assert_says("not a number of workers");
    }
    assert_eq!(service.ready().len(), 2);
    service.stop();
}

#[test]
fn scale_changes_the_number_of_slots_until_it_is_reset() {
    let service = Plan::new().workers(2).start();
    let load = Load::open(service.address(), 200).start();
    service.daemon.cli(&["scale", "web", "4"]).assert_code(0);
    assert_eq!(service.ready().len(), 4);
    service.reload_well();
    assert_eq!(service.ready().len(), 4);
    service.daemon.cli(&["scale", "web", "1"]).assert_code(0);
    assert_eq!(service.ready().len(), 1);
    service.daemon.cli(&["scale", "web", "--reset"]).assert_code(0);
    assert_eq!(service.ready().len(), 2);
    load.stop().assert_nothing_lost();
    service.stop();
}

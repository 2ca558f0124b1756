//! Workers that die, harm what they share, or want more than there is: one broken worker is one broken worker.

use crate::support::child::Handle;
use crate::support::load::Load;
use crate::support::machine::cannot_be_nobody;
use crate::support::proc;
use crate::support::scratch::Address;
use crate::support::service::Plan;

#[test]
fn a_killed_worker_has_a_successor_on_the_same_socket() {
    let service = Plan::new().start();
    let old = service.ready()[0].clone();
    let socket = proc::fds(old.pid).get(&3).cloned();
    Handle::open(old.pid).expect("it lives").signal(libc::SIGKILL);
    let new = service.reports().wait("the successor", |report| report.what == "ready" && report.worker == 2);
    assert_eq!((new.slot, new.generation), (old.slot, old.generation));
    assert_eq!(proc::fds(new.pid).get(&3).cloned(), socket);
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn a_worker_that_crashes_again_and_again_is_paced_and_its_siblings_serve() {
    let plan = Plan::new().workers(3).restart("burst", "3").restart("backoff_max", "\"60s\"");
    let service = plan.script("[slot=2] crash\nserve\nready").start();
    let load = Load::open(service.address(), 200).start();
    load.wait_for(100);
    load.stop().assert_nothing_lost();
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(status.contains("crash loop"), "{status}");
    let starts =
        service.reports().seen().iter().filter(|report| report.slot == 2 && report.what == "started").count();
    assert!((3..=5).contains(&starts), "{starts} starts in the slot");
    service.stop();
}

#[test]
fn a_crash_loop_ends_with_the_next_good_reload() {
    let plan = Plan::new().workers(2).restart("burst", "2").restart("backoff_max", "\"60s\"");
    let service = plan.script("[slot=1] exit=1\nserve\nready").start();
    assert_eq!(service.ready().len(), 1);
    service.deploy("serve\nready");
    service.reload_well();
    assert_eq!(service.ready().len(), 2);
    service.stop();
}

#[test]
fn a_worker_that_is_killed_during_a_rollout_does_not_stop_it() {
    let service = Plan::new().workers(3).script("serve\nwait=30ms\nready").start();
    let old = service.ready()[2].pid;
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    Handle::open(old).expect("it lives").signal(libc::SIGKILL);
    reload.finish().assert_code(handover::exit::DONE);
    assert!(service.ready().iter().all(|worker| worker.generation == 2));
    service.stop();
}

#[test]
fn a_worker_that_is_stopped_hangs_alone() {
    let plan = Plan::new().workers(2).pool("watchdog", "\"150ms\"").pool("stop_timeout", "\"150ms\"");
    let service = plan.start();
    let victim = service.ready()[0].pid;
    Handle::open(victim).expect("it lives").signal(libc::SIGSTOP);
    service.reports().wait("a third worker", |report| report.what == "ready" && report.worker == 3);
    crate::support::eventually("the stopped one is gone", || (!proc::is_alive(victim)).then_some(()));
    service.stop();
}

#[test]
fn a_shared_socket_that_a_worker_shut_down_is_bound_afresh() {
    let service = Plan::new().workers(2).start();
    service.deploy("serve\nready\n[worker=5] spoil-socket=shutdown\n[worker=5] exit=1");
    service.reload_well();
    let victim = service.ready()[0].pid;
    Handle::open(victim).expect("it lives").signal(libc::SIGKILL);
    crate::support::eventually("it serves again", || service.get("/").ok());
    crate::support::eventually("with all workers", || (service.ready().len() == 2).then_some(()));
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn a_backlog_that_a_worker_cut_is_set_again_and_shown() {
    let plan = Plan::new().workers(2).set("listener.http", "backlog", "200");
    let service = plan.script("spoil-socket=5\nserve\nready").start();
    let backlog = || {
        let to = service.address().to_string();
        let output = std::process::Command::new("ss").args(["-Hltn"]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(to.trim_start_matches("tcp://")))?.to_owned();
        line.split_whitespace().nth(2)?.parse::<u32>().ok()
    };
    if backlog().is_some() {
        crate::support::eventually("the backlog is as configured", || (backlog() == Some(200)).then_some(()));
    }
    service.stop();
}

#[test]
fn a_backlog_that_is_cut_long_after_the_start_is_shown_to_who_asks() {
    let plan = Plan::new().pool("ready", "\"exec\"").set("listener.http", "backlog", "200");
    let service = plan.script("serve\nwait=300ms\nspoil-socket=5").start();
    crate::support::eventually("status shows it", || {
        service.daemon.status().mentions("set its backlog to 5 instead of 200 (set back)").then_some(())
    });
    service.stop();
}

#[test]
fn without_free_fds_the_old_workers_serve_and_a_reload_fails_with_the_reason() {
    let plan = Plan::new().workers(2);
    let setup = plan.setup().under(["prlimit", "--nofile=46:46", "--"]);
    let mut service = plan.start_with(setup);
    service.configure("pool.web", "workers", Some("30"));
    let load = Load::open(service.address(), 100).start();
    let output = service.reload();
    output.assert_code(handover::exit::FAILED);
    load.stop().assert_nothing_lost();
    assert_eq!(service.ready().iter().filter(|worker| worker.generation == 1).count(), 2);
    service.configure("pool.web", "workers", Some("2"));
    service.reload_well();
    service.stop();
}

#[test]
fn a_worker_gets_the_limit_of_fds_that_handover_was_started_with() {
    let plan = Plan::new();
    let setup = plan.setup().under(["prlimit", "--nofile=256:4096", "--"]);
    let service = plan.start_with(setup);
    let dump = service.get("/dump").expect("an answer").body;
    let line = dump.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["256", "4096"], "{line}");
    service.stop();
}

#[test]
fn when_no_process_can_be_made_the_rollout_fails_and_the_service_goes_on() {
    if cannot_be_nobody() {
        return;
    }
    // Time to take the processes away between the first new worker and the second.
    let plan = Plan::new().workers(2).rollout("bake_time", "\"3s\"");
    plan.open_to_all();
    // A user of its own, so that the limit counts our processes only.
    let as_it = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--"];
    let setup = plan.setup().under(as_it);
    let service = plan.start_with(setup);
    let pid = service.daemon.pid().to_string();
    // As that user, too: to change another user's limits takes CAP_SYS_RESOURCE, which root in a container often lacks.
    let limit = |nproc: &str| {
        let words = as_it.iter().skip(1).copied().chain(["prlimit", "--pid", &pid, nproc]);
        let status = std::process::Command::new("setpriv").args(words).status();
        assert!(status.expect("both are part of util-linux").success());
    };
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "ready" && report.generation == 2);
    limit("--nproc=1:");
    crate::support::eventually("the rollout fails", || {
        service.daemon.status().mentions("start failed at stage fork").then_some(())
    });
    service.get("/").expect("an answer");
    // A thread is a process to this limit: nothing can be read, and nothing is changed.
    let refused = service.daemon.begin(&["reload", "--dry-run"]).finish();
    refused.assert_code(handover::exit::USAGE).assert_says("no thread to read on");
    limit("--nproc=1000:");
    reload.finish().assert_code(handover::exit::FAILED);
    service.reload().assert_code(handover::exit::DONE);
    limit("--nproc=1:");
    service.reload().assert_code(handover::exit::USAGE).assert_says("no thread to read on");
    service.get("/").expect("an answer");
    limit("--nproc=1000:");
    service.reload_well();
    service.stop();
}

#[test]
fn a_socket_file_that_is_gone_is_made_anew_by_the_next_reload() {
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"));
    let service = plan.start();
    let Address::Unix(path) = service.address() else { unreachable!("it was asked for") };
    std::fs::remove_file(path).expect("it is there");
    crate::support::eventually("status says so", || {
        service.daemon.status().mentions("its file is gone").then_some(())
    });
    service.reload_well();
    service.get("/").expect("an answer");
    service.stop();
}

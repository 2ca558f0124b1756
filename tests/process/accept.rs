//! `ready = "accept"`: a worker is ready when it is seen to wait on its listeners, and not before.

use std::time::Duration;

use handover::control::What;

use crate::support::client::Connection;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::machine::{cannot_be_nobody, find, skipped};
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};

const WAITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/waits.py");
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/server.py");

fn python() -> Option<String> {
    if skipped("python3", find("python3").is_none()) {
        return None;
    }
    find("python3")
}

/// A pool whose program waits in this way.
fn waiting(plan: Plan, way: &str) -> Option<Plan> {
    Some(plan.pool("ready", "\"accept\"").command(&[&python()?, WAITS, way]).without_script())
}

#[test]
fn a_program_that_waits_in_any_of_the_usual_ways_is_ready() {
    for way in ["accept", "accept-threads", "accept-child", "poll", "select", "epoll", "asyncio"] {
        let Some(plan) = waiting(Plan::new(), way) else { return };
        let service = plan.start();
        assert_eq!(service.ready().len(), 1, "{way}");
        assert!(!service.daemon.status().mentions("bake_time"), "{way}");
        service.stop();
    }
}

#[test]
fn so_it_is_on_unix_sockets_and_where_nobody_accepts() {
    for way in ["accept", "select", "epoll"] {
        let Some(plan) = waiting(Plan::on(|scratch| Address::unix(scratch, "http")), way) else { return };
        plan.start().stop();
    }
    for way in ["receive", "select", "epoll"] {
        let Address::Tcp(free) = Address::tcp() else { unreachable!("it is one") };
        let udp = quoted(&format!("udp://{free}"));
        let Some(plan) = waiting(Plan::new().set("listener.http", "address", &udp), way) else { return };
        plan.start().stop();
    }
}

#[test]
fn a_worker_that_has_a_connection_in_hand_is_ready_though_it_waits_for_no_other() {
    let Some(plan) = waiting(Plan::new(), "hold") else { return };
    let service = plan.begin();
    service.daemon.log.wait_for("it runs", |line| line.message() == "worker started");
    assert!(service.ready().is_empty());
    let _connection = Connection::open(service.address()).expect("it listens");
    service.manager().wait_for("READY=1");
    service.stop();
}

/// The first generation serves at once, later ones after a while, as one that has much to import.
fn slow_to_import(seconds: u32) -> String {
    format!(
        "import os, runpy, time; \
         time.sleep({seconds} if os.environ['HANDOVER_GENERATION'] != '1' else 0); \
         runpy.run_path('{SERVER}', run_name='__main__')"
    )
}

#[test]
fn a_program_that_imports_for_long_is_replaced_without_a_gap() {
    let Some(python) = python() else { return };
    let plan = Plan::new().pool("ready", "\"accept\"").without_script();
    let service = plan.command(&[&python, "-c", &slow_to_import(4)]).start();
    let open = Load::open(service.address(), 100).start();
    let closed = Load::closed(service.address(), 2).start();
    service.reload_well();
    assert!(service.ready().iter().all(|worker| worker.generation == 2));
    for tally in [open.stop(), closed.stop()] {
        tally.print("a program that imports for four seconds");
        tally.assert_nothing_lost();
        // With the old worker gone before the new one serves, somebody would have waited for most of the four seconds.
        assert!(tally.slowest < Duration::from_secs(2), "{tally:#?}");
    }
    service.stop();
}

#[test]
fn a_program_that_never_waits_on_a_listener_has_failed_to_start_and_is_told_which() {
    let other = quoted(&Address::tcp().to_string());
    let plan = Plan::new().set("listener.admin", "address", &other);
    let plan = plan.pool("listeners", "[\"http\", \"admin\"]").pool("start_timeout", "\"4s\"");
    let Some(plan) = waiting(plan.restart("burst", "1"), "accept") else { return };
    let mut service = plan.begin();
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("a process of it that waits on listener admin (fd 4, tcp://"), "{log}");
    assert!(!log.contains("waits on listener http"), "it does: {log}");
    assert!(log.contains("must accept on the fds from 3 on"), "{log}");
}

/// A program of which nobody sees when it is ready: it is when it has stayed, and the status says why.
fn decided_by_bake_time(service: &Service, why: &str) {
    service.manager().wait_for("READY=1");
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(status.contains("ready by bake_time alone: ") && status.contains(why), "{status}");
    service.daemon.log.wait_for("it is logged", |line| {
        line.message() == "readiness cannot be seen, bake_time decides"
            && line.text("reason").is_some_and(|reason| reason.contains(why))
    });
}

#[test]
fn where_an_io_uring_hides_what_it_waits_for_bake_time_decides_and_status_says_so() {
    let Some(plan) = waiting(Plan::new().rollout("bake_time", "\"300ms\""), "ring") else { return };
    let service = plan.begin();
    service.daemon.log.wait_for("it runs or cannot", |line| {
        line.message().contains("bake_time decides") || line.text.contains("no io_uring here")
    });
    if service.daemon.log.lines().iter().any(|line| line.text.contains("no io_uring here")) {
        eprintln!("skipped: io_uring is switched off here");
        return;
    }
    decided_by_bake_time(&service, "io_uring");
    service.stop();
}

#[test]
fn where_proc_may_not_tell_bake_time_decides_and_status_says_so() {
    if cannot_be_nobody() || skipped("python3", find("python3").is_none()) {
        return;
    }
    // Root without the right to look at the processes of others, as in a container.
    let plan = Plan::new().rollout("bake_time", "\"300ms\"").pool("user", "\"nobody\"");
    let Some(plan) = waiting(plan, "accept") else { return };
    let drop = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "--"];
    let setup = plan.setup().under(drop);
    let service = plan.begin_with(setup);
    decided_by_bake_time(&service, "permission denied");
    service.stop();
}

#[test]
fn nobody_looks_when_nothing_starts() {
    let Some(plan) = waiting(Plan::new(), "epoll") else { return };
    let service = plan.start();
    let threads =
        || std::fs::read_dir(format!("/proc/{}/task", service.daemon.pid())).expect("it runs").count();
    let names = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", service.daemon.pid())).expect("it runs");
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks.filter_map(|task| name(task.ok()?)).collect::<String>()
    };
    eventually("the thread is gone", || (!names().contains("readiness")).then_some(()));
    let before = threads();
    service.kill(&service.ready()[0].clone());
    eventually("its successor is ready", || service.ready().first().filter(|w| w.worker == 2).cloned());
    eventually("the thread is gone again", || {
        (threads() <= before && !names().contains("readiness")).then_some(())
    });
    service.stop();
}

#[test]
fn a_program_that_ends_at_once_ends_the_start_with_the_reason_however_it_is_ready() {
    for ready in ["exec", "accept", "notify"] {
        let plan =
            Plan::new().pool("ready", &quoted(ready)).rollout("bake_time", "\"2s\"").restart("burst", "3");
        let mut service = plan.script("exit=3").begin();
        let (code, log) = service.ended();
        assert_eq!(code, Some(1), "{ready}: {log}");
        assert!(log.contains("no worker became ready: exited with status 3 before it was ready"), "{log}");
        assert!(service.manager().said(&["READY"]).is_empty(), "{ready}");
    }
}

#[test]
fn a_program_that_dies_again_and_again_is_never_called_fine() {
    let plan = Plan::new().pool("ready", "\"exec\"").rollout("bake_time", "\"400ms\"");
    let plan = plan.restart("burst", "100").restart("backoff", "\"1ms\"").restart("backoff_max", "\"1ms\"");
    let service = plan.script("serve\nhang").start();
    service.deploy("wait=50ms\nexit=3");
    service.kill(&service.ready()[0].clone());
    let events = service.daemon.events();
    for number in 2..8 {
        events.wait_for(
            "a start",
            |event| matches!(&event.what, What::WorkerExecuted(who) if who.worker > number),
        );
        let status = service.daemon.cli(&["status"]).stdout;
        assert!(status.contains("needs attention"), "{status}");
    }
    events.close();
    service.stop();
}

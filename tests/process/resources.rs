//! Nothing grows with the number of rollouts, and idle means idle.

use crate::support::load::Load;
use crate::support::service::{Plan, Service};
use crate::support::{eventually, proc};

const ROLLOUTS: u64 = 200;
/// What malloc may keep. A leak of one kilobyte a worker would be more.
const GROWTH_KIB_MAX: u64 = 300;

/// Fds by kind, threads, children, files in the runtime directory.
type Holdings = (Vec<String>, Option<String>, usize, usize);

/// What the daemon has when nothing is on its way: sockets that were let go are parked until the closer has taken them, for a few
/// milliseconds. So three readings have to agree.
fn settled(service: &Service) -> Holdings {
    let reading = || {
        service.daemon.settle();
        holdings(service)
    };
    eventually("what the daemon has stays the same", || {
        let first = reading();
        (reading() == first && reading() == first).then_some(first)
    })
}

/// What is left behind does not go; what is parked does.
#[track_caller]
fn assert_nothing_left(service: &Service, before: &Holdings) {
    eventually(&format!("the daemon has again {before:#?}"), || (settled(service) == *before).then_some(()));
}

/// What the daemon has now.
fn holdings(service: &Service) -> Holdings {
    let pid = service.daemon.pid();
    let mut fds: Vec<String> =
        proc::fds(pid).into_values().map(|fd| fd.split('[').next().unwrap_or("").to_owned()).collect();
    fds.sort();
    let files = walk(&service.plan.scratch.join("run"));
    (fds, proc::field(pid, "Threads:"), proc::children(pid).len(), files)
}

fn walk(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[test]
fn two_hundred_rollouts_leave_nothing_behind() {
    // Each worker puts an fd away, in place of the one before.
    let script = "notify=FDSTOREREMOVE=1\\nFDNAME=x\nstore-fd=x\nserve\nready";
    let service = Plan::new().script(script).workers(2).rollout("bake_time", "\"0s\"").start();
    for _ in 0..20 {
        service.reload_well();
    }
    let before = settled(&service);
    let status = service.daemon.status();
    let slots = status.pool("web").map(|pool| pool["slots"].clone()).unwrap_or_default();
    assert!((0..2).all(|slot| slots[slot]["stored_fds"] == serde_json::json!(["x"])), "{slots}");
    let memory = proc::own_memory_kib(service.daemon.pid());
    assert!(memory > 0, "smaps_rollup has no Pss_Anon");
    let socket = proc::fds(service.ready()[0].pid).get(&3).cloned();
    for _ in 20..ROLLOUTS {
        service.reload_well();
    }
    assert!(socket.is_some());
    assert_eq!(proc::fds(service.ready()[0].pid).get(&3).cloned(), socket, "the same socket");
    assert_nothing_left(&service, &before);
    let grown = proc::own_memory_kib(service.daemon.pid()).saturating_sub(memory);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than {memory} KiB");
    service.stop();
}

#[test]
fn deaths_and_failed_deploys_leave_nothing_behind() {
    let service = Plan::new().workers(2).restart("stable_after", "\"1ms\"").start();
    service.reload_well();
    let before = settled(&service);
    for _ in 0..10 {
        service.deploy("fork=group\nexit=1");
        service.reload().assert_code(handover::exit::FAILED);
        service.deploy("serve\nready");
        service.daemon.settle();
        service.kill(&service.ready()[0]);
        service.daemon.settle();
    }
    assert_nothing_left(&service, &before);
    service.stop();
}

#[test]
fn the_daemon_is_out_of_the_way_of_traffic_and_sleeps() {
    let service = Plan::new().workers(2).start();
    service.ready();
    // Who listens for events costs nothing as long as there are none.
    let events = service.daemon.events();
    let load = Load::open(service.address(), 300).start();
    let before = proc::waits(service.daemon.pid());
    load.wait_for(300);
    let woken = proc::waits(service.daemon.pid()) - before;
    load.stop().assert_nothing_lost();
    assert!(woken <= 3, "woken {woken} times during 300 requests that are none of its business");
    assert!(events.seen().is_empty(), "{}", events.text());
    service.stop();
}

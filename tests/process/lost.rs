//! A listener that a worker has ended for all: whatever becomes of the first roll, no worker stays on the dead socket.

use handover::control::What;

use crate::support::child::Handle;
use crate::support::events::Events;
use crate::support::eventually;
use crate::support::proc;
use crate::support::service::{Plan, Service, quoted};

/// The third worker ends the socket, which the second one goes on listening on, and itself.
const SPOIL: &str = "serve\nready\n[worker=3] spoil-socket=shutdown\n[worker=3] exit=1\n";

/// Puts the third worker in the first one's place, and waits for the roll that follows.
fn spoil(service: &Service) -> Events {
    let events = service.daemon.events();
    Handle::open(service.ready()[0].pid).expect("it lives").signal(libc::SIGKILL);
    events.wait_for("a roll", |event| matches!(event.what, What::PoolsRolled { .. }));
    events
}

/// Waits for the roll that succeeds, and checks that all workers have one and the same socket, which serves.
#[track_caller]
fn nobody_is_left_behind(service: &Service, events: &Events, generation: u64) {
    let done = |what: &What| matches!(what, What::RolloutDone(of) if of.generation == generation);
    events.wait_for("the roll that succeeds", |event| done(&event.what));
    let rolls = events.seen().iter().filter(|event| matches!(event.what, What::PoolsRolled { .. })).count();
    assert_eq!(rolls, 2, "{}", events.text());
    let asked = events.seen().iter().any(|event| matches!(event.what, What::RequestReceived { .. }));
    assert!(!asked, "nobody asked for it: {}", events.text());
    let workers = service.ready();
    let sockets: Vec<_> = workers.iter().map(|worker| proc::fds(worker.pid).get(&3).cloned()).collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
    assert!(workers.iter().all(|worker| worker.generation == generation), "{workers:?}");
    assert!(sockets[0].is_some() && sockets[0] == sockets[1], "{sockets:?}");
    assert_eq!(lost_listeners(service), serde_json::json!([]));
    service.get("/").expect("an answer");
}

fn lost_listeners(service: &Service) -> serde_json::Value {
    service.daemon.status().pool("web").expect("it is there")["lost_listeners"].clone()
}

#[test]
fn a_roll_for_a_lost_listener_that_is_refused_is_tried_again() {
    let plan = Plan::new().workers(2);
    let file = plan.scratch.write("environment", "A=1\n");
    let files = format!("[{}]", quoted(&file.display().to_string()));
    let service = plan.pool("environment_files", &files).start();
    std::fs::remove_file(&file).expect("it is there");
    service.deploy(SPOIL);
    let events = spoil(&service);
    events.wait_for("the refusal", |event| matches!(event.what, What::ReloadRefused { .. }));
    assert_eq!(lost_listeners(&service), serde_json::json!(["http"]));
    // Until the crashed worker's successor is ready, that is what needs attention first.
    eventually("the status says so", || {
        let attention = "needs attention: pool web: workers may have a socket of listener http";
        service.daemon.status().mentions(attention).then_some(())
    });
    service.plan.scratch.write("environment", "A=1\n");
    nobody_is_left_behind(&service, &events, 2);
    service.stop();
}

#[test]
fn a_roll_for_a_lost_listener_that_is_rolled_back_is_tried_again() {
    let service = Plan::new().workers(2).start();
    service.deploy(&format!("[generation=2] exit=1\n{SPOIL}"));
    let events = spoil(&service);
    events.wait_for("the rollback", |event| matches!(event.what, What::RolledBack { .. }));
    nobody_is_left_behind(&service, &events, 3);
    service.stop();
}

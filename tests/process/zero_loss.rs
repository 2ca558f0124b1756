//! No connection is lost by a change: counted by clients, over many rollouts in a row.

use crate::support::child::Handle;
use crate::support::client::Failure;
use crate::support::load::{Load, Running};
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};
use crate::support::tally::Tally;

const ROLLOUTS: u64 = 20;

/// New connections at a fixed rate, new connections in a closed loop, and kept-alive ones, at the same time.
struct Everybody([Running; 3]);

impl Everybody {
    fn start(service: &Service) -> Self {
        let address = service.address();
        Self([
            Load::open(address, 400).start(),
            Load::closed(address, 2).start(),
            Load::closed(address, 2).keep_alive().start(),
        ])
    }

    fn stop(self) -> [Tally; 3] {
        self.0.map(Running::stop)
    }
}

#[track_caller]
fn rollouts_lose_nothing(plan: Plan, workers: u32) {
    let service = plan.workers(workers).start();
    let everybody = Everybody::start(&service);
    for generation in 2..2 + ROLLOUTS {
        service.deploy(&format!("version={generation}"));
        service.reload_well();
    }
    let tallies = everybody.stop();
    tallies.iter().for_each(Tally::assert_nothing_lost);
    let connections: f64 = tallies.iter().map(Tally::rate).sum();
    assert!(connections >= 500.0, "too little load to prove anything: {connections} connections a second");
    let generations = tallies[0].by_generation.len();
    assert!(generations as u64 > ROLLOUTS / 2, "the rollouts were not under load: {:#?}", tallies[0]);
    assert!(service.ready().iter().all(|worker| worker.generation == 1 + ROLLOUTS));
    service.stop();
}

#[test]
fn rollouts_of_four_workers_lose_no_connection() {
    rollouts_lose_nothing(Plan::new(), 4);
}

#[test]
fn rollouts_of_one_worker_lose_no_connection() {
    rollouts_lose_nothing(Plan::new(), 1);
}

#[test]
fn rollouts_on_a_unix_socket_lose_no_connection() {
    rollouts_lose_nothing(Plan::on(|scratch| Address::unix(scratch, "http")), 2);
}

#[test]
fn rollouts_all_at_once_lose_no_connection() {
    rollouts_lose_nothing(Plan::new().rollout("max_surge", "\"100%\""), 4);
}

#[test]
fn rollouts_with_one_worker_fewer_lose_no_connection() {
    rollouts_lose_nothing(Plan::new().rollout("max_surge", "0").rollout("max_unavailable", "1"), 3);
}

#[test]
fn slow_answers_are_finished_by_the_workers_that_began_them() {
    let service = Plan::new().workers(2).start();
    let slow = Load::closed(service.address(), 8).path("/slow/60").start();
    let dripping = Load::closed(service.address(), 4).path("/drip/60").start();
    for _ in 0..5 {
        service.reload_well();
    }
    slow.stop().assert_nothing_lost();
    dripping.stop().assert_nothing_lost();
    service.stop();
}

#[test]
fn while_workers_are_killed_only_their_own_requests_fail() {
    let service = Plan::new().workers(4).start();
    let open = Load::open(service.address(), 400).start();
    let kept = Load::closed(service.address(), 4).keep_alive().start();
    let mut killed = Vec::new();
    for _ in 0..5 {
        let victim = service.ready()[0].pid;
        killed.push(victim);
        open.wait_for(20);
        Handle::open(victim).expect("it lives").signal(libc::SIGKILL);
        service
            .reports()
            .wait("a successor", |report| report.what == "ready" && !killed.contains(&report.pid));
        service.reload_well();
    }
    let (open, kept) = (open.stop(), kept.stop());
    open.assert_lost_only(&[Failure::Reset, Failure::Empty, Failure::Cut], 5 * 24);
    kept.assert_lost_only(&[Failure::Reset, Failure::Empty, Failure::Cut], 5 * 4);
    let strangers: Vec<_> =
        kept.lost.iter().filter(|lost| lost.pid.is_some_and(|pid| !killed.contains(&pid))).collect();
    assert!(strangers.is_empty(), "requests of living workers failed: {strangers:#?}");
    service.stop();
}

#[test]
fn the_configuration_gains_and_loses_a_listener_under_load() {
    let mut service = Plan::new().workers(2).start();
    let everybody = Everybody::start(&service);
    let extra = quoted(&Address::tcp().to_string());
    for _ in 0..5 {
        service.configure("listener.extra", "address", Some(&extra));
        service.configure("pool.web", "listeners", Some("[\"extra\", \"http\"]"));
        service.reload_well();
        service.configure("listener.extra", "address", None);
        service.configure("pool.web", "listeners", Some("[\"http\"]"));
        service.reload_well();
    }
    everybody.stop().iter().for_each(Tally::assert_nothing_lost);
    service.stop();
}

#[test]
fn the_number_of_workers_goes_up_and_down_under_load() {
    let service = Plan::new().workers(2).start();
    let everybody = Everybody::start(&service);
    for count in ["4", "1", "3", "2", "1", "2"] {
        service.daemon.cli(&["scale", "web", count]).assert_code(handover::exit::DONE);
    }
    everybody.stop().iter().for_each(Tally::assert_nothing_lost);
    service.stop();
}

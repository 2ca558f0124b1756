//! No connection is lost by a change: counted by clients, over many rollouts in a row.

use std::time::Instant;

use crate::support::client::{self, Failure};
use crate::support::load::{Load, Running};
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};
use crate::support::tally::Tally;

const ROLLOUTS: u64 = 20;
/// New connections a second, at a fixed rate.
const RATE: u32 = 500;
/// Requests that must be answered after each change, by each kind of client.
const BETWEEN: u64 = 25;

/// New connections at a fixed rate, new connections in a closed loop, and kept-alive ones, at the same time.
struct Everybody([Running; 3]);

impl Everybody {
    fn start(service: &Service) -> Self {
        let address = service.address();
        Self([
            Load::open(address, RATE).start(),
            Load::closed(address, 2).start(),
            Load::closed(address, 2).keep_alive().start(),
        ])
    }

    /// Waits until each kind of client has had answers to requests that it makes from now on.
    #[track_caller]
    fn go_on(&self) {
        let wanted: Vec<u64> = self.0.iter().map(|load| load.answered() + BETWEEN).collect();
        self.0.iter().zip(wanted).for_each(|(load, wanted)| load.wait_until(wanted));
    }

    #[track_caller]
    fn nothing_lost(self, what: &str) -> [Tally; 3] {
        let tallies = self.0.map(Running::stop);
        for (kind, tally) in ["open loop", "closed loop", "kept alive"].iter().zip(&tallies) {
            tally.print(&format!("{what}, {kind}"));
            tally.assert_nothing_lost();
        }
        tallies
    }
}

#[track_caller]
fn rollouts_lose_nothing(what: &str, plan: Plan, workers: u32) {
    let service = plan.workers(workers).start();
    let everybody = Everybody::start(&service);
    for generation in 2..2 + ROLLOUTS {
        service.deploy(&format!("version={generation}"));
        service.reload_well();
        everybody.go_on();
    }
    let [open, closed, kept] = everybody.nothing_lost(what);
    for tally in [&open, &closed] {
        assert!(tally.connections >= ROLLOUTS * BETWEEN, "too little load to prove anything: {tally:#?}");
        assert_eq!(tally.connections, tally.ok, "each connection had its answer");
    }
    for tally in [&open, &closed, &kept] {
        let generations = tally.by_generation.len() as u64;
        assert_eq!(generations, 1 + ROLLOUTS, "each generation was under load: {tally:#?}");
    }
    assert!(service.ready().iter().all(|worker| worker.generation == 1 + ROLLOUTS));
    service.stop();
}

#[test]
fn rollouts_of_four_workers_lose_no_connection() {
    rollouts_lose_nothing("four workers", Plan::new(), 4);
}

#[test]
fn rollouts_of_one_worker_lose_no_connection() {
    rollouts_lose_nothing("one worker", Plan::new(), 1);
}

#[test]
fn rollouts_on_a_unix_socket_lose_no_connection() {
    rollouts_lose_nothing("a Unix socket", Plan::on(|scratch| Address::unix(scratch, "http")), 2);
}

#[test]
fn rollouts_all_at_once_lose_no_connection() {
    rollouts_lose_nothing("all at once", Plan::new().rollout("max_surge", "\"100%\""), 4);
}

#[test]
fn rollouts_with_one_worker_fewer_lose_no_connection() {
    rollouts_lose_nothing(
        "one worker fewer",
        Plan::new().rollout("max_surge", "0").rollout("max_unavailable", "1"),
        3,
    );
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
    let open = Load::open(service.address(), RATE).start();
    let kept = Load::closed(service.address(), 4).keep_alive().start();
    let slow = Load::closed(service.address(), 8).path("/slow/20").start();
    let mut deaths = Vec::new();
    for _ in 0..10 {
        open.wait_for(BETWEEN);
        let victim = service.ready()[0].clone();
        let before = Instant::now();
        service.kill(&victim);
        deaths.push((victim.pid, before, Instant::now()));
        service.daemon.settle();
    }
    // A killed worker takes with it what it had accepted, and that only: each lost request was under way when one died.
    let tallies = [("open loop", open.stop()), ("kept alive", kept.stop()), ("slow", slow.stop())];
    assert!(!tallies[2].1.lost.is_empty(), "somebody must have been in hand when a worker was killed");
    for (what, tally) in tallies {
        tally.print(&format!("killed workers, {what}"));
        for lost in &tally.lost {
            assert!(matches!(lost.failure, Failure::Reset | Failure::Empty | Failure::Cut), "{lost:?}");
            let of = |(pid, before, after): &(u32, Instant, Instant)| {
                lost.pid.is_none_or(|lost| lost == *pid) && lost.began <= *after && lost.failed >= *before
            };
            assert!(deaths.iter().any(of), "a request of a living worker failed: {lost:?}");
        }
        assert!(tally.ok > 2 * BETWEEN, "{tally:#?}");
    }
    service.stop();
}

#[test]
fn the_configuration_gains_and_loses_a_listener_under_load() {
    let mut service = Plan::new().workers(2).start();
    let everybody = Everybody::start(&service);
    let extra = Address::tcp();
    let address = quoted(&extra.to_string());
    for _ in 0..5 {
        service.configure("listener.extra", "address", Some(&address));
        service.configure("pool.web", "listeners", Some("[\"extra\", \"http\"]"));
        service.reload_well();
        client::get(&extra, "/").expect("the new listener serves");
        everybody.go_on();
        service.configure("listener.extra", "address", None);
        service.configure("pool.web", "listeners", Some("[\"http\"]"));
        service.reload_and_settle();
        assert_eq!(client::get(&extra, "/").map(drop), Err(Failure::Refused), "it is let go");
        everybody.go_on();
    }
    everybody.nothing_lost("a listener comes and goes");
    service.stop();
}

#[test]
fn the_number_of_workers_goes_up_and_down_under_load() {
    let service = Plan::new().workers(2).start();
    let everybody = Everybody::start(&service);
    for count in ["4", "1", "3", "2", "1", "2"] {
        service.daemon.cli(&["scale", "web", count]).assert_code(handover::exit::DONE);
        everybody.go_on();
    }
    everybody.nothing_lost("scaling");
    service.stop();
}

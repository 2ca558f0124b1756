//! The promises under any order of faults: thousands of simulated daemons, each from a seed.
//!
//! A seed chooses the pools, the limits, the faults and then every event; time is a number that jumps.
//! `simulation/shadow.rs` and its neighbours hold what must be true; `simulation/world.rs` is the world.
//!
//! - `cargo test --test simulation` runs a thousand seeds, `SEEDS=200000 cargo test …` more;
//! - `SEED=17 cargo test --test simulation -- --nocapture` plays one again and tells every step.
//!
//! A failure prints its seed, the property, and the shortest list of events found that still breaks it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::bench::{Step, silence_expected_panics};
use simulation::run::{Failure, run};
use simulation::shrink::shrink;
use simulation::swarm::Setup;

mod simulation {
    pub(crate) mod bench;
    pub(crate) mod channel;
    pub(crate) mod client;
    pub(crate) mod ends;
    pub(crate) mod left;
    pub(crate) mod lost;
    pub(crate) mod orders;
    pub(crate) mod pace;
    pub(crate) mod pauses;
    pub(crate) mod rng;
    pub(crate) mod run;
    pub(crate) mod shadow;
    pub(crate) mod shrink;
    pub(crate) mod swarm;
    pub(crate) mod upkeep;
    pub(crate) mod ways;
    pub(crate) mod world;
}

const SEEDS: u64 = 1_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn tell(trace: &[Step]) -> String {
    let mut text = String::new();
    for (number, step) in trace.iter().enumerate() {
        for event in &step.events {
            let _ = writeln!(text, "{number:4} {} {event:?}", step.at);
        }
        for action in &step.actions {
            let _ = writeln!(text, "                  -> {action:?}");
        }
    }
    text
}

fn report(failure: &Failure) -> String {
    let Failure { seed, violation, trace, .. } = failure;
    let mut text =
        format!("SEED={seed}, step {}: {}\n{}\n\n", trace.len(), violation.property, violation.detail);
    if let Some(short) = shrink(failure) {
        let _ = writeln!(text, "the shortest list of events found:\n{}", tell(&short));
    } else {
        let last = &trace[trace.len().saturating_sub(25)..];
        let _ = writeln!(text, "the last steps:\n{}", tell(last));
    }
    for (name, policy) in &failure.pools {
        let _ = writeln!(text, "pool {name}: {policy:?}");
    }
    text
}

#[test]
fn the_promises_hold_under_any_order_of_faults() {
    silence_expected_panics();
    if let Some(seed) = from_environment("SEED") {
        println!("{:#?}", Setup::new(seed));
        match run(seed, true) {
            Ok(trace) => println!("{}", tell(&trace)),
            Err(failure) => panic!("{}\n{}", tell(&failure.trace), report(&failure)),
        }
        return;
    }
    let seeds = from_environment("SEEDS").unwrap_or(SEEDS);
    let failures = run_all(seeds);
    if let Some((_, failure)) = failures.values().min_by_key(|(_, failure)| failure.seed) {
        let mut text = String::new();
        for (property, (count, first)) in &failures {
            let _ = writeln!(text, "{count:6} of {seeds}: {property} (SEED={})", first.seed);
        }
        panic!("{text}\n{}", report(failure));
    }
}

/// For each property that was broken: how often, and the shortest run that did.
type Failures = BTreeMap<&'static str, (u64, Box<Failure>)>;

fn run_all(seeds: u64) -> Failures {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let all = Mutex::new(Failures::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if let Err(failure) = run(seed, true) {
                        note(&mut all.lock().expect("no thread panics"), failure);
                    }
                }
            });
        }
    });
    all.into_inner().expect("no thread panics")
}

fn note(all: &mut Failures, failure: Box<Failure>) {
    match all.get_mut(failure.violation.property) {
        None => drop(all.insert(failure.violation.property, (1, failure))),
        Some((count, shortest)) => {
            *count += 1;
            if failure.trace.len() < shortest.trace.len() {
                *shortest = failure;
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_trace_again_also_when_the_machine_is_written_down_and_read_back() {
    for seed in 0..40 {
        let (first, again, without) = (run(seed, true), run(seed, true), run(seed, false));
        let (Ok(first), Ok(again), Ok(without)) = (first, again, without) else {
            continue; // told by the other test
        };
        assert_eq!(first, again, "seed {seed}");
        assert_eq!(first, without, "seed {seed}: a copy went another way");
    }
}

//! From the list of events that broke a property to the shortest one found that still does.

use handover::supervisor::Event;
use handover::time::Monotonic;

use super::bench::{Step, replay};
use super::run::Failure;

/// So many replays are tried at most.
const TRIES: u32 = 4_000;

/// The shortest trace found, with its answers; `None` where the failure does not show without the world
/// around it (it is about what never happened).
pub(crate) fn shrink(failure: &Failure) -> Option<Vec<Step>> {
    let mut tries = 0;
    let property = failure.violation.property;
    let mut fails = |events: &[(Monotonic, Vec<Event>)]| {
        tries += 1;
        let found = replay(failure.seed, &failure.pools, events);
        let same = found.filter(|(_, violation, _)| violation.property == property);
        (same.map(|(step, _, trace)| (step, trace)), tries < TRIES)
    };
    let mut events: Vec<(Monotonic, Vec<Event>)> =
        failure.trace.iter().map(|step| (step.at, step.events.clone())).collect();
    let (found, _) = fails(&events);
    let (step, mut trace) = found?;
    events.truncate(step + 1);
    let mut size = events.len().div_ceil(2).max(1);
    loop {
        let mut shorter = false;
        let mut from = 0;
        while from < events.len() {
            let mut tried = events.clone();
            tried.drain(from..(from + size).min(events.len()));
            let (found, go_on) = fails(&tried);
            if let Some((step, new)) = found {
                tried.truncate(step + 1);
                (events, trace, shorter) = (tried, new, true);
            } else {
                from += size;
            }
            if !go_on {
                return Some(trace);
            }
        }
        match (shorter, size) {
            (false, 1) => return Some(trace),
            (false, _) => size = size.div_ceil(2),
            (true, _) => {}
        }
    }
}

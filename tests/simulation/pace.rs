//! The least that must lie between two starts in a slot, worked out from what its workers did.

use std::collections::{BTreeMap, VecDeque};

use handover::id::{Generation, PoolName, SlotIndex};
use handover::supervisor::Place;
use handover::time::Monotonic;

use super::shadow::{Check, Shadow, Worker, hold};

/// Failures of one generation in a row in one slot.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) generation: Generation,
    /// Those of workers that were not stable.
    pub(crate) failures: u32,
    /// A worker that had been ready was followed at once: nothing else will be.
    at_once: bool,
    /// Those that were followed after a wait.
    waits: u32,
    pub(crate) not_before: Monotonic,
}

/// The last starts in each slot, as far as nobody asked for them.
pub(crate) type Starts = BTreeMap<(PoolName, SlotIndex), VecDeque<(Generation, Monotonic)>>;

impl Worker {
    /// Its successor was paced when it wished for it, or when its channel was lost.
    pub(crate) fn is_paced(&self) -> bool {
        self.channel.counted || self.worn
    }
}

impl Shadow {
    fn is_stable(&self, place: &Place, ready: Option<Monotonic>) -> bool {
        let stable_after = self.policy(place).restart.stable_after;
        ready.is_some_and(|since| self.now.since(since) >= stable_after)
    }

    /// A worker failed. `served`: until now, and it did not end that itself.
    pub(crate) fn failure(&mut self, place: &Place, ready: Option<Monotonic>, served: bool) {
        let policy = &self.policy(place).restart;
        let (backoff, most, burst) = (policy.backoff, policy.backoff_max, policy.burst);
        let (key, generation) = ((place.pool.clone(), place.slot), place.generation);
        let fresh = Pace { generation, failures: 0, at_once: false, waits: 0, not_before: Monotonic::ZERO };
        if self.is_stable(place, ready) {
            self.paces.insert(key, Pace { at_once: true, ..fresh });
            return;
        }
        let before = self.paces.remove(&key).filter(|pace| pace.generation == generation);
        let mut pace = before.unwrap_or(fresh);
        let is_first = pace.failures == 0 && !pace.at_once;
        pace.failures += 1;
        if is_first && served && ready.is_some() && burst > 1 {
            pace.at_once = true;
        } else {
            let doubled = backoff * (1 << pace.waits.min(16));
            let full = if pace.failures >= burst { most } else { most.min(doubled) };
            pace.waits += 1;
            pace.not_before = self.now + full / 5 * 4;
        }
        self.paces.insert(key, pace);
    }

    /// A worker ended, unasked. Where it had asked for its successor before, that was paced then.
    pub(crate) fn unasked_end(&mut self, worker: &Worker) {
        if !worker.is_paced() {
            self.failure(&worker.place, worker.ready, true);
        }
    }

    /// A worker asked to be replaced: that is a failure unless it was stable. Gives whether it is.
    pub(crate) fn wish(&mut self, place: &Place, ready: Option<Monotonic>) -> bool {
        if self.is_stable(place, ready) {
            self.paces.remove(&(place.pool.clone(), place.slot));
            return false;
        }
        self.failure(place, ready, false);
        true
    }

    /// A worker that stays makes what was before forgotten.
    pub(crate) fn settle(&mut self) {
        let stable: Vec<Place> = self
            .workers
            .values()
            .filter(|worker| worker.is_ready() && !worker.worn && self.is_stable(&worker.place, worker.ready))
            .map(|worker| worker.place.clone())
            .collect();
        for place in stable {
            let key = (place.pool, place.slot);
            if self.paces.get(&key).is_some_and(|pace| pace.generation == place.generation) {
                self.paces.remove(&key);
            }
        }
    }

    /// Whatever workers do, no slot starts more than two of a generation in a moment. That needs no account of who failed
    /// how: it holds between any two things that people ask for.
    pub(crate) fn check_starts(&mut self, at: &Place) -> Check {
        let restart = &self.policy(at).restart;
        let (window, now) = ((restart.backoff / 5 * 4).min(restart.stable_after), self.now);
        let starts = self.starts.entry((at.pool.clone(), at.slot)).or_default();
        starts.retain(|(generation, _)| *generation == at.generation);
        let again = starts.len() == 2 && now.since(starts[0].1) < window;
        let detail = format!("{at} at {now}: {starts:?}");
        starts.push_back((at.generation, now));
        if starts.len() > 2 {
            starts.pop_front();
        }
        hold(!again, "no slot starts three workers within its backoff", || detail)
    }
}

//! The least that must lie between two starts in a slot, worked out from what its workers did.

use handover::id::Generation;
use handover::supervisor::Place;
use handover::time::Monotonic;

use super::shadow::{Shadow, Worker};

/// The unstable ends in a row of one generation in one slot.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) generation: Generation,
    pub(crate) deaths: u32,
    /// Ready workers in a row that asked to be replaced before they were stable.
    pub(crate) wishes: u32,
    pub(crate) not_before: Monotonic,
}

impl Worker {
    /// Its successor was paced when it wished for it, or when its channel was lost.
    pub(crate) fn is_paced(&self) -> bool {
        self.channel.counted || (self.worn && self.ready.is_some())
    }
}

impl Shadow {
    /// A worker stopped being of use, unasked by us.
    pub(crate) fn unstable_end(&mut self, place: &Place, ready: Option<Monotonic>) {
        let policy = &self.policy(place).restart;
        let (stable_after, backoff, most) = (policy.stable_after, policy.backoff, policy.backoff_max);
        let burst = policy.burst;
        let key = (place.pool.clone(), place.slot);
        if ready.is_some_and(|since| self.now.since(since) >= stable_after) {
            self.paces.remove(&key);
            return;
        }
        let generation = place.generation;
        let before = self.paces.get(&key).filter(|pace| pace.generation == generation);
        let deaths = before.map_or(0, |pace| pace.deaths) + 1;
        let wishes = before.map_or(0, |pace| pace.wishes);
        let full = if deaths >= burst { most } else { most.min(backoff * (1 << (deaths - 1).min(16))) };
        let not_before = self.now + full / 5 * 4;
        self.paces.insert(key, Pace { generation, deaths, wishes, not_before });
    }

    /// A worker stopped being of use, unasked. Where it had asked for its successor before, that was paced then.
    pub(crate) fn unasked_end(&mut self, worker: &Worker) {
        if !worker.is_paced() {
            self.unstable_end(&worker.place, worker.ready);
        }
    }

    /// A worker asked to be replaced: at once the first time, after `backoff` if that goes on.
    pub(crate) fn wish(&mut self, place: &Place, ready: Option<Monotonic>) {
        let policy = &self.policy(place).restart;
        let (stable_after, backoff) = (policy.stable_after, policy.backoff);
        let key = (place.pool.clone(), place.slot);
        let generation = place.generation;
        let before = self.paces.remove(&key).filter(|pace| pace.generation == generation);
        if ready.is_some_and(|since| self.now.since(since) >= stable_after) {
            return;
        }
        let before = before.unwrap_or(Pace { generation, deaths: 0, wishes: 0, not_before: Monotonic::ZERO });
        let wishes = before.wishes + 1;
        let not_before = if wishes > 1 { self.now + backoff / 5 * 4 } else { before.not_before };
        self.paces.insert(key, Pace { wishes, not_before, ..before });
    }

    /// A worker that stays makes what was before forgotten.
    pub(crate) fn settle(&mut self) {
        let stable: Vec<Place> = self
            .workers
            .values()
            .filter(|worker| {
                let after = self.policy(&worker.place).restart.stable_after;
                let stays = worker.is_ready() && !worker.worn;
                stays && worker.ready.is_some_and(|since| since + after <= self.now)
            })
            .map(|worker| worker.place.clone())
            .collect();
        for place in stable {
            let key = (place.pool, place.slot);
            if self.paces.get(&key).is_some_and(|pace| pace.generation == place.generation) {
                self.paces.remove(&key);
            }
        }
    }
}

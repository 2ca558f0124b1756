//! What must hold after every event, in one sweep; only in builds with debug assertions.
//!
//! Relations that the types cannot hold. The simulation and the fuzzer run with the sweep on; a release
//! build holds on to its sockets instead of checking.

#![cfg(debug_assertions)]

use std::collections::BTreeSet;

use super::Supervisor;
use super::machine::Life;
use super::pool::Pool;
use super::slot::Slot;
use crate::id::Generation;

impl Supervisor {
    pub(super) fn check_invariants(&self) {
        self.check_places();
        for pool in self.pools.values() {
            self.check_pool(pool);
        }
        self.check_phase();
    }

    /// Every worker is known by its place, and by nothing else.
    fn check_places(&self) {
        let mut living = 0;
        for (name, pool) in &self.pools {
            for (index, slot) in &pool.slots {
                for worker in &slot.workers {
                    living += 1;
                    assert_eq!(self.cx.place(worker.id), Some((name.clone(), *index)), "{worker:?}");
                }
            }
        }
        assert_eq!(living, self.cx.living(), "a place outlived its worker");
    }

    fn check_pool(&self, pool: &Pool) {
        let known = |generation: &Generation| pool.policies.contains_key(generation);
        for worker in pool.workers() {
            assert!(known(&worker.generation), "pool {}: no policy for {worker:?}", pool.name);
            assert!(self.generations.contains(&worker.generation), "{worker:?} runs a forgotten generation");
            let overdue = worker.deadline().is_some_and(|deadline| deadline < self.cx.now);
            assert!(!overdue, "pool {}: {worker:?} is overdue", pool.name);
        }
        assert!(pool.base.iter().all(known), "pool {}: its base has no policy", pool.name);
        assert!(
            pool.part.is_none() || self.rollout.is_some() || self.phase.is_stopping(),
            "pool {}: takes part in no rollout",
            pool.name
        );
        pool.slots.values().for_each(check_slot);
    }

    fn check_phase(&self) {
        if self.phase == Life::Ended {
            assert!(self.only_let_go_live(), "ended with living workers");
        }
        let rolled = self.lost.values().any(|lost| lost.not_before.is_none());
        assert!(!rolled || self.is_rolling(), "no rollout for {:?}", self.lost);
        if self.phase == Life::Running && !self.is_rolling() {
            let due = self.lost.values().find(|lost| lost.is_due(self.cx.now));
            assert_eq!(due, None, "due and not begun");
        }
        if self.phase.is_stopping() {
            assert!(self.lost.is_empty(), "stopping, and not forgotten: {:?}", self.lost);
            let active = self.pools.values().flat_map(Pool::workers).find(|worker| worker.is_active());
            assert_eq!(active, None, "stopping, and not asked to end");
            let unanswered = (&self.rollout, &self.queued, &self.preparing, self.scales.len());
            assert_eq!(unanswered, (&None, &None, &None, 0), "stopping, and not answered");
        }
    }
}

/// A slot has at most one active worker of a generation that is to stay there.
fn check_slot(slot: &Slot) {
    let generations: Vec<Generation> =
        slot.active().filter(|worker| !worker.worn).map(|worker| worker.generation).collect();
    let distinct: BTreeSet<&Generation> = generations.iter().collect();
    assert_eq!(distinct.len(), generations.len(), "two active workers of one generation: {slot:?}");
}

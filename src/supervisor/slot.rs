//! A place in a pool, with the workers that fill it now and those that still leave it.

use serde::{Deserialize, Serialize};

use super::action::WorkerFailure;
use super::backoff::Pacing;
use super::worker::Worker;
use crate::id::{Generation, WorkerId};
use crate::time::Monotonic;

/// One slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slot {
    /// Oldest first.
    pub(super) workers: Vec<Worker>,
    pub(super) pacing: Pacing,
    /// It stays on this thrown-away generation, because the old program could not be brought back.
    pub(super) kept: Option<Generation>,
    /// Workers that failed here.
    pub(super) restarts: u64,
    pub(super) last_failure: Option<(Monotonic, WorkerId, WorkerFailure)>,
}

impl Slot {
    pub(super) fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.id == id)
    }

    pub(super) fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.id == id)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.is_active())
    }

    pub(super) fn has_ready(&self) -> bool {
        self.workers.iter().any(Worker::is_ready)
    }

    /// No process of a worker holds the slot. One that cannot be ended does not: nothing waits for it.
    pub(super) fn is_vacant(&self) -> bool {
        self.workers.iter().all(Worker::is_let_go)
    }

    /// The active worker that the slot is to have: of the wanted generation, and not worn.
    pub(super) fn right(&self, wanted: Option<Generation>) -> Option<&Worker> {
        self.of(wanted).find(|worker| !worker.worn)
    }

    /// The active workers of a generation, worn or not.
    pub(super) fn of(&self, generation: Option<Generation>) -> impl Iterator<Item = &Worker> {
        self.active().filter(move |worker| Some(worker.generation) == generation)
    }

    /// The active workers of any other generation than the wanted one.
    pub(super) fn foreign(&self, wanted: Option<Generation>) -> impl Iterator<Item = &Worker> {
        self.active().filter(move |worker| Some(worker.generation) != wanted)
    }

    /// The active workers that are to be replaced.
    pub(super) fn wrong(&self, wanted: Option<Generation>) -> impl Iterator<Item = &Worker> {
        self.active().filter(move |worker| worker.worn || Some(worker.generation) != wanted)
    }

    /// Does another worker serve in place of this one? In place of one that is worn, one of its generation does; that
    /// may be worn, too, if it is the younger: else a slot whose workers wear out at once would keep them all.
    pub(super) fn covers(&self, wanted: Option<Generation>, worker: &Worker) -> bool {
        let is_foreign = Some(worker.generation) != wanted;
        let follows = |other: &&Worker| other.id > worker.id || (other.id < worker.id && !other.worn);
        let succeeds = || self.of(Some(worker.generation)).filter(follows).any(Worker::is_ready);
        (is_foreign && self.of(wanted).any(Worker::is_ready)) || (worker.worn && succeeds())
    }

    /// Was this worker started in place of one that is worn, and a successor of another generation is now wanted?
    pub(super) fn is_late(&self, wanted: Option<Generation>, worker: &Worker) -> bool {
        let is_foreign = Some(worker.generation) != wanted;
        is_foreign && !worker.is_ready() && self.of(Some(worker.generation)).any(Worker::is_ready)
    }

    /// A slot that was left on a thrown-away generation goes back as soon as that worker is gone.
    pub(super) fn release_kept(&mut self) {
        if self.kept.is_some() && self.of(self.kept).next().is_none() {
            self.kept = None;
        }
    }

    /// It goes back, start-first, when that worker is worn: a thrown-away generation is not started again.
    pub(super) fn release_worn(&mut self) {
        if self.kept.is_some() && self.right(self.kept).is_none() {
            self.kept = None;
        }
    }
}

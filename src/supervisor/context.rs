//! What every step of the machine writes to: the time it is, the numbers it gives out, the actions it
//! asks for.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::action::{Action, Note, Place};
use super::backoff::Jitter;
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::time::Monotonic;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    /// The moment of the event that is being handled.
    pub(super) now: Monotonic,
    pub(super) jitter: Jitter,
    last_worker: u64,
    /// Where each living worker is.
    places: BTreeMap<WorkerId, (PoolName, SlotIndex)>,
    actions: VecDeque<Action>,
}

impl Context {
    pub(super) fn new(now: Monotonic, seed: u64) -> Self {
        Self {
            now,
            jitter: Jitter::new(seed),
            last_worker: 0,
            places: BTreeMap::new(),
            actions: VecDeque::new(),
        }
    }

    pub(super) fn ask(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// How many orders wait to be fetched.
    pub(super) fn orders(&self) -> usize {
        self.actions.len()
    }

    pub(super) fn note(&mut self, note: Note) {
        self.ask(Action::Note(note));
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Gives out the next worker's number and asks for its start.
    pub(super) fn spawn(&mut self, at: Place, exact: bool) -> WorkerId {
        self.last_worker += 1;
        let worker = WorkerId(self.last_worker);
        self.places.insert(worker, (at.pool.clone(), at.slot));
        self.ask(Action::Spawn { worker, at, exact });
        worker
    }

    /// The number that was given out last; 0 before the first.
    pub(super) fn last_worker(&self) -> WorkerId {
        WorkerId(self.last_worker)
    }

    /// Where a worker is, or `None` where it is unknown or gone.
    pub(super) fn place(&self, worker: WorkerId) -> Option<(PoolName, SlotIndex)> {
        self.places.get(&worker).cloned()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.places.remove(&worker);
    }

    pub(super) fn living(&self) -> usize {
        self.places.len()
    }
}

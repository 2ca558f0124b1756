//! Listeners whose socket a worker has ended for all: the shell has put another one in its place, and workers that
//! were started before still have the dead one. Their pools are rolled until none of them has.
//!
//! Who may have it is no bookkeeping of rollouts but a look at who lives: worker numbers are counted up, so every worker
//! up to the last one that was started before. One that crashes, is scaled away, or moves with somebody else's rollout
//! needs nothing more; one that a failed or refused rollout left where it was does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::action::Note;
use super::event::Scope;
use super::pool::Pool;
use crate::id::{ListenerName, PoolName, WorkerId};
use crate::time::Monotonic;

/// The least time from the end of a roll for a lost listener to the next one for it. A worker that ends its socket
/// whenever it starts would else be replaced without a pause, and so would one whose rollout is always rolled back.
const ROLL_PACE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lost {
    /// The last worker of each pool that may have the dead socket; pools without any such worker are dropped.
    pools: BTreeMap<PoolName, WorkerId>,
    /// When the next roll may begin; `None` while one is under way.
    pub(super) not_before: Option<Monotonic>,
}

impl Lost {
    /// Is there nothing to be done, and no time to be kept?
    fn is_over(&self, now: Monotonic) -> bool {
        self.pools.is_empty() && self.not_before.is_some_and(|at| at <= now)
    }

    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        !self.pools.is_empty() && self.not_before.is_some_and(|at| at <= now)
    }
}

/// May a worker that fills its slot have a socket that no worker after `last` has?
fn is_behind(pool: &Pool, last: WorkerId) -> bool {
    pool.workers().any(|worker| worker.is_active() && worker.id <= last)
}

impl Supervisor {
    /// Workers started so far may have a socket that is dead.
    pub(super) fn listener_replaced(&mut self, listener: ListenerName, pools: BTreeSet<PoolName>) {
        if self.phase.is_stopping() {
            return;
        }
        let (now, last) = (self.cx.now, self.cx.last_worker());
        let fresh = Lost { pools: BTreeMap::new(), not_before: Some(now) };
        let lost = self.lost.entry(listener).or_insert(fresh);
        lost.pools.extend(pools.into_iter().map(|pool| (pool, last)));
    }

    /// Forgets what is over, and begins the roll whose time has come.
    pub(super) fn mend_listeners(&mut self) {
        let now = self.cx.now;
        for lost in self.lost.values_mut() {
            lost.pools.retain(|name, last| self.pools.get(name).is_some_and(|pool| is_behind(pool, *last)));
        }
        self.lost.retain(|_, lost| !lost.is_over(now));
        if self.lost.values().any(|lost| lost.is_due(now)) {
            self.begin_queued(true);
        }
    }

    /// No rollout runs: the time to the next one for the same listener counts from now.
    pub(super) fn pace_lost(&mut self) {
        for lost in self.lost.values_mut() {
            lost.not_before.get_or_insert(self.cx.now + ROLL_PACE);
        }
    }

    /// What is to be rolled now for lost listeners, as a scope; `None`: nothing. It counts as begun.
    pub(super) fn take_lost(&mut self) -> Option<Scope> {
        let now = self.cx.now;
        let (mut pools, mut listeners) = (BTreeSet::new(), BTreeSet::new());
        for (name, lost) in self.lost.iter_mut().filter(|(_, lost)| lost.is_due(now)) {
            // A pool that has just been removed is none that could be rolled; its workers go as it is.
            let is_there = |pool: &PoolName, last| {
                self.pools.get(pool).is_some_and(|p| p.base.is_some() && is_behind(p, last))
            };
            let behind: Vec<&PoolName> = lost
                .pools
                .iter()
                .filter(|(pool, last)| is_there(pool, **last))
                .map(|(pool, _)| pool)
                .collect();
            if !behind.is_empty() {
                pools.extend(behind.into_iter().cloned());
                listeners.insert(name.clone());
                lost.not_before = None;
            }
        }
        if pools.is_empty() {
            return None;
        }
        self.cx.note(Note::PoolsRolled { pools: pools.clone(), listeners });
        Some(Scope { reread: false, pools: Some(pools), changed_only: false })
    }

    /// The listeners of which a pool's workers may have a dead socket.
    pub(super) fn lost_by(&self, pool: &PoolName) -> BTreeSet<ListenerName> {
        let of_pool = self.lost.iter().filter(|(_, lost)| lost.pools.contains_key(pool));
        of_pool.map(|(listener, _)| listener.clone()).collect()
    }

    /// When the next roll for a lost listener is due. While a rollout runs, its end is waited for, not the time.
    pub(super) fn lost_deadline(&self) -> Option<Monotonic> {
        let waits = |lost: &&Lost| !lost.pools.is_empty() && !self.is_rolling();
        self.lost
            .values()
            .filter(waits)
            .filter_map(|lost| lost.not_before)
            .filter(|at| *at > self.cx.now)
            .min()
    }
}

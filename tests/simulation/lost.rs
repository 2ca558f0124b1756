//! Listeners that a worker has ended for all: who may have a dead socket, and that nobody keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handover::id::{ListenerName, PoolName};
use handover::supervisor::{Request, Scope};
use handover::time::Monotonic;

use super::shadow::{Check, Shadow, hold};

/// Between two rolls for the same listener lies at least so much time, and it is no longer than this from the end of one
/// to the begin of the next.
const PACE: Duration = Duration::from_secs(10);

/// What the shadow keeps beside the workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rolls {
    /// When the last roll for a listener began.
    begun: BTreeMap<ListenerName, Monotonic>,
    /// When the last rollout ended, whoever wanted it, or was given up before it began.
    pub(crate) ended: Option<Monotonic>,
    /// The roll that was announced and not yet begun.
    announced: Option<BTreeSet<PoolName>>,
}

impl Shadow {
    /// Every worker that was ordered so far may have been started with the dead socket.
    pub(crate) fn learn_replaced(&mut self, listener: &ListenerName, pools: &BTreeSet<PoolName>) {
        for worker in self.workers.values_mut().filter(|worker| pools.contains(&worker.place.pool)) {
            worker.dead.insert(listener.clone());
        }
    }

    /// No generation is made or rolled out any more.
    pub(crate) fn learn_end_of_roll(&mut self) {
        self.rolls.ended = Some(self.now);
    }

    /// Has the pool a worker that may have a dead socket of one of these listeners?
    fn is_behind(&self, pool: &PoolName, listener: &ListenerName) -> bool {
        self.in_pool(pool).any(|worker| worker.is_active() && worker.dead.contains(listener))
    }

    pub(crate) fn pools_rolled(
        &mut self,
        pools: &BTreeSet<PoolName>,
        listeners: &BTreeSet<ListenerName>,
    ) -> Check {
        let detail = || format!("{pools:?} for {listeners:?}, {:?} at {}", self.rolls, self.now);
        let is_there = |pool: &PoolName| self.pools.get(pool).is_some_and(|pool| pool.base.is_some());
        let has_reason = |pool: &PoolName| listeners.iter().any(|listener| self.is_behind(pool, listener));
        let fair = pools.iter().all(|pool| is_there(pool) && has_reason(pool));
        hold(fair && !pools.is_empty(), "a pool is rolled for a dead socket that it has", detail)?;
        let early = |listener: &ListenerName| {
            self.rolls.begun.get(listener).is_some_and(|begun| self.now < *begun + PACE)
        };
        let early = listeners.iter().find(|listener| early(listener));
        hold(early.is_none(), "one roll each ten seconds for a listener", detail)?;
        self.rolls.begun.extend(listeners.iter().map(|listener| (listener.clone(), self.now)));
        self.rolls.announced = Some(pools.clone());
        Ok(())
    }

    /// A generation is made because somebody asked for it, or for a lost listener.
    pub(crate) fn check_reason(&mut self, scope: &Scope) -> Check {
        let asked = self.requests.values().any(|what| matches!(what, Request::Roll(_)));
        let announced = self.rolls.announced.take();
        hold(asked || announced.is_some(), "a rollout has a reason", || format!("{scope:?}"))?;
        let is_in = |pool: &PoolName| scope.pools.as_ref().is_none_or(|pools| pools.contains(pool));
        let covered = announced.iter().flatten().all(|pool| is_in(pool) && !scope.changed_only);
        hold(covered, "a roll covers the pools that it is for", || format!("{announced:?}, {scope:?}"))
    }

    /// Where nothing is under way, a pool with a dead socket waits for its turn, and not for long.
    pub(crate) fn check_lost(&self, deadline: Option<Monotonic>) -> Check {
        let is_idle = self.preparing.is_none() && self.rollout.is_none();
        if !self.started || self.stopping.is_some() || !is_idle {
            return Ok(());
        }
        let behind = self.workers.values().find(|worker| worker.is_active() && !worker.dead.is_empty());
        let turn = self.rolls.ended.map(|ended| ended + PACE);
        let waits = turn.is_some_and(|at| at > self.now && deadline.is_some_and(|next| next <= at));
        hold(behind.is_none() || waits, "a pool with a dead socket is rolled", || {
            format!("{behind:?} at {}, {:?}, next deadline {deadline:?}", self.now, self.rolls)
        })
    }
}

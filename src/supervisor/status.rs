//! What the machine knows, as a value to look at: for `status`, metrics and the manager's `STATUS=`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::action::{RolloutFailure, WorkerFailure};
use super::machine::Life;
use super::pool::Pool;
use super::rollout::Rollout;
use super::slot::Slot;
use super::wanted::Stage;
use super::worker::{State, Worker};
use crate::id::{Generation, ListenerName, PoolName, SlotIndex, WorkerId};
use crate::time::Monotonic;

/// What the daemon as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It was not ready yet.
    Starting,
    /// It is, or was, ready.
    Running,
    /// It ends all workers, or has.
    Stopping,
}

impl Phase {
    /// As `status` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The whole machine at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What the daemon as a whole is doing.
    pub phase: Phase,
    /// Every pool.
    pub pools: BTreeMap<PoolName, PoolStatus>,
    /// The rollout that runs, if one does.
    pub rollout: Option<RolloutStatus>,
    /// How the last rollout that failed did so; kept until one succeeds.
    pub last_failure: Option<(Generation, RolloutFailure)>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The generation that it builds on; `None` for a pool that its first rollout is making.
    pub generation: Option<Generation>,
    /// The number of slots wanted.
    pub wanted: u32,
    /// Wanted by a `scale` command rather than by the configuration.
    pub scaled: bool,
    /// Ready workers.
    pub ready: u32,
    /// Workers that were asked to end.
    pub draining: u32,
    /// Listeners of which workers of the pool may have a socket that was ended for all; it is rolled for that.
    pub lost_listeners: BTreeSet<ListenerName>,
    /// Every slot that is wanted or still has a worker.
    pub slots: BTreeMap<SlotIndex, SlotStatus>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its workers, oldest first: serving, starting, draining.
    pub workers: Vec<WorkerStatus>,
    /// Workers that failed here since the daemon started.
    pub restarts: u64,
    /// When the next start may be, where it waits for that.
    pub restart_at: Option<Monotonic>,
    /// It fails again and again.
    pub crash_loop: bool,
    /// How its last worker that failed did so, and when.
    pub last_failure: Option<(Monotonic, WorkerId, WorkerFailure)>,
    /// It was left on a thrown-away generation because the old program is gone.
    pub kept: bool,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Which.
    pub worker: WorkerId,
    /// Its generation.
    pub generation: Generation,
    /// What it is doing.
    pub state: WorkerState,
    /// It wishes to be replaced or has lost its channel, and serves until its successor does.
    pub worn: bool,
    /// It is ready, or will be, by nothing but having stayed for `bake_time`.
    pub bakes: bool,
    /// It has been starting for so long that a person should know what is missing.
    pub late: bool,
    /// When it was started.
    pub started: Monotonic,
    /// When it became ready.
    pub ready: Option<Monotonic>,
    /// When it was asked to end.
    pub asked: Option<Monotonic>,
    /// When it will be dealt with if nothing happens: killed, counted as failed, or as ready by its `bake_time`.
    pub deadline: Option<Monotonic>,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Started, not ready.
    Starting,
    /// Able to serve.
    Ready,
    /// Asked to end.
    Draining,
    /// Sent `SIGKILL`.
    Killed,
    /// Its main process is gone, the rest of its process group is not.
    Ending,
    /// It cannot be ended, and nothing waits for it.
    LetGo,
}

/// A rollout under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// To which generation.
    pub generation: Generation,
    /// Since when.
    pub started: Monotonic,
    /// It failed and goes back.
    pub rolling_back: Option<RolloutFailure>,
    /// Slots that run the wanted generation, and how many there are.
    pub moved: (u32, u32),
    /// What it waits for, for a person, and since when.
    pub waiting_for: (String, Duration),
    /// The worker whose end it waits for, where it is that.
    pub waiting_for_end_of: Option<WorkerId>,
}

impl Status {
    /// Ready workers of all pools.
    pub fn ready(&self) -> u32 {
        self.pools.values().map(|pool| pool.ready).sum()
    }

    /// Slots wanted in all pools.
    pub fn wanted(&self) -> u32 {
        self.pools.values().map(|pool| pool.wanted).sum()
    }
}

impl Supervisor {
    /// The whole machine as it is now.
    pub fn status(&self) -> Status {
        let stage = self.stage();
        let phase = match self.phase {
            Life::Starting => Phase::Starting,
            Life::Running => Phase::Running,
            Life::Stopping { .. } | Life::Ended => Phase::Stopping,
        };
        Status {
            phase,
            pools: self
                .pools
                .iter()
                .map(|(name, pool)| (name.clone(), self.pool_status(pool, stage)))
                .collect(),
            rollout: self.rollout.as_ref().map(|rollout| self.rollout_status(rollout)),
            last_failure: self.last_failure.clone(),
        }
    }

    fn pool_status(&self, pool: &Pool, stage: Stage) -> PoolStatus {
        let now = self.cx.now;
        let wanted = pool.wanted(pool.stage(stage));
        PoolStatus {
            generation: pool.base,
            wanted: wanted.slots,
            scaled: pool.scale.is_some(),
            ready: pool.ready(),
            draining: pool.draining(),
            lost_listeners: self.lost_by(&pool.name),
            slots: pool
                .slots
                .iter()
                .map(|(index, slot)| (*index, slot_status(slot, wanted.of(*index, Some(slot)), now)))
                .collect(),
        }
    }

    fn rollout_status(&self, rollout: &Rollout) -> RolloutStatus {
        let now = self.cx.now;
        let pools = || self.pools.values().filter(|pool| pool.part.is_some());
        let moved = pools()
            .map(|pool| rollout.moved(pool))
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let waits = pools().find_map(|pool| Some((pool, rollout.waiting_for(pool, now)?)));
        let end_of = waits.as_ref().and_then(|(pool, _)| rollout.in_the_way(pool)).map(|(_, worker)| worker);
        let waiting_for = waits.map(|(_, text)| text);
        RolloutStatus {
            generation: rollout.generation,
            started: rollout.started,
            rolling_back: rollout.failure.as_ref().map(|(failure, _)| failure.clone()),
            moved,
            waiting_for: (waiting_for.unwrap_or_default(), now.since(rollout.progress.0)),
            waiting_for_end_of: end_of,
        }
    }
}

fn slot_status(slot: &Slot, wanted: Option<Generation>, now: Monotonic) -> SlotStatus {
    SlotStatus {
        workers: slot.workers.iter().map(|worker| worker_status(worker, now)).collect(),
        restarts: slot.restarts,
        restart_at: slot.pacing.restart_at(now).filter(|_| slot.right(wanted).is_none()),
        crash_loop: slot.pacing.is_crash_loop(wanted),
        last_failure: slot.last_failure.clone(),
        kept: slot.kept.is_some(),
    }
}

fn worker_status(worker: &Worker, now: Monotonic) -> WorkerStatus {
    WorkerStatus {
        worker: worker.id,
        generation: worker.generation,
        state: match worker.state {
            State::Starting { .. } => WorkerState::Starting,
            State::Ready { .. } => WorkerState::Ready,
            State::Draining { .. } => WorkerState::Draining,
            State::Killed { .. } => WorkerState::Killed,
            State::Ending { .. } => WorkerState::Ending,
            State::LetGo { .. } => WorkerState::LetGo,
        },
        worn: worker.worn && worker.is_active(),
        bakes: worker.bakes(),
        late: worker.is_late(now),
        started: worker.started,
        ready: worker.ready,
        asked: worker.asked,
        deadline: worker.deadline(),
    }
}

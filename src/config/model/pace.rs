//! How fast a pool's workers are replaced: in a rollout, and after a death.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timeout;

/// How a pool moves from one generation to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutPolicy {
    /// `max_surge`: live workers above the number of slots; none is stop-first.
    pub max_surge: Share,
    /// `max_unavailable`: ready workers below the number of slots that handover itself may cause.
    pub max_unavailable: Share,
    /// `bake_time`: how long the first new worker must stay ready before any old one is asked to end.
    pub bake_time: Duration,
    /// `max_failures`: failed starts and deaths of new workers that make the rollout fail; at least 1.
    pub max_failures: u32,
    /// `deadline`: of the whole rollout.
    pub deadline: Timeout,
    /// `max_draining`: old workers that may still drain; at least 1.
    pub max_draining: u32,
}

impl RolloutPolicy {
    /// `max_surge` is nothing, of however many: the old worker ends before its successor starts.
    pub fn is_stop_first(&self) -> bool {
        self.max_surge.of_rounded_up(1) == 0
    }
}

/// A number of workers, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many hundredths of the slots.
    Percent(u32),
}

impl Share {
    /// The number of workers out of `workers`, a share rounded up (as Kubernetes rounds `maxSurge`).
    pub fn of_rounded_up(self, workers: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => Self::hundredths(workers, percent, 99),
        }
    }

    /// The number of workers out of `workers`, a share rounded down (as Kubernetes rounds `maxUnavailable`).
    pub fn of_rounded_down(self, workers: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => Self::hundredths(workers, percent, 0),
        }
    }

    fn hundredths(workers: u32, percent: u32, round: u64) -> u32 {
        u32::try_from((u64::from(workers) * u64::from(percent) + round) / 100).unwrap_or(u32::MAX)
    }
}

/// How a slot is filled again after its worker died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartPolicy {
    /// `stable_after`: a worker that was ready for this long ends a row of failures.
    pub stable_after: Duration,
    /// `backoff`: the wait before every start after a failure but the first death of a ready worker; doubled each time.
    pub backoff: Duration,
    /// `backoff_max`: the longest wait; at least `backoff`.
    pub backoff_max: Duration,
    /// `burst`: unstable deaths in a row that make it a crash loop; at least 1.
    pub burst: u32,
}

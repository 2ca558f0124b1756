//! From a seed to the kind of run it is: which pools, which limits, which faults and how many.
//!
//! Every run gets a configuration of its own, with most faults switched off and a few switched on hard:
//! such runs reach corners that an average of everything never does.

use std::collections::BTreeMap;
use std::time::Duration;

use handover::config::model::{Policy, Ready, RestartPolicy, RolloutPolicy, Share, Signal};
use handover::id::PoolName;
use handover::time::Timeout;

use super::rng::Rng;
use super::world::World;

/// What a seed chose.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) pools: BTreeMap<PoolName, Policy>,
    pub(crate) faults: Faults,
    /// Steps before the faults stop.
    pub(crate) steps: u32,
    /// The longest time between two requests of people.
    pub(crate) quiet: Duration,
    /// How often `Stop`, `Stop now` or `Broken` comes instead of another request; per mille.
    pub(crate) stops: u64,
}

/// How often things go wrong; per mille.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) spawn_fails: u64,
    pub(crate) exits_before_spawned: u64,
    pub(crate) talks_before_spawned: u64,
    pub(crate) never_ready: u64,
    /// Nobody can see whether it is ready.
    pub(crate) unseen: u64,
    pub(crate) crashes_early: u64,
    pub(crate) crashes_later: u64,
    pub(crate) wishes: u64,
    /// As soon as it is ready, one way or the other.
    pub(crate) wishes_at_once: u64,
    /// It wishes to be replaced, and serves on.
    pub(crate) wears: u64,
    /// It says hello on its channel; no fault, but it comes with some.
    pub(crate) speaks: u64,
    pub(crate) loses_channel: u64,
    /// It does not answer, or late.
    pub(crate) deaf: u64,
    pub(crate) hangs: u64,
    pub(crate) triggers: u64,
    pub(crate) extends: u64,
    /// `SIGKILL` is not permitted, or has no effect.
    pub(crate) unkillable: u64,
    pub(crate) ignores_stop: u64,
    pub(crate) group_lingers: u64,
    pub(crate) program_changed: u64,
    pub(crate) refused: u64,
    pub(crate) pools_change: u64,
    /// A worker ends a listener's socket for all.
    pub(crate) ends_listener: u64,
    /// Stale and doubled events, early and late wake-ups.
    pub(crate) buggify: u64,
    /// Several things are found at once.
    pub(crate) together: u64,
    /// The machine is written down and read back.
    pub(crate) snapshot: u64,
    /// Nobody runs for a while, neither the daemon nor any worker.
    pub(crate) pauses: u64,
}

impl Setup {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let count = rng.pick(&[1, 1, 1, 2, 2, 3]);
        let pools = (0..count).map(|number| (pool_name(number), policy(&mut rng))).collect();
        Self {
            seed,
            pools,
            faults: Faults::draw(&mut rng),
            steps: u32::try_from(20 + rng.below(100)).expect("small"),
            quiet: rng.pick(&[Duration::from_millis(300), Duration::from_secs(3), Duration::from_secs(20)]),
            stops: rng.pick(&[0, 0, 20, 200]),
        }
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let mut rate = |most: u64| if rng.chance(600) { 0 } else { 1 + rng.below(most) };
        Self {
            spawn_fails: rate(400),
            exits_before_spawned: rate(200),
            talks_before_spawned: rate(300),
            never_ready: rate(400),
            unseen: rate(500),
            crashes_early: rate(600),
            crashes_later: rate(600),
            wishes: rate(400),
            wears: rate(900),
            wishes_at_once: rate(1_500),
            speaks: rate(1_000),
            loses_channel: rate(900),
            deaf: rate(400),
            hangs: rate(400),
            triggers: rate(200),
            extends: rate(300),
            ignores_stop: rate(600),
            group_lingers: rate(500),
            program_changed: rate(800),
            refused: rate(300),
            pools_change: rate(700),
            buggify: rate(200),
            together: rate(900),
            snapshot: rate(60),
            unkillable: rate(300),
            pauses: rate(100),
            ends_listener: rate(300),
        }
    }
}

impl World {
    pub(crate) fn buggify(&mut self) -> bool {
        !self.calm && self.rng.chance(self.faults.buggify)
    }

    /// How long nobody runs now; mostly they do. What is shorter than a look and its lateness cannot be noticed.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        self.fault(|faults| faults.pauses).then(|| self.rng.millis(2_001, 200_000))
    }

    pub(crate) fn fault(&mut self, rate: fn(&Faults) -> u64) -> bool {
        let rate = rate(&self.faults);
        !self.calm && self.rng.chance(rate)
    }
}

pub(crate) fn pool_name(number: u64) -> PoolName {
    PoolName::new(["web", "jobs", "mail", "feed"][usize::try_from(number % 4).expect("small")])
}

fn timeout(rng: &mut Rng, least: u64, most: u64) -> Timeout {
    if rng.chance(80) { Timeout::INFINITY } else { rng.millis(least, most).into() }
}

/// A pool's policy; every limit that the configuration allows may come up, zero and endless included.
pub(crate) fn policy(rng: &mut Rng) -> Policy {
    let workers = rng.pick(&[1, 1, 2, 2, 3, 4, 4, 7]);
    Policy {
        workers,
        min_ready: 1 + u32::try_from(rng.below(u64::from(workers))).expect("small"),
        ready: rng.pick(&[Ready::Notify, Ready::Notify, Ready::Exec, Ready::Accept, Ready::Fd(3)]),
        start_timeout: timeout(rng, 500, 5_000),
        stop_timeout: if rng.chance(60) { Duration::ZERO.into() } else { timeout(rng, 500, 5_000) },
        drain_timeout: if rng.chance(60) { Duration::ZERO.into() } else { timeout(rng, 500, 20_000) },
        stop_signal: Signal(15),
        watchdog: rng.chance(300).then(|| rng.millis(500, 3_000)),
        ping_timeout: rng.chance(400).then(|| rng.millis(400, 4_000)),
        rollout: rollout(rng),
        restart: restart(rng),
    }
}

fn rollout(rng: &mut Rng) -> RolloutPolicy {
    let surge = [Share::Count(0), Share::Count(1), Share::Count(1), Share::Count(2), Share::Percent(100)];
    let unavailable = [Share::Count(0), Share::Count(0), Share::Count(1), Share::Percent(50)];
    let (mut max_surge, max_unavailable) = (rng.pick(&surge), rng.pick(&unavailable));
    if max_surge == Share::Count(0) && max_unavailable == Share::Count(0) {
        max_surge = Share::Count(1);
    }
    RolloutPolicy {
        max_surge,
        max_unavailable,
        bake_time: rng.pick(&[Duration::ZERO, Duration::from_millis(700), Duration::from_secs(2)]),
        max_failures: rng.pick(&[1, 1, 2, 3]),
        deadline: timeout(rng, 20_000, 90_000),
        max_draining: rng.pick(&[1, 2, 64]),
    }
}

fn restart(rng: &mut Rng) -> RestartPolicy {
    let backoff = rng.pick(&[Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1)]);
    RestartPolicy {
        stable_after: rng.pick(&[Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10)]),
        backoff,
        backoff_max: backoff.max(rng.pick(&[Duration::from_millis(500), Duration::from_secs(30)])),
        burst: rng.pick(&[1, 2, 5]),
    }
}

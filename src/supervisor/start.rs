//! The start of the daemon: when it may call itself ready for the first time, and when there is no hope.

use super::Supervisor;
use super::machine::Life;
use super::pool::Pool;
use super::slot::Slot;
use super::wanted::Stage;
use crate::id::Generation;

impl Supervisor {
    /// The first READY, or the verdict that there will be none.
    pub(super) fn judge_start(&mut self) {
        if self.phase != Life::Starting || self.is_rolling() {
            return;
        }
        let stage = self.stage();
        let counts: Vec<Count> = self.pools.values().map(|pool| Count::of(pool, stage)).collect();
        if counts.iter().all(Count::is_enough) {
            self.phase = Life::Running;
            self.tell_ready();
            self.begin_queued(true);
            return;
        }
        let hopeless = self.pools.values().zip(&counts).find(|(_, count)| count.is_hopeless());
        if let Some(reason) = hopeless.map(|(pool, _)| why_hopeless(pool)) {
            self.begin_stop(Vec::new(), Some(reason));
            return;
        }
        self.begin_queued(false);
    }

    /// Every slot is ready or in a crash loop, and yet it is not enough: only a reload can help.
    pub(super) fn start_is_stuck(&self) -> bool {
        let stage = self.stage();
        self.pools.values().all(|pool| {
            let wanted = pool.wanted(pool.stage(stage));
            let mut places = pool.wanted_places(wanted.slots);
            places.all(|(index, slot)| Stand::of(slot, wanted.of(index, slot)) != Stand::Underway)
        })
    }
}

/// How a slot stands before the first READY.
#[derive(PartialEq, Eq)]
enum Stand {
    Ready,
    CrashLoop,
    Underway,
}

impl Stand {
    fn of(slot: Option<&Slot>, wanted: Option<Generation>) -> Self {
        match slot {
            Some(slot) if slot.has_ready() => Self::Ready,
            Some(slot) if slot.pacing.is_crash_loop(wanted) => Self::CrashLoop,
            _ => Self::Underway,
        }
    }
}

/// How a pool's slots stand before the first READY.
struct Count {
    slots: u32,
    ready: u32,
    looping: u32,
    min_ready: u32,
}

impl Count {
    fn of(pool: &Pool, stage: Stage) -> Self {
        let stage = pool.stage(stage);
        let wanted = pool.wanted(stage);
        let (mut ready, mut looping) = (0, 0);
        for (index, slot) in pool.wanted_places(wanted.slots) {
            match Stand::of(slot, wanted.of(index, slot)) {
                Stand::Ready => ready += 1,
                Stand::CrashLoop => looping += 1,
                Stand::Underway => {}
            }
        }
        let min_ready = pool.governing(stage).map_or(0, |policy| policy.min_ready.min(wanted.slots));
        Self { slots: wanted.slots, ready, looping, min_ready }
    }

    fn is_enough(&self) -> bool {
        self.ready >= self.min_ready && self.ready + self.looping == self.slots
    }

    fn is_hopeless(&self) -> bool {
        self.slots > 0 && self.looping == self.slots
    }
}

fn why_hopeless(pool: &Pool) -> String {
    let last =
        pool.slots.values().filter_map(|slot| slot.last_failure.as_ref()).max_by_key(|failed| failed.0);
    let why = last.map_or_else(String::new, |(_, _, failure)| format!(": {failure}"));
    format!("pool {}: no worker became ready{why}", pool.name)
}

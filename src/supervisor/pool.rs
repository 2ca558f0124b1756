//! A pool: its slots, the generations it builds on and moves to, and its workers' starts and ends.
//!
//! Which worker is to be started or retired is decided in `planner`, what a slot is to run in `wanted`, and
//! what a worker's fate means in `fate`; this file keeps the books.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::{Action, Note, Place, Retirement};
use super::context::Context;
use super::let_go::kill_patience;
use super::slot::Slot;
use super::wanted::Part;
use super::worker::{Escalation, State, Worker};
use crate::config::model::{Policy, Signal};
use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
use crate::time::{Monotonic, Timeout};

/// What a worker that missed its watchdog gets, so that it may leave a core file
/// (`WatchdogSignal=` in `systemd.service(5)` has the same default).
const WATCHDOG_SIGNAL: Signal = Signal(6);

/// How a worker is asked to end.
enum Way {
    /// On its channel; the signal comes later.
    Drain,
    /// With a signal.
    Signal(Signal),
    /// Not at all: it is ending already.
    Wait,
    /// There is nobody to ask.
    Kill,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) name: PoolName,
    /// The generation to build on; `None` while its first rollout makes it, and once it is removed.
    pub(super) base: Option<Generation>,
    pub(super) part: Option<Part>,
    /// One for each generation that a worker or a plan of this pool uses.
    pub(super) policies: BTreeMap<Generation, Policy>,
    /// The number of slots that a `scale` command set.
    pub(super) scale: Option<u32>,
    pub(super) slots: BTreeMap<SlotIndex, Slot>,
}

impl Pool {
    pub(super) fn new(name: PoolName) -> Self {
        Self { name, base: None, part: None, policies: BTreeMap::new(), scale: None, slots: BTreeMap::new() }
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.values().flat_map(|slot| &slot.workers)
    }

    pub(super) fn ready(&self) -> u32 {
        count(self.workers().filter(|worker| worker.is_ready()))
    }

    pub(super) fn draining(&self) -> u32 {
        count(self.workers().filter(|worker| worker.is_draining()))
    }

    pub(super) fn policy_of(&self, worker: &Worker) -> &Policy {
        // Policies are dropped in `forget_unused_policies` only, which keeps those of living workers.
        self.policies.get(&worker.generation).expect("a living worker's generation has a policy")
    }

    pub(super) fn place(&self, slot: SlotIndex, generation: Generation) -> Place {
        Place { pool: self.name.clone(), slot, generation }
    }

    pub(super) fn worker_and_policy(
        &mut self,
        slot: SlotIndex,
        id: WorkerId,
    ) -> Option<(&mut Worker, &Policy)> {
        let worker = self.slots.get_mut(&slot)?.worker_mut(id)?;
        let policy = self.policies.get(&worker.generation)?;
        Some((worker, policy))
    }

    /// Starts a worker in a slot.
    pub(super) fn start(&mut self, slot: SlotIndex, generation: Generation, exact: bool, cx: &mut Context) {
        let id = cx.spawn(self.place(slot, generation), exact);
        let policy = self.policies.get(&generation).expect("a wanted generation has a policy");
        let worker = Worker::new(id, generation, cx.now, policy);
        self.slots.entry(slot).or_default().workers.push(worker);
    }

    /// Asks a worker to end, once, in the way and with the patience that its policy gives for `why`.
    pub(super) fn retire(&mut self, slot: SlotIndex, id: WorkerId, why: Retirement, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() {
            return;
        }
        let generation = worker.generation;
        let patience = patience(policy, why);
        let way = match why {
            // Nothing of the program has run yet: there is nobody to ask.
            _ if !worker.executed => Way::Kill,
            Retirement::OwnWish => Way::Wait,
            Retirement::Watchdog => Way::Signal(WATCHDOG_SIGNAL),
            Retirement::StartTimeout => Way::Signal(policy.stop_signal),
            _ if worker.channel.is_some_and(|channel| channel.drains) => Way::Drain,
            _ => Way::Signal(policy.stop_signal),
        };
        worker.asked = Some(cx.now);
        worker.ping = None;
        let until = cx.now.after(patience);
        worker.state = match way {
            Way::Kill => State::Killed { why, give_up: cx.now + kill_patience(policy) },
            Way::Drain => State::Draining { until, next: Escalation::Signal, why },
            Way::Signal(_) | Way::Wait => State::Draining { until, next: Escalation::Kill, why },
        };
        cx.note(Note::Retiring { worker: id, place: self.place(slot, generation), why });
        match way {
            Way::Kill => cx.ask(Action::Kill { worker: id }),
            Way::Drain => cx.ask(Action::Drain { worker: id, why, patience }),
            Way::Signal(signal) => cx.ask(Action::Signal { worker: id, signal }),
            Way::Wait => {}
        }
        self.release_kept(slot);
    }

    /// A slot that was left on a thrown-away generation goes back as soon as that worker is of no use.
    pub(super) fn release_kept(&mut self, slot: SlotIndex) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.release_kept();
        }
    }

    /// Everything in this pool that time alone brings about, of its workers what `of_worker` says.
    pub(super) fn deadlines(
        &self,
        now: Monotonic,
        of_worker: fn(&Worker) -> Option<Monotonic>,
    ) -> impl Iterator<Item = Monotonic> {
        self.slots.values().flat_map(move |slot| {
            slot.workers
                .iter()
                .filter_map(of_worker)
                .chain(settled_at(slot, &self.policies))
                .chain(slot.pacing.restart_at(now))
        })
    }

    pub(super) fn forget_unused_policies(&mut self) {
        let planned = [self.base, self.part.as_ref().and_then(|part| part.target)];
        let slots = &self.slots;
        let runs =
            |generation| slots.values().flat_map(|slot| &slot.workers).any(|w| w.generation == generation);
        self.policies.retain(|generation, _| planned.contains(&Some(*generation)) || runs(*generation));
    }
}

/// When the slot's worker will have been ready long enough to clear the slate; `None` where that is clear,
/// or where the worker that is ready is not of the generation that failed.
pub(super) fn settled_at(slot: &Slot, policies: &BTreeMap<Generation, Policy>) -> Option<Monotonic> {
    let failing = slot.pacing.unsettled()?;
    let worker = slot.right(Some(failing))?;
    Some(worker.ready? + policies.get(&failing)?.restart.stable_after)
}

fn count<'a>(workers: impl Iterator<Item = &'a Worker>) -> u32 {
    u32::try_from(workers.count()).unwrap_or(u32::MAX)
}

fn patience(policy: &Policy, why: Retirement) -> Timeout {
    match why {
        Retirement::Replaced
        | Retirement::MakeRoom
        | Retirement::RolledBack
        | Retirement::Removed
        | Retirement::OwnWish => policy.drain_timeout,
        Retirement::StartTimeout | Retirement::Watchdog | Retirement::DaemonStops => policy.stop_timeout,
    }
}

//! The supervisor itself: what comes in, in which order it is dealt with, what goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Action, ManagerState, Note, Outcome};
use super::context::Context;
use super::event::Event;
use super::lost::Lost;
use super::pool::Pool;
use super::requests::{PendingScale, Preparing, Queued};
use super::rollout::{Judgement, Rollout};
use super::wanted::Stage;
use super::worker::{Channel, Worker};
use crate::config::model::Policy;
use crate::id::{Generation, ListenerName, PoolName, RequestId, SlotIndex, WorkerId};
use crate::time::Monotonic;

/// The least that lies between an event and the next deadline.
const MOMENT: Duration = Duration::from_nanos(1);
/// A deadline that nobody has dealt with for so long means that the loop does not turn as it should.
const OVERDUE: Duration = Duration::from_secs(10);

/// The life of the daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Life {
    /// Not yet ready for the first time.
    Starting,
    /// Ready.
    Running,
    /// Ending all workers.
    Stopping {
        /// Who asked for it.
        requests: Vec<RequestId>,
        /// Why, where nobody asked for it.
        failure: Option<String>,
        /// Since when.
        since: Monotonic,
        /// When the first signal asked for it.
        signalled: Option<Monotonic>,
    },
    /// Nothing is left.
    Ended,
}

impl Life {
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self, Self::Stopping { .. } | Self::Ended)
    }
}

/// The pure state machine that takes every decision about workers.
///
/// The contract:
/// - **Input** is [`handle`](Self::handle), once for each event, with the time at which it came, or
///   [`handle_together`](Self::handle_together) for events that were found at the same time. Time that
///   goes backwards counts as standing still. Events for unknown or finished workers change nothing.
/// - **After each input** call [`next_action`](Self::next_action) until it gives `None`, and carry out the
///   actions in that order; then ask for [`next_deadline`](Self::next_deadline) and hand in
///   [`Event::DeadlinePassed`] when that moment has come. Too early is harmless.
/// - **Look** at any time with [`status`](Self::status) and [`is_healthy`](Self::is_healthy).
///
/// It reads no clock, draws no random number except from the seed it was made with, logs nothing, and
/// knows no pid and no fd. Its whole state can be written down and read back with serde: what follows is
/// the same. State that was written by a newer version is refused by serde, not guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervisor {
    pub(super) cx: Context,
    pub(super) phase: Life,
    pub(super) pools: BTreeMap<PoolName, Pool>,
    pub(super) last_generation: Generation,
    /// The newest generation that was taken over.
    pub(super) committed: Generation,
    /// Those that the shell was not yet told to forget.
    pub(super) generations: BTreeSet<Generation>,
    /// The generation that the shell is making.
    pub(super) preparing: Option<Preparing>,
    pub(super) rollout: Option<Rollout>,
    pub(super) queued: Option<Queued>,
    pub(super) scales: Vec<PendingScale>,
    /// Listeners that were ended for all, while workers may have the dead socket.
    pub(super) lost: BTreeMap<ListenerName, Lost>,
    pub(super) last_failure: Option<(Generation, super::RolloutFailure)>,
    /// When something falls due if nothing happens; perhaps too early by heartbeats that came since.
    due: Option<Monotonic>,
    /// Until when the service manager was last asked to wait.
    pub(super) extended_until: Option<Monotonic>,
}

impl Supervisor {
    /// A supervisor whose first generation has these pools. It has actions to fetch at once.
    ///
    /// `seed` feeds the jitter of restart pacing and nothing else.
    pub fn new(now: Monotonic, seed: u64, pools: BTreeMap<PoolName, Policy>) -> Self {
        let first = Generation(1);
        let pools = pools.into_iter().map(|(name, policy)| {
            let mut pool = Pool::new(name.clone());
            pool.base = Some(first);
            pool.policies.insert(first, policy);
            (name, pool)
        });
        let mut supervisor = Self {
            cx: Context::new(now, seed),
            phase: Life::Starting,
            pools: pools.collect(),
            last_generation: first,
            committed: first,
            generations: BTreeSet::from([first]),
            preparing: None,
            rollout: None,
            queued: None,
            scales: Vec::new(),
            lost: BTreeMap::new(),
            last_failure: None,
            due: None,
            extended_until: None,
        };
        supervisor.advance();
        supervisor
    }

    /// Takes in one event.
    pub fn handle(&mut self, now: Monotonic, event: Event) {
        self.handle_together(now, [event]);
    }

    /// Takes in events that were found together, before looking at the time. Where the caller was held up,
    /// deadlines have passed that these events keep: a heartbeat that lay unread was sent in time.
    pub fn handle_together(&mut self, now: Monotonic, events: impl IntoIterator<Item = Event>) {
        self.cx.now = self.cx.now.max(now);
        let mut is_heartbeat = true;
        for event in events {
            is_heartbeat &= matches!(event, Event::Heartbeat { .. });
            self.take_in(event);
        }
        let is_due = self.due.is_some_and(|due| due <= self.cx.now);
        if is_due {
            self.pass_deadlines();
        }
        // A heartbeat only moves a deadline back, and there are many of them: what was found after the last
        // event still holds, or is too early, which is harmless.
        if is_due || !is_heartbeat {
            self.advance();
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// The next thing to do, or `None`.
    pub fn next_action(&mut self) -> Option<Action> {
        self.cx.next_action()
    }

    /// When the machine wants to be called even if nothing happens; always later than the last event.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.due
    }

    pub(super) fn find_deadline(&self, of_worker: fn(&Worker) -> Option<Monotonic>) -> Option<Monotonic> {
        let now = self.cx.now;
        let of_rollout = self.rollout.iter().flat_map(|rollout| rollout.deadlines(self.pools.values()));
        let of_rollout = of_rollout.filter(|deadline| *deadline > now);
        // What was given no time at all, by the very step that began it, is due in the next moment.
        let of_pools = self.pools.values().flat_map(|pool| pool.deadlines(now, of_worker));
        let of_pools = of_pools.map(|deadline| deadline.max(now + MOMENT));
        let of_preparing = self.preparing.as_ref().and_then(|preparing| preparing.until);
        of_pools.chain(of_rollout).chain(self.lost_deadline()).chain(of_preparing).min()
    }

    /// May the service manager's watchdog be fed? Not if a deadline was left lying.
    pub fn is_healthy(&self, now: Monotonic) -> bool {
        self.due.is_none_or(|deadline| now < deadline + OVERDUE)
    }

    /// Was it asked to end all workers, or has it?
    pub fn is_stopping(&self) -> bool {
        self.phase.is_stopping()
    }

    /// Is an answer to [`Action::Prepare`] awaited? Where it is not (a stop or a cancel came in between), one
    /// that comes changes nothing.
    pub fn is_preparing(&self) -> bool {
        self.preparing.is_some()
    }

    /// The generation that a reload makes which is asked for now, if nothing that comes before it is refused.
    pub fn next_generation(&self) -> Generation {
        Generation(self.last_generation.0 + 1 + u64::from(self.preparing.is_some()))
    }

    /// Is there such a slot: one that is wanted, or still has a worker?
    pub fn has_slot(&self, pool: &PoolName, slot: SlotIndex) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.slots.contains_key(&slot))
    }

    /// The worker that serves in a slot; the youngest, where an old and a new one do.
    pub fn serving(&self, pool: &PoolName, slot: SlotIndex) -> Option<WorkerId> {
        let slot = self.pools.get(pool)?.slots.get(&slot)?;
        slot.active().filter(|worker| worker.is_ready()).map(|worker| worker.id).max()
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::DeadlinePassed => {}
            Event::TimeLost(lost) => self.time_lost(lost),
            Event::Spawned { worker } => self.with_worker(worker, |pool, slot, _, cx| {
                pool.spawned(slot, worker, cx);
            }),
            Event::SpawnFailed { worker, failure } => self.with_worker(worker, |pool, slot, stage, cx| {
                pool.spawn_failed(slot, worker, failure, stage, cx);
            }),
            Event::Ready { worker, by } => self.with_speaker(worker, |pool, slot, _, cx| {
                pool.shows_ready(slot, worker, by, cx);
            }),
            Event::ReadinessUnknown { worker } => self.with_worker(worker, |pool, slot, _, cx| {
                pool.readiness_unknown(slot, worker, cx);
            }),
            Event::Heartbeat { worker } => self.with_speaker(worker, |pool, slot, _, cx| {
                pool.heartbeat(slot, worker, cx);
            }),
            Event::WatchdogTriggered { worker } => self.with_speaker(worker, |pool, slot, stage, cx| {
                pool.watchdog_ran_out(slot, worker, true, stage, cx);
            }),
            Event::Stopping { worker } => self.with_speaker(worker, |pool, slot, stage, cx| {
                pool.says_stopping(slot, worker, stage, cx);
            }),
            Event::ChannelOpened { worker, drains, answers } => {
                self.with_speaker(worker, |pool, slot, _, cx| {
                    pool.channel_opened(slot, worker, Channel { drains, answers }, cx);
                })
            }
            Event::Answered { worker } => self.with_speaker(worker, |pool, slot, _, cx| {
                pool.answered(slot, worker, cx);
            }),
            Event::ReplacementWished { worker, reason } => {
                self.with_speaker(worker, |pool, slot, stage, cx| {
                    pool.wishes_replacement(slot, worker, reason, stage, cx);
                })
            }
            Event::ChannelClosed { worker } => self.with_worker(worker, |pool, slot, _, cx| {
                pool.channel_closed(slot, worker, cx);
            }),
            Event::ChannelLost { worker } => self.with_worker(worker, |pool, slot, stage, cx| {
                pool.channel_lost(slot, worker, stage, cx);
            }),
            Event::MoreTime { worker, by } => {
                let stopping_since = self.stopping_since();
                self.with_speaker(worker, |pool, slot, _, cx| {
                    pool.more_time(slot, worker, by, stopping_since, cx);
                });
            }
            Event::NotHeard { worker, by } => self.with_worker(worker, |pool, slot, _, _| {
                pool.not_heard(slot, worker, by);
            }),
            Event::Exited { worker, status } => self.with_worker(worker, |pool, slot, stage, cx| {
                pool.exited(slot, worker, status, stage, cx);
            }),
            Event::KillFailed { worker, reason } => self.with_worker(worker, |pool, slot, _, cx| {
                pool.let_go(slot, worker, reason, cx);
            }),
            Event::StopSignal { request } => self.stop_signalled(request),
            Event::GroupEnded { worker } => self.with_worker(worker, |pool, slot, _, cx| {
                pool.group_ended(slot, worker, cx);
            }),
            Event::Prepared { pools } => self.prepared(pools),
            Event::PrepareRefused { reason } => self.prepare_refused(&reason),
            Event::ListenerReplaced { listener, pools } => self.listener_replaced(listener, pools),
            Event::Requested { request, what } => self.requested(request, what),
            Event::Broken { reason } => self.broken(reason),
        }
    }

    fn with_worker(
        &mut self,
        worker: WorkerId,
        step: impl FnOnce(&mut Pool, SlotIndex, Stage, &mut Context),
    ) {
        let Some((name, slot)) = self.cx.place(worker) else { return };
        let stage = self.stage();
        if let Some(pool) = self.pools.get_mut(&name) {
            step(pool, slot, pool.stage(stage), &mut self.cx);
        }
    }

    /// As [`with_worker`](Self::with_worker), for what the worker says itself: whoever speaks was executed,
    /// though the report of that may still be on its way.
    fn with_speaker(
        &mut self,
        worker: WorkerId,
        step: impl FnOnce(&mut Pool, SlotIndex, Stage, &mut Context),
    ) {
        self.with_worker(worker, |pool, slot, stage, cx| {
            pool.was_executed(slot, worker);
            step(pool, slot, stage, cx);
        });
    }

    /// How far the rollout is, for the pools that take part in it.
    pub(super) fn stage(&self) -> Stage {
        self.rollout.as_ref().map_or(Stage::Steady, |rollout| rollout.stage)
    }

    fn pass_deadlines(&mut self) {
        self.pass_preparing();
        let stage = self.stage();
        for pool in self.pools.values_mut() {
            pool.pass_deadlines(pool.stage(stage), &mut self.cx);
        }
    }

    /// Does all that the state calls for, until it calls for nothing more.
    fn advance(&mut self) {
        if !self.phase.is_stopping() {
            self.advance_pools();
            self.judge_start();
            self.mend_listeners();
        }
        self.forget_generations();
        if self.phase.is_stopping() {
            self.judge_stop();
        } else {
            self.judge_scales();
        }
        self.due = self.find_deadline(Worker::next_step);
        self.extend_timeout();
    }

    /// What happened is judged before it is answered, so that a generation that has just failed gets no
    /// new start; and what the planner did is judged again. Without an order from it nothing changed.
    fn advance_pools(&mut self) {
        loop {
            while self.judge_rollout() {}
            let orders = self.cx.orders();
            self.plan();
            if self.cx.orders() == orders {
                return;
            }
        }
    }

    fn plan(&mut self) {
        let stage = self.stage();
        for pool in self.pools.values_mut() {
            pool.plan(pool.stage(stage), &mut self.cx);
        }
        self.pools
            .retain(|_, pool| pool.base.is_some() || pool.part.is_some() || pool.workers().next().is_some());
    }

    /// Gives whether something changed that the planner must see.
    fn judge_rollout(&mut self) -> bool {
        let Some(rollout) = &mut self.rollout else { return false };
        match rollout.judge(self.pools.values_mut(), &mut self.cx) {
            Judgement::Wait => return false,
            Judgement::Moved => {}
            Judgement::Done => self.finish_rollout(),
            Judgement::RolledBack => self.finish_rollback(),
        }
        true
    }

    fn finish_rollout(&mut self) {
        let Some(rollout) = self.rollout.take() else { return };
        let generation = rollout.generation;
        for pool in self.pools.values_mut() {
            if let Some(part) = pool.part.take() {
                pool.base = part.target;
            }
            // A pool that comes back later is as it is configured.
            pool.scale = pool.scale.filter(|_| pool.base.is_some());
        }
        self.committed = generation;
        self.last_failure = None;
        self.cx.note(Note::RolloutDone { generation });
        self.cx.ask(Action::Commit { generation });
        self.tell_ready();
        for request in rollout.requests {
            self.answer(request, Outcome::Done { generation: Some(generation) });
        }
        self.begin_queued(true);
    }

    fn finish_rollback(&mut self) {
        let Some(rollout) = self.rollout.take() else { return };
        let generation = rollout.generation;
        let kept = rollout.kept(self.pools.values());
        for pool in self.pools.values_mut() {
            pool.part = None;
        }
        let reason = rollout.failure.map_or(super::RolloutFailure::Cancelled, |(failure, _)| failure);
        self.last_failure = Some((generation, reason.clone()));
        self.cx.note(Note::RolledBack { generation, kept: kept.clone() });
        self.tell_ready();
        for request in rollout.cancels {
            self.answer(request, Outcome::Done { generation: None });
        }
        for request in rollout.requests {
            let (reason, kept) = (reason.clone(), kept.clone());
            self.answer(request, Outcome::RolledBack { generation, reason, kept });
        }
        self.begin_queued(true);
    }

    /// Ends the conversation that `RELOADING=1` began. It goes before the answers, so that whoever waits
    /// for one finds the service manager informed.
    pub(super) fn tell_ready(&mut self) {
        if self.phase == Life::Running {
            self.cx.ask(Action::Tell(ManagerState::Ready));
        }
    }

    /// Does a rollout run, or is its generation being made? Then it decides what is told to whom.
    pub(super) fn is_rolling(&self) -> bool {
        self.rollout.is_some() || self.preparing.is_some()
    }

    fn forget_generations(&mut self) {
        if self.generations.len() == 1 {
            return;
        }
        let mut used = BTreeSet::from([self.committed]);
        used.extend(self.rollout.as_ref().map(|rollout| rollout.generation));
        for pool in self.pools.values_mut() {
            pool.forget_unused_policies();
            used.extend(pool.policies.keys());
        }
        for generation in self.generations.difference(&used) {
            self.cx.ask(Action::Forget { generation: *generation });
        }
        self.generations = used;
    }
}

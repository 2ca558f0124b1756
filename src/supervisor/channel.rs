//! What a worker's channel means for it: a gentler way to be asked to end, questions whether it is there, its wish to be
//! replaced, and the loss of the channel.
//!
//! Whoever wishes to be replaced, or has lost its channel, serves until its successor does: it is *worn*, and the
//! planner fills its slot afresh. What it says otherwise (`ready`, `heartbeat`) counts as from its notify socket.

use std::time::Duration;

use super::action::{Action, Note, Retirement, WorkerFailure};
use super::context::Context;
use super::pool::Pool;
use super::wanted::Stage;
use super::worker::{Channel, State};
use crate::id::{SlotIndex, WorkerId};

/// The time from the close of a channel to its loss. A process that ends closes its channel shortly before its exit can be seen.
const LOST_AFTER: Duration = Duration::from_secs(1);

impl Pool {
    pub(super) fn channel_opened(&mut self, slot: SlotIndex, id: WorkerId, channel: Channel, cx: &Context) {
        if let Some((worker, policy)) = self.worker_and_policy(slot, id) {
            worker.open_channel(channel, cx.now, policy);
        }
    }

    pub(super) fn answered(&mut self, slot: SlotIndex, id: WorkerId, cx: &Context) {
        if let Some((worker, policy)) = self.worker_and_policy(slot, id) {
            worker.answer(cx.now, policy);
        }
    }

    /// The worker is to be replaced, and serves until then. Before it was stable its wish is a failed start.
    pub(super) fn wishes_replacement(
        &mut self,
        slot: SlotIndex,
        id: WorkerId,
        reason: String,
        stage: Stage,
        cx: &mut Context,
    ) {
        let Some((worker, _)) = self.worker_and_policy(slot, id) else { return };
        if !worker.is_active() || worker.worn {
            return;
        }
        let before = worker.clone();
        worker.worn = true;
        let place = self.place(slot, before.generation);
        cx.note(Note::ReplacementWished { worker: id, place, reason });
        self.asks_to_be_replaced(slot, &before, stage, cx);
    }

    /// Its end may follow; one that lives on has lost its channel. Nothing is said or asked there any more.
    pub(super) fn channel_closed(&mut self, slot: SlotIndex, id: WorkerId, cx: &Context) {
        let Some((worker, _)) = self.worker_and_policy(slot, id) else { return };
        if worker.channel.is_some() && worker.channel_lost_at.is_none() {
            worker.channel = Some(Channel::LOST);
            worker.ping = None;
            worker.channel_lost_at = Some(cx.now + LOST_AFTER);
        }
    }

    /// A worker has lived on without its channel for too long.
    pub(super) fn pass_channel(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, _)) = self.worker_and_policy(slot, id) else { return };
        if worker.channel_lost_at.take_if(|at| *at <= cx.now).is_some() {
            self.channel_lost(slot, id, stage, cx);
        }
    }

    /// A worker that can no longer be told or asked anything is to be replaced. One that is ending already may close
    /// its channel when it likes.
    pub(super) fn channel_lost(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, _)) = self.worker_and_policy(slot, id) else { return };
        if worker.channel.is_none() {
            return;
        }
        worker.channel = Some(Channel::LOST);
        worker.ping = None;
        if !worker.is_active() || worker.worn {
            return;
        }
        let before = worker.clone();
        (worker.worn, worker.failed) = (true, true);
        self.failed(slot, &before, WorkerFailure::ChannelLost, stage, cx);
    }

    /// A question is due, or the answer to one.
    pub(super) fn pass_ping(&mut self, slot: SlotIndex, id: WorkerId, stage: Stage, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        let Some(ping) = worker.ping.filter(|ping| ping.at <= cx.now) else { return };
        if !matches!(worker.state, State::Ready { .. }) {
            return;
        }
        if !ping.asked {
            worker.ask(cx.now, policy);
            return cx.ask(Action::Ping { worker: id });
        }
        let after = policy.ping_timeout.unwrap_or_default();
        let worker = worker.clone();
        self.retire(slot, id, Retirement::Watchdog, cx);
        self.failed(slot, &worker, WorkerFailure::Unresponsive { after }, stage, cx);
    }
}

//! Workers that cannot be ended: `SIGKILL` is not permitted (a program that is set-user-ID, under a daemon that is not root),
//! or has no effect (a system call that hangs in the kernel).
//!
//! Nothing can be done about them, so nothing waits for them: they are let go. They are still known, shown and reaped when
//! they end after all, but a stop ends without them, and they hold up no rollout and no slot. How that stop ended says so.

use std::time::Duration;

use super::Supervisor;
use super::action::{Note, Outcome};
use super::context::Context;
use super::pool::Pool;
use super::worker::State;
use crate::config::model::Policy;
use crate::id::{SlotIndex, WorkerId};

/// The least and the longest time that a killed worker has to be gone. The kernel may have gigabytes to give back.
const KILL_PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Where `stop_timeout` is endless: that is the patience with the worker, not with the kernel.
const KILL_PATIENCE_OF_ENDLESS: Duration = Duration::from_secs(30);

/// How long a worker may take to be gone that was sent `SIGKILL`: another `stop_timeout`.
pub(super) fn kill_patience(policy: &Policy) -> Duration {
    let patience = policy.stop_timeout.duration().unwrap_or(KILL_PATIENCE_OF_ENDLESS);
    patience.clamp(KILL_PATIENCE.0, KILL_PATIENCE.1)
}

impl Pool {
    /// The worker cannot be ended.
    pub(super) fn let_go(&mut self, slot: SlotIndex, id: WorkerId, reason: String, cx: &mut Context) {
        let Some((worker, _)) = self.worker_and_policy(slot, id) else { return };
        worker.state = match worker.state {
            State::Killed { why, .. } => State::LetGo { why: Some(why) },
            State::Ending { killed: true, .. } => State::LetGo { why: None },
            // It was not to be killed, or was let go already.
            _ => return,
        };
        let generation = worker.generation;
        cx.note(Note::WorkerLetGo { worker: id, place: self.place(slot, generation), reason });
    }

    /// The time of a worker that was sent `SIGKILL` is over.
    pub(super) fn give_up(&mut self, slot: SlotIndex, id: WorkerId, cx: &mut Context) {
        let Some((worker, policy)) = self.worker_and_policy(slot, id) else { return };
        let what = match worker.state {
            State::Ending { .. } => "processes of its group are",
            _ => "it is",
        };
        let reason = format!("{what} still there {:?} after SIGKILL", kill_patience(policy));
        self.let_go(slot, id, reason, cx);
    }
}

impl Supervisor {
    fn let_go(&self) -> impl Iterator<Item = (&Pool, WorkerId)> {
        let of_pool = |pool| Pool::workers(pool).map(move |worker| (pool, worker));
        let all = self.pools.values().flat_map(of_pool);
        all.filter(|(_, worker)| worker.is_let_go()).map(|(pool, worker)| (pool, worker.id))
    }

    /// Are those that were let go the only ones that live?
    pub(super) fn only_let_go_live(&self) -> bool {
        self.cx.living() == 0 || self.cx.living() == self.let_go().count()
    }

    /// How a stop ended, as far as its workers are concerned, and why it failed if it did.
    pub(super) fn outcome_of_stop(&self) -> (Outcome, Option<String>) {
        let left: Vec<String> =
            self.let_go().map(|(pool, worker)| format!("worker {worker} of pool {}", pool.name)).collect();
        if left.is_empty() {
            return (Outcome::Done { generation: None }, None);
        }
        let reason = format!("not ended, and left behind: {}", left.join(", "));
        (Outcome::Failed { reason: reason.clone() }, Some(reason))
    }
}

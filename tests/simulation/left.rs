//! What bounds an end: how much time a worker may ask for, which signal ends the waiting, and what becomes of those
//! that cannot be killed.

use std::time::Duration;

use handover::config::model::Policy;
use handover::id::{RequestId, WorkerId};
use handover::supervisor::{Request, Retirement, StopEffect};
use handover::time::Monotonic;

use super::shadow::{Check, Shadow, Worker, hold, kill_patience};

impl Worker {
    pub(crate) fn learn_more_time(
        &mut self,
        now: Monotonic,
        by: Duration,
        stopping: Option<Monotonic>,
        policy: &Policy,
    ) {
        let endless = Duration::MAX;
        let deadline = policy.rollout.deadline.duration().unwrap_or(endless);
        let of_start = policy.start_timeout.duration().unwrap_or(endless).max(deadline);
        self.ready_by = self.ready_by.map(|at| at.max(now + by.min(of_start)));
        let Some((asked, why)) = self.asked.filter(|_| !self.exited && !self.killed) else { return };
        let hangs = matches!(why, Retirement::StartTimeout | Retirement::Watchdog);
        let until = |timeouts: u32| match stopping.or(hangs.then_some(asked)) {
            None => now + by.min(policy.drain_timeout.duration().unwrap_or(endless)),
            Some(began) => {
                let most = policy.stop_timeout.duration().map(|timeout| began + timeout * timeouts);
                most.map_or(now + by, |most| most.min(now + by))
            }
        };
        self.kill_from = self.kill_from.map(|at| at.max(until(2)));
        self.channel.signal_from = self.channel.signal_from.map(|at| at.max(until(1)));
    }
}

impl Shadow {
    pub(crate) fn learn_signal(&mut self, request: RequestId) {
        self.requests.insert(request, Request::Stop { now: false });
        self.stop_asked = true;
        if !self.ended {
            let first = *self.signalled.get_or_insert(self.now);
            self.stop_now |= self.now.since(first) >= Duration::from_secs(1);
        }
    }

    pub(crate) fn check_effect(&self, effect: StopEffect) -> Check {
        let Some(first) = self.signalled else {
            return hold(false, "a signal is told of when it came", || format!("{effect:?}"));
        };
        let expected = match self.now.since(first) {
            Duration::ZERO => effect != StopEffect::Now,
            since if since < Duration::from_secs(1) => effect == StopEffect::Ignored,
            _ => effect == StopEffect::Now,
        };
        hold(expected, "only a second thought ends the waiting", || {
            format!("{effect:?}, the first at {first}")
        })
    }

    pub(crate) fn learn_unkillable(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.unkillable |= worker.killed && !worker.let_go;
        }
    }

    /// A worker was sent `SIGKILL`.
    pub(crate) fn learn_killed(&mut self, id: WorkerId) {
        let Some(place) = self.workers.get(&id).map(|worker| worker.place.clone()) else { return };
        let gone_by = self.now + kill_patience(self.policy(&place));
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.gone_by = Some(gone_by);
        }
    }

    pub(crate) fn let_go(&mut self, id: WorkerId) -> Check {
        let now = self.now;
        let worker = self.living(id, "WorkerLetGo")?;
        let over = worker.unkillable || worker.gone_by.is_some_and(|at| at <= now);
        let again = std::mem::replace(&mut worker.let_go, true);
        (worker.unkillable, worker.gone_by) = (false, None);
        hold(over && !again, "a worker is let go once, when it cannot be killed", || format!("{id} at {now}"))
    }

    /// Nobody who cannot be killed is waited for.
    pub(crate) fn check_let_go(&self, worker: &Worker, deadline: Option<Monotonic>) -> Check {
        let detail = || format!("{worker:?} at {}, next deadline {deadline:?}", self.now);
        hold(!worker.unkillable, "who cannot be killed is let go at once", detail)?;
        let Some(by) = worker.gone_by.filter(|_| !self.ended) else { return Ok(()) };
        let waited_for = by > self.now && deadline.is_some_and(|next| next <= by);
        hold(waited_for, "who does not end is let go", detail)
    }
}

//! What may be said on a worker's channel and when, what must be, and what it means that a worker is worn.

use std::time::Duration;

use handover::id::WorkerId;
use handover::supervisor::{Event, Retirement};
use handover::time::{Monotonic, Timeout};

use super::shadow::{Check, Shadow, Worker, hold, patience};

/// The time from the close of a channel to its loss, if the worker still lives.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// What the shadow knows of a worker's channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    opened: bool,
    lost: bool,
    drains: bool,
    answers: bool,
    /// It closed its end: if it still serves then, it has lost it.
    lost_at: Option<Monotonic>,
    /// It was told to drain.
    pub(crate) drained: bool,
    /// The moment for its signal, where it was told to drain.
    pub(crate) signal_from: Option<Monotonic>,
    /// When it is to be asked next; where it was asked, by when it must have answered.
    pub(crate) ping_at: Option<Monotonic>,
    pub(crate) asked: bool,
    /// Its silence was noticed.
    unresponsive: bool,
    /// It counts as failed because it was lost while the worker served.
    pub(crate) counted: bool,
}

impl Channel {
    /// Nothing falls due on it any more.
    pub(crate) fn forget_times(&mut self) {
        (self.signal_from, self.ping_at, self.asked) = (None, None, false);
    }

    /// When it counts as lost.
    pub(crate) fn lost_at(&self) -> Option<Monotonic> {
        self.lost_at.filter(|_| !self.counted)
    }

    fn is_silent(&self, now: Monotonic) -> bool {
        self.asked && self.ping_at.is_some_and(|by| by <= now)
    }
}

impl Worker {
    pub(crate) fn begin_pings(&mut self, now: Monotonic, timeout: Option<Duration>) {
        let asks = self.channel.answers && !self.channel.lost && self.is_ready();
        self.channel.ping_at = timeout.filter(|_| asks).map(|timeout| now + timeout / 2);
    }

    /// A worker that is told to drain gets no signal yet; one that failed, or says that it is ending, is not told.
    fn is_to_be_drained(&self) -> bool {
        let gently =
            |why| !matches!(why, Retirement::OwnWish | Retirement::StartTimeout | Retirement::Watchdog);
        self.channel.drains && !self.channel.lost && self.asked.is_some_and(|(_, why)| gently(why))
    }

    /// It was told to drain, and has its signal yet to come.
    pub(crate) fn awaits_signal(&self) -> bool {
        self.channel.drained && !self.signalled && !self.exited && !self.killed
    }
}

impl Shadow {
    pub(crate) fn learn_channel(&mut self, id: WorkerId, event: &Event) {
        let Some(place) = self.workers.get(&id).map(|worker| worker.place.clone()) else { return };
        let (now, timeout) = (self.now, self.policy(&place).ping_timeout);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.executed |= !matches!(event, Event::ChannelClosed { .. } | Event::ChannelLost { .. });
        let wears = worker.is_active() && !worker.worn;
        match *event {
            Event::ChannelOpened { drains, answers, .. } if !worker.channel.opened => {
                (worker.channel.opened, worker.channel.drains, worker.channel.answers) =
                    (true, drains, answers);
                worker.begin_pings(now, timeout);
            }
            Event::Answered { .. } if worker.channel.asked => {
                worker.channel.asked = false;
                let (asked, timeout) = (worker.channel.ping_at, timeout.unwrap_or_default());
                // It was asked one timeout before the answer was due.
                let due = asked.map(|by| Monotonic::from_origin(by.since_origin() - timeout / 2));
                worker.channel.ping_at = due.map(|at| at.max(now));
            }
            Event::ReplacementWished { .. } if wears => {
                worker.worn = true;
                let ready = worker.ready;
                let early = self.wish(&place, ready);
                self.workers.entry(id).and_modify(|worker| worker.asked_early = early);
            }
            Event::ChannelClosed { .. } if worker.channel.opened && !worker.channel.lost => {
                worker.channel.lost = true;
                worker.channel.lost_at = Some(now + LOST_AFTER);
                (worker.channel.ping_at, worker.channel.asked) = (None, false);
            }
            Event::ChannelLost { .. } if worker.channel.opened && !worker.channel.counted => {
                worker.channel.lost = true;
                (worker.channel.ping_at, worker.channel.asked) = (None, false);
                if wears {
                    (worker.worn, worker.channel.counted) = (true, true);
                    let ready = worker.ready;
                    self.failure(&place, ready, false);
                }
            }
            _ => {}
        }
    }

    /// A channel that was closed counts as lost now: that is told next.
    pub(crate) fn learn_lost(&mut self, id: WorkerId) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_active() && !worker.worn && worker.channel.lost_at.is_some_and(|at| at <= now) {
            (worker.worn, worker.channel.counted) = (true, true);
            let (place, ready) = (worker.place.clone(), worker.ready);
            self.failure(&place, ready, false);
        }
    }

    pub(crate) fn drain(&mut self, id: WorkerId, why: Retirement, told: Timeout) -> Check {
        let now = self.now;
        let worker = self.living(id, "Drain")?;
        let fair = worker.is_to_be_drained() && worker.executed && !worker.exited && !worker.killed;
        let first = !worker.channel.drained && !worker.signalled && worker.asked == Some((now, why));
        worker.channel.drained = true;
        worker.channel.signal_from = worker.kill_from.take();
        hold(fair && first, "who can drain is told so, once, when it is asked to end", || {
            format!("{worker:?}")
        })?;
        let place = worker.place.clone();
        let granted = patience(self.policy(&place), why);
        hold(granted == told, "a drain says how long it may take", || format!("{told:?} of {granted:?}"))
    }

    pub(crate) fn ping(&mut self, id: WorkerId) -> Check {
        let now = self.now;
        let place = self.living(id, "Ping")?.place.clone();
        let timeout = self.policy(&place).ping_timeout;
        let worker = self.living(id, "Ping")?;
        let fair =
            worker.is_ready() && worker.channel.answers && !worker.channel.lost && !worker.channel.asked;
        let due = worker.channel.ping_at.is_some_and(|at| at <= now);
        worker.channel.asked = true;
        worker.channel.ping_at = timeout.map(|timeout| now + timeout);
        hold(
            fair && due && timeout.is_some(),
            "only a ready worker is pinged, and one question at a time",
            || format!("{worker:?} at {now}"),
        )
    }

    pub(crate) fn signal(&mut self, id: WorkerId) -> Check {
        let now = self.now;
        let place = self.living(id, "Signal")?.place.clone();
        let latest = self.moment(self.policy(&place).stop_timeout);
        let worker = self.living(id, "Signal")?;
        let asked = worker.asked.is_some_and(|(_, why)| why != Retirement::OwnWish);
        let fair = asked && worker.executed && !worker.exited && !worker.killed && !worker.signalled;
        worker.signalled = true;
        hold(fair, "a worker is signalled once, when it is asked to end", || format!("{worker:?}"))?;
        if worker.channel.drained {
            let due = worker.channel.signal_from.take().is_some_and(|from| from <= now);
            worker.kill_from = latest;
            return hold(due, "who drains is signalled at its deadline", || format!("{worker:?} at {now}"));
        }
        hold(!worker.is_to_be_drained(), "who can drain gets no signal at once", || format!("{worker:?}"))
    }

    /// Is this worker asked to end because it did not answer? That is remembered: the failure is told next.
    pub(crate) fn is_unresponsive(&mut self, id: WorkerId) -> bool {
        let now = self.now;
        self.workers.get_mut(&id).is_some_and(|worker| {
            worker.channel.unresponsive = worker.channel.is_silent(now);
            worker.channel.unresponsive
        })
    }

    pub(crate) fn check_silence(&self, id: WorkerId) -> Check {
        let silent = self.workers.get(&id).is_some_and(|worker| worker.channel.unresponsive);
        hold(silent, "who is said not to answer did not", || format!("{:?}", self.workers.get(&id)))
    }

    /// Is there, in the slot of a worn worker, the one that was started in its place, ready?
    pub(crate) fn is_succeeded(&self, worker: &Worker) -> bool {
        let follows = |other: &&Worker| other.id > worker.id || (other.id < worker.id && !other.worn);
        let mut others = self.in_slot(&worker.place).filter(follows);
        worker.worn && others.any(|w| w.is_ready() && w.place.generation == worker.place.generation)
    }
}

//! The life of one worker, from its start to the end of its process group.
//!
//! Each state carries its own deadline, so there is no timer that could be stale. What a passed deadline
//! means is decided in `pool`, together with the slot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::Retirement;
use crate::config::model::Policy;
use crate::id::{Generation, WorkerId};
use crate::time::Monotonic;

/// A worker that starts for so long is told of, with what is missing.
const LATE_AFTER: Duration = Duration::from_secs(3);

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum State {
    /// Started, not ready.
    Starting {
        /// Later is a failed start.
        ready_by: Option<Monotonic>,
    },
    /// Able to serve.
    Ready {
        /// Its watchdog must be fed before.
        watchdog_by: Option<Monotonic>,
    },
    /// Asked to end.
    Draining {
        /// Until when it may take its time.
        until: Option<Monotonic>,
        /// What comes then.
        next: Escalation,
        /// Why it was asked.
        why: Retirement,
    },
    /// Its process group was sent `SIGKILL`; nothing more can be done but wait.
    Killed {
        /// Why it was to end in the first place.
        why: Retirement,
        /// When it is let go.
        give_up: Monotonic,
    },
    /// Its main process ended; the rest of its group was asked to.
    Ending {
        /// Then the rest is killed, or let go.
        until: Option<Monotonic>,
        /// It was killed.
        killed: bool,
    },
    /// It cannot be ended, and nothing waits for it.
    LetGo {
        /// Why it was to end in the first place; `None`: its main process has ended.
        why: Option<Retirement>,
    },
}

/// What a worker gets that was asked to end and has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Escalation {
    /// Its `stop_signal`: until now it was asked on its channel.
    Signal,
    /// `SIGKILL`
    Kill,
}

/// What a worker that said hello on its channel can do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channel {
    /// It ends when it is told to drain.
    pub(super) drains: bool,
    /// It answers pings.
    pub(super) answers: bool,
}

impl Channel {
    /// It was lost: nothing can be said on it, and there will be no other.
    pub(super) const LOST: Self = Self { drains: false, answers: false };
}

/// A question whether the worker is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ping {
    /// When it is asked; once it was, by when it must have answered.
    pub(super) at: Monotonic,
    /// It was asked.
    pub(super) asked: bool,
}

/// One process in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) generation: Generation,
    pub(super) started: Monotonic,
    /// Its program was executed; before that only our own helper runs.
    pub(super) executed: bool,
    pub(super) ready: Option<Monotonic>,
    pub(super) asked: Option<Monotonic>,
    pub(super) channel: Option<Channel>,
    /// It closed its channel: if it still lives then, it has lost it.
    pub(super) channel_lost_at: Option<Monotonic>,
    /// While it is ready, where its pool has a `ping_timeout` and it answers pings.
    pub(super) ping: Option<Ping>,
    /// It is to be replaced, by its own wish or because its channel is lost, and serves until then.
    pub(super) worn: bool,
    /// It counts as failed, though it may still serve.
    pub(super) failed: bool,
    /// Nobody can say when it is ready: it is when it has stayed until then. Kept when it became ready so.
    pub(super) bakes_until: Option<Monotonic>,
    /// Then a person is told what is missing, if it is still not ready.
    pub(super) late_at: Option<Monotonic>,
    /// It was said that its successor waits for its end (stop-first).
    pub(super) awaited: bool,
    pub(super) state: State,
}

impl Worker {
    pub(super) fn new(id: WorkerId, generation: Generation, now: Monotonic, policy: &Policy) -> Self {
        let ready_by = now.after(policy.start_timeout);
        let late_at = Some(now + LATE_AFTER).filter(|late| ready_by.is_none_or(|by| by > *late));
        Self {
            id,
            generation,
            started: now,
            executed: false,
            ready: None,
            asked: None,
            channel: None,
            channel_lost_at: None,
            ping: None,
            worn: false,
            failed: false,
            bakes_until: None,
            late_at,
            awaited: false,
            state: State::Starting { ready_by },
        }
    }

    /// Starting or ready: it fills its slot.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Ready { .. })
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Asked to end, and its main process still lives.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. } | State::Killed { .. })
    }

    pub(super) fn is_let_go(&self) -> bool {
        matches!(self.state, State::LetGo { .. })
    }

    /// Its main process has ended, as far as is known.
    pub(super) fn has_exited(&self) -> bool {
        matches!(self.state, State::Ending { .. } | State::LetGo { why: None })
    }

    /// When its successor may start was settled when it asked to be replaced, or lost its channel.
    pub(super) fn is_paced(&self) -> bool {
        self.failed || self.worn
    }

    /// How long it has been ready, or was when it stopped being so.
    pub(super) fn ready_for(&self, now: Monotonic) -> Option<Duration> {
        self.ready.map(|since| self.asked.unwrap_or(now).since(since))
    }

    /// Its readiness was, or will be, nothing but having stayed.
    pub(super) fn bakes(&self) -> bool {
        self.bakes_until.is_some()
    }

    /// It has been starting for so long that a person should know what is missing.
    pub(super) fn is_late(&self, now: Monotonic) -> bool {
        matches!(self.state, State::Starting { .. }) && !self.bakes() && now >= self.started + LATE_AFTER
    }

    /// When time alone brings something about.
    pub(super) fn next_step(&self) -> Option<Monotonic> {
        let late_at = self.late_at.filter(|_| matches!(self.state, State::Starting { .. }));
        let lost_at = self.channel_lost_at.filter(|_| self.is_active());
        self.deadline().into_iter().chain(late_at).chain(lost_at).min()
    }

    /// When it must be dealt with if nothing happens.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        match self.state {
            State::Starting { ready_by } => self.bakes_until.or(ready_by),
            State::Ready { watchdog_by } => {
                watchdog_by.into_iter().chain(self.ping.map(|ping| ping.at)).min()
            }
            State::Draining { until: at, .. } | State::Ending { until: at, .. } => at,
            State::Killed { give_up, .. } => Some(give_up),
            State::LetGo { .. } => None,
        }
    }

    /// Nobody can say when it is ready: it is when it has stayed for `bake_time` from now on. False: that was
    /// settled before.
    pub(super) fn bake(&mut self, now: Monotonic, policy: &Policy) -> bool {
        let starts = matches!(self.state, State::Starting { .. }) && !self.bakes();
        if starts {
            self.bakes_until = Some(now + policy.rollout.bake_time);
            self.late_at = None;
        }
        starts
    }

    /// It said that it is ready. True the first time, if it was not asked to end before.
    pub(super) fn become_ready(&mut self, now: Monotonic, policy: &Policy) -> bool {
        if !matches!(self.state, State::Starting { .. }) {
            return false;
        }
        self.ready = Some(now);
        // One that was seen to be ready meanwhile did not have to stay for that.
        self.bakes_until = self.bakes_until.filter(|until| *until <= now);
        self.state = State::Ready { watchdog_by: policy.watchdog.map(|every| now + every) };
        self.begin_pings(now, policy);
        true
    }

    /// It said hello on its channel. False: it had done so before.
    pub(super) fn open_channel(&mut self, channel: Channel, now: Monotonic, policy: &Policy) -> bool {
        if self.channel.is_some() {
            return false;
        }
        self.channel = Some(channel);
        self.begin_pings(now, policy);
        true
    }

    fn begin_pings(&mut self, now: Monotonic, policy: &Policy) {
        if self.is_ready() && self.channel.is_some_and(|channel| channel.answers) {
            self.ping = policy.ping_timeout.map(|timeout| Ping { at: now + timeout / 2, asked: false });
        }
    }

    /// It is asked whether it is there.
    pub(super) fn ask(&mut self, now: Monotonic, policy: &Policy) {
        self.ping = policy.ping_timeout.map(|timeout| Ping { at: now + timeout, asked: true });
    }

    /// It answered: the next question comes half of `ping_timeout` after the last one.
    pub(super) fn answer(&mut self, now: Monotonic, policy: &Policy) {
        if let (Some(ping), Some(timeout)) = (&mut self.ping, policy.ping_timeout)
            && ping.asked
        {
            // It was asked one `ping_timeout` before the answer is due.
            let half_way = Monotonic::from_origin(ping.at.since_origin().saturating_sub(timeout / 2));
            *ping = Ping { at: half_way.max(now), asked: false };
        }
    }

    /// It fed its watchdog.
    pub(super) fn feed_watchdog(&mut self, now: Monotonic, policy: &Policy) {
        if let State::Ready { watchdog_by: Some(by) } = &mut self.state
            && let Some(every) = policy.watchdog
        {
            // Never forward: it may have been put off for longer.
            *by = (*by).max(now + every);
        }
    }

    /// It was not heard for so long: what it is to say by then, that it is ready or that it lives, has so much more time.
    pub(super) fn put_off(&mut self, by: Duration) {
        match &mut self.state {
            State::Starting { ready_by: Some(deadline) } | State::Ready { watchdog_by: Some(deadline) } => {
                *deadline = *deadline + by;
            }
            _ => {}
        }
    }
}

//! More time for a start or an end: `EXTEND_TIMEOUT_USEC=` of `sd_notify(3)`, and `extend_timeout` on the channel.
//!
//! A deadline is moved back, never forward, and one request is no licence for ever: what a worker asks for is bounded by
//! what its pool is configured to grant, because the service manager is asked to wait as long as we do.
//!
//! - A start gets at most the rollout's `deadline` from the request on, or `start_timeout` where that is longer.
//! - A drain gets at most another `drain_timeout` from the request on.
//! - A stop (of the daemon, or of a worker that hangs) takes at most twice `stop_timeout`, whatever is asked for.
//!
//! The service manager is asked for more time as long as a start, a rollout or a stop makes progress.
//!
//! Who needs more asks again in time, as long as it starts or drains: that is a sign of life each time.

use std::time::Duration;

use super::Supervisor;
use super::action::{Action, Retirement};
use super::machine::Life;
use super::worker::{Escalation, State, Worker};
use crate::config::model::Policy;
use crate::time::{Monotonic, Timeout};

/// A request for more time reaches this far beyond the next deadline, so that what the deadline brings
/// about can still be told.
const EXTENSION_MARGIN: Duration = Duration::from_secs(5);
/// What is asked for where no deadline is in sight.
const EXTENSION_UNBOUNDED: Duration = Duration::from_secs(30);
/// A request that would gain less than this is not sent.
const EXTENSION_STEP: Duration = Duration::from_secs(1);
impl Supervisor {
    /// Asks the service manager to wait until what is due next has been dealt with.
    pub(super) fn extend_timeout(&mut self) {
        let in_progress = match self.phase {
            Life::Starting => self.rollout.is_some() || !self.start_is_stuck(),
            Life::Running => self.rollout.is_some(),
            Life::Stopping { .. } => true,
            Life::Ended => false,
        };
        if !in_progress {
            self.extended_until = None;
            return;
        }
        let now = self.cx.now;
        // To tell a person what is missing is no progress.
        let due = self.find_deadline(Worker::deadline);
        let until = due.unwrap_or(now + EXTENSION_UNBOUNDED) + EXTENSION_MARGIN;
        if self.extended_until.is_none_or(|extended| until >= extended + EXTENSION_STEP) {
            self.extended_until = Some(until);
            self.cx.ask(Action::ExtendTimeout { by: until.since(now) });
        }
    }
}

impl Worker {
    /// It asked for `by` more time, counted from now. `stopping_since`: the daemon is being stopped since then.
    pub(super) fn allow_more_time(
        &mut self,
        now: Monotonic,
        by: Duration,
        stopping_since: Option<Monotonic>,
        policy: &Policy,
    ) {
        match &mut self.state {
            State::Starting { ready_by: Some(deadline) } => {
                let longest = longer(policy.start_timeout, policy.rollout.deadline);
                *deadline = (*deadline).max(now + within(by, longest));
            }
            State::Draining { until: Some(deadline), next, why } => {
                let hangs = matches!(why, Retirement::StartTimeout | Retirement::Watchdog);
                let stop_began = stopping_since.or(self.asked.filter(|_| hangs));
                let until = match (stop_began, policy.stop_timeout.duration()) {
                    (Some(began), Some(stop_timeout)) => {
                        (now + by).min(end_of_stop(began, stop_timeout, *next))
                    }
                    (Some(_), None) => now + by,
                    (None, _) => now + within(by, policy.drain_timeout),
                };
                *deadline = (*deadline).max(until);
            }
            _ => {}
        }
    }
}

/// The latest end of a stop. One that is still to get its signal has another `stop_timeout` after that, so it gets
/// the signal when it would have got it anyway.
fn end_of_stop(began: Monotonic, stop_timeout: Duration, next: Escalation) -> Monotonic {
    match next {
        Escalation::Signal => began + stop_timeout,
        Escalation::Kill => began + stop_timeout.saturating_mul(2),
    }
}

fn within(by: Duration, longest: Timeout) -> Duration {
    longest.duration().map_or(by, |longest| by.min(longest))
}

fn longer(one: Timeout, other: Timeout) -> Timeout {
    match (one.duration(), other.duration()) {
        (Some(one), Some(other)) => one.max(other).into(),
        _ => Timeout::INFINITY,
    }
}

//! How workers show that they are ready, whom events are about, and what the loop finds at once.

use std::collections::BTreeSet;
use std::time::Duration;

use handover::config::model::{Policy, Ready};
use handover::id::WorkerId;
use handover::supervisor::{Event, ReadyBy};
use handover::time::Timeout;

use super::world::World;

/// Found at once at most.
const TOGETHER_MAX: usize = 6;

impl World {
    /// What the loop finds beside an event, where it was held up or much happens at once: what is due by now of other workers, up
    /// to a few. The shadow judges what follows from two events of one worker only where the machine was asked in between.
    pub(crate) fn found_with(&mut self, event: &Event) -> Vec<Event> {
        let mut found = Vec::new();
        let Some(first) = subject(event) else { return found };
        if !self.fault(|faults| faults.together) {
            return found;
        }
        self.now = self.now + self.rng.millis(0, 200);
        let mut seen = BTreeSet::from([first]);
        while found.len() < TOGETHER_MAX
            && let Some((key, next)) = self.queue.first_key_value()
            && key.0 <= self.now
            && subject(next).is_some_and(|worker| seen.insert(worker))
            && let Some((_, event)) = self.queue.pop_first()
        {
            if self.happens(&event) {
                self.end_a_listener(&event);
                found.push(event);
            }
        }
        found
    }

    /// The worker shows that it is ready, in its own way.
    pub(crate) fn ready(&self, worker: WorkerId) -> Event {
        let by = match self.processes.get(&worker).map(|process| process.ready) {
            Some(Ready::Accept) => ReadyBy::Accept,
            Some(Ready::Fd(_)) => ReadyBy::Fd,
            Some(Ready::Notify | Ready::Exec) | None => ReadyBy::Notify,
        };
        Event::Ready { worker, by }
    }

    /// No deadline cuts short the time that workers have to stay, one after another, before they are ready.
    pub(crate) fn allow_staying(&mut self) {
        for policy in self.configured.values_mut().filter(|policy| policy.ready == Ready::Exec) {
            policy.rollout.deadline = Timeout::INFINITY;
        }
    }

    /// The machine has waited long enough for a generation.
    pub(crate) fn refuse_to_prepare(&mut self) {
        self.drop_what_is_prepared();
        self.push(Duration::ZERO, Event::PrepareRefused { reason: "it takes too long".to_owned() });
    }

    pub(crate) fn drop_what_is_prepared(&mut self) {
        self.queue.retain(|_, event| !matches!(event, Event::Prepared { .. } | Event::PrepareRefused { .. }));
    }
}

/// How long a worker of such a pool has to stay before it is ready, whatever it does.
pub(crate) fn stays(policy: &Policy) -> Duration {
    if policy.ready == Ready::Exec { policy.rollout.bake_time } else { Duration::ZERO }
}

/// The worker that it is about.
pub(crate) fn subject(event: &Event) -> Option<WorkerId> {
    match event {
        Event::Spawned { worker }
        | Event::SpawnFailed { worker, .. }
        | Event::Ready { worker, .. }
        | Event::ReadinessUnknown { worker }
        | Event::Heartbeat { worker }
        | Event::WatchdogTriggered { worker }
        | Event::Stopping { worker }
        | Event::ChannelOpened { worker, .. }
        | Event::Answered { worker }
        | Event::ChannelClosed { worker }
        | Event::ChannelLost { worker }
        | Event::ReplacementWished { worker, .. }
        | Event::MoreTime { worker, .. }
        | Event::NotHeard { worker, .. }
        | Event::Exited { worker, .. }
        | Event::GroupEnded { worker }
        | Event::KillFailed { worker, .. } => Some(*worker),
        _ => None,
    }
}

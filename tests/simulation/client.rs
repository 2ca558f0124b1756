//! A worker's end of its channel, as a script: when it says hello, what it can, when it wishes to be replaced or loses
//! the channel, whether it answers and whether it ends when it is told to.

use std::time::Duration;

use handover::id::WorkerId;
use handover::supervisor::{Event, ExitStatus};
use handover::time::Timeout;

use super::world::{SOON, World};

/// What is known of one worker's end.
pub(crate) struct Client {
    ping_timeout: Option<Duration>,
    is_open: bool,
    was_opened: bool,
    was_asked: bool,
}

impl Client {
    pub(crate) fn new(ping_timeout: Option<Duration>) -> Self {
        Self { ping_timeout, is_open: false, was_opened: false, was_asked: false }
    }

    /// Takes in what it says; false where it cannot say that now.
    pub(crate) fn says(&mut self, event: &Event) -> bool {
        match event {
            Event::ChannelOpened { .. } => {
                let first = !std::mem::replace(&mut self.was_opened, true);
                self.is_open |= first;
                first
            }
            Event::ChannelClosed { .. } | Event::ChannelLost { .. } => std::mem::take(&mut self.is_open),
            Event::Answered { .. } => self.is_open && std::mem::take(&mut self.was_asked),
            _ => true,
        }
    }
}

impl World {
    /// What a worker is going to say on its channel, unasked.
    pub(crate) fn open_channel(&mut self, worker: WorkerId, spawned: Duration) {
        let mut at = spawned;
        if self.rng.chance(self.faults.speaks) {
            at += self.rng.millis(0, 900);
            let (drains, answers) = (self.rng.chance(800), self.rng.chance(800));
            self.push(at, Event::ChannelOpened { worker, drains, answers });
            if self.fault(|faults| faults.loses_channel) {
                let after = self.later();
                self.end_channel(worker, at + after);
            }
        }
        while self.fault(|faults| faults.wears) {
            at += self.later();
            self.push(at, Event::ReplacementWished { worker, reason: String::new() });
        }
    }

    /// A worker that wishes to be replaced as soon as it is ready, at `ready`: it serves until then, or ends, or says that it
    /// ends and does not. Every one does so in a restless world.
    pub(crate) fn wishes_at_once(&mut self, worker: WorkerId, ready: Duration) -> bool {
        if self.restless {
            let after = self.rng.millis(0, 1_500);
            self.push(ready + after, Event::ReplacementWished { worker, reason: String::new() });
            return true;
        }
        if !self.fault(|faults| faults.wishes_at_once) {
            return false;
        }
        let at = ready + self.rng.millis(0, 3);
        match self.rng.below(4) {
            0 => self.push(at, Event::ReplacementWished { worker, reason: String::new() }),
            1 => self.push(at, Event::Stopping { worker }),
            _ => {
                self.push(at, Event::Stopping { worker });
                self.push(at, Event::Exited { worker, status: ExitStatus::Code(0) });
            }
        }
        true
    }

    /// The worker closes its channel, and sometimes that is its own end; or it breaks the rules there.
    pub(crate) fn end_channel(&mut self, worker: WorkerId, at: Duration) {
        if self.rng.chance(400) {
            return self.push(at, Event::ChannelLost { worker });
        }
        self.push(at, Event::ChannelClosed { worker });
        if self.rng.chance(400) {
            let after = self.rng.millis(0, 1_200);
            self.push(at + after, Event::Exited { worker, status: ExitStatus::Code(1) });
        }
    }

    /// Soon, before it is ready, or when it has served for a while.
    fn later(&mut self) -> Duration {
        let most = self.rng.pick(&[20, 700, 12_000]);
        self.rng.millis(0, most)
    }

    /// From here on workers wear out again and again, and nothing but that keeps a rollout from its end.
    /// `early`: before their wish counts.
    pub(crate) fn become_restless(&mut self, early: bool) {
        self.restless = true;
        for policy in self.configured.values_mut() {
            policy.rollout.deadline = Timeout::INFINITY;
            policy.restart.stable_after = Duration::from_secs(if early { 10 } else { 0 });
        }
    }

    /// It is told to drain: it ends, or does nothing until its signal comes.
    pub(crate) fn drain(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.asked = true;
        let deaf = self.fault(|faults| faults.deaf);
        if self.fault(|faults| faults.wears) {
            self.push(SOON, Event::ReplacementWished { worker, reason: String::new() });
        }
        if self.fault(|faults| faults.loses_channel) {
            let after = self.later();
            self.end_channel(worker, after);
        }
        if self.calm || !deaf {
            self.signal(worker);
        }
    }

    /// It is asked whether it is there.
    pub(crate) fn ping(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.client.was_asked = true;
        let timeout = process.client.ping_timeout.unwrap_or_default();
        let (is_deaf, is_slow) = (self.fault(|faults| faults.deaf), self.fault(|faults| faults.deaf));
        let most = if is_slow { timeout.mul_f64(1.3) } else { timeout / 4 };
        let after = self.rng.millis(0, 1 + most.as_millis() as u64);
        if !is_deaf {
            self.push(after, Event::Answered { worker });
        }
    }
}

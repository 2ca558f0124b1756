//! What the service manager is told, and when: the facts, once each.

use std::time::Duration;

use crate::notify::{ServiceManager, Text};
use crate::os::clock;
use crate::supervisor::{ManagerState, Phase, Status};
use crate::time::Monotonic;

/// `WATCHDOG_USEC` of our own, and when it is to be fed next.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    next: Monotonic,
}

/// Time that was asked for.
#[derive(Debug)]
struct Extension {
    until: Monotonic,
    /// The watchdog has not been fed since.
    fresh: bool,
}

/// See the module.
pub(in crate::daemon) struct Manager {
    service: ServiceManager,
    watchdog: Option<Watchdog>,
    extension: Option<Extension>,
    /// The last `STATUS=`.
    said: String,
    /// It was told that we are ready.
    ready: bool,
}

impl Manager {
    /// `watchdog`: the time within which the manager wants to hear from us (`sd_watchdog_enabled(3)`).
    pub(in crate::daemon) fn new(
        service: ServiceManager,
        watchdog: Option<Duration>,
        now: Monotonic,
    ) -> Self {
        let watchdog = watchdog
            .filter(|timeout| !timeout.is_zero())
            .map(|timeout| Watchdog { every: timeout / 2, next: now + timeout / 2 });
        Self { service, watchdog, extension: None, said: String::new(), ready: false }
    }

    /// Tells it how we are.
    pub(in crate::daemon) fn tell(&mut self, state: ManagerState, status: &Status) {
        self.said = summary(status);
        self.ready |= state == ManagerState::Ready;
        let text = match state {
            ManagerState::Ready => Text::ready(),
            ManagerState::Reloading => Text::reloading(i128::from(clock::monotonic_usec())),
            ManagerState::Stopping => Text::stopping(),
        };
        self.service.send(text.with_status(&self.said));
        if state == ManagerState::Ready {
            self.extension = None;
        }
        if state == ManagerState::Ready && self.watchdog.is_some() {
            // The manager counts from its own READY, which may be long after ours was due (3.3).
            self.service.send(Text::watchdog());
        }
    }

    /// Asks for more time. systemd moves its deadline for the watchdog as well (`service_extend_timeout`), so that is fed at
    /// once, which moves it back: a loop that hangs in the middle of a rollout is found out as soon as any other.
    pub(in crate::daemon) fn extend_timeout(&mut self, by: Duration, now: Monotonic) {
        self.extension = Some(Extension { until: now + by, fresh: true });
        self.service.send(Text::extend_timeout(by));
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.next = now;
        }
    }

    /// Asks again for what is left of the time that was asked for: a `daemon-reload` makes systemd forget what it has granted
    /// (systemd issue 43000).
    fn extend_again(&mut self, now: Monotonic) {
        let Some(extension) = &mut self.extension else { return };
        let fresh = std::mem::take(&mut extension.fresh);
        if !fresh && now < extension.until {
            self.service.send(Text::extend_timeout(extension.until.since(now)));
        }
    }

    /// There is one, to which the state of things can be told.
    pub(in crate::daemon) fn listens(&self) -> bool {
        self.service.is_there()
    }

    /// Tells it the state of things, if that changed.
    pub(in crate::daemon) fn show(&mut self, status: &Status) {
        let line = summary(status);
        if line != self.said {
            self.service.send(Text::status(&line));
            self.said = line;
        }
    }

    /// When the watchdog is to be fed.
    pub(in crate::daemon) fn next_feed(&self) -> Option<Monotonic> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next)
    }

    /// Feeds the watchdog if it is time; not while we are not `healthy`.
    pub(in crate::daemon) fn feed(&mut self, now: Monotonic, healthy: bool) {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) else { return };
        watchdog.next = now + watchdog.every;
        if healthy {
            self.extend_again(now);
            self.service.send(Text::watchdog());
        }
    }

    /// It was told that we are ready.
    pub(in crate::daemon) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Texts that it did not take.
    pub(in crate::daemon) fn lost(&self) -> u64 {
        self.service.lost()
    }

    /// Returns when all is sent. The caller sets the deadline: a manager may never read.
    pub(in crate::daemon) async fn flushed(&self) {
        self.service.flushed().await;
    }
}

/// The state of things in one line for a person.
pub(in crate::daemon) fn summary(status: &Status) -> String {
    let mut line = format!("{} of {} workers ready", status.ready(), status.wanted());
    if let Some(rollout) = &status.rollout {
        let what = if rollout.rolling_back.is_some() { "rolling back" } else { "rolling out" };
        let (moved, slots) = rollout.moved;
        line.push_str(&format!(", {what} generation {}: {moved} of {slots} slots", rollout.generation));
    } else if let Some(generation) = status.pools.values().filter_map(|pool| pool.generation).max() {
        line.push_str(&format!(", generation {generation}"));
    }
    let looping = status.pools.values().flat_map(|pool| pool.slots.values());
    let looping = looping.filter(|slot| slot.crash_loop).count();
    if looping > 0 {
        line.push_str(&format!(", {looping} in a crash loop"));
    }
    if let Some((generation, reason)) = &status.last_failure {
        line.push_str(&format!("; generation {generation} was rolled back: {reason}"));
    }
    if status.phase == Phase::Stopping {
        line.push_str(", stopping");
    }
    line
}

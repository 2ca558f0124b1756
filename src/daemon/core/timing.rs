//! Which time it is, when the loop has to wake up, and what it does not count: the time in which nobody ran (`supervisor/pause.rs`).
//!
//! Everything that the daemon does with deadlines is told in counted time. Two things follow the clock itself: when the
//! runtime is to wake us, and what the service manager expects, which was not stopped with us.

use crate::daemon::Daemon;
use crate::os::clock;
use crate::supervisor::Event;
use crate::time::Monotonic;

impl Daemon {
    /// What the clock says.
    pub(in crate::daemon) fn clock_now(&self) -> Monotonic {
        Monotonic::from_origin(clock::monotonic())
    }

    /// Now, in counted time. Whether a deadline has passed is judged by `self.time.now()`, the time of the last look: this
    /// may be after a pause that was not noticed yet.
    pub(in crate::daemon) fn now(&self) -> Monotonic {
        self.time.at(self.clock_now())
    }

    /// Looks at the clock. Time in which nobody ran is told to the machine, and moves what is armed.
    pub(in crate::daemon) fn look(&mut self) {
        let (clock, deadline) = (self.clock_now(), self.next_deadline());
        if let Some(lost) = self.time.look(clock, deadline) {
            self.inbox.push_back(Event::TimeLost(lost));
        }
    }

    /// The next deadline of anybody, in counted time.
    pub(in crate::daemon) fn next_deadline(&self) -> Option<Monotonic> {
        let of_readings = [self.readings.next_deadline(), self.watcher.next_deadline()];
        let armed = [self.machine.next_deadline(), self.deadlines.next()].into_iter().chain(of_readings);
        armed.flatten().min()
    }

    /// Something is due now: a mere look at the clock is no reason to do anything.
    pub(in crate::daemon) fn has_reached_a_deadline(&self) -> bool {
        let feed = self.manager.next_feed().is_some_and(|at| at <= self.clock_now());
        feed || self.next_deadline().is_some_and(|at| at <= self.time.now())
    }

    /// When the loop has to wake up, by the clock.
    pub(in crate::daemon) fn next_wake(&self) -> Option<Monotonic> {
        let look = self.time.next_look(self.next_deadline());
        look.into_iter().chain(self.manager.next_feed()).min()
    }
}

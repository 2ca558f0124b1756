//! Time that counts for deadlines: the time in which this process ran.
//!
//! A frozen cgroup, a stopped virtual machine, a `SIGSTOP`: workers cannot do anything then, and the clock goes on. So while
//! a deadline is armed the event loop looks at the clock once a second. A look that comes more than a second late means
//! that nobody ran, and the time since the last look does not count: every deadline and every age is told in counted
//! time, so all of them move together, and none can be forgotten.
//!
//! How much of the time since the last look was lost is not known, at most a second of it was not. All of it is given:
//! a worker may get a second too much, and none is replaced for a moment in which it could not run.
//!
//! A loop that is late again and again, because it has too much to do, would never reach a deadline in this way. So after
//! [`GRANTED_IN_FULL`] losses in a row only what exceeds the planned sleep is given.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::action::Note;
use crate::time::Monotonic;

/// The longest sleep while a deadline is armed.
const LOOK: Duration = Duration::from_secs(1);
/// A wake-up that is later than this means that nobody ran.
const LATE: Duration = Duration::from_secs(1);
/// So much counted time without a loss ends a row of losses.
const RECOVERED: Duration = Duration::from_secs(10);
/// So many losses in a row are given in full. Whoever freezes a service for a second in every two reaches it in two minutes.
const GRANTED_IN_FULL: u32 = 60;

/// Time in which nobody ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeLost {
    /// How much time does not count.
    pub by: Duration,
    /// How many losses there were in a row, this one included.
    pub in_a_row: u32,
}

/// The clock of the caller, less the time in which nobody ran. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountedTime {
    /// What the clock said at the last look.
    last_look: Monotonic,
    /// The part of the clock's time that does not count.
    lost: Duration,
    /// Losses so far, and in a row.
    losses: u64,
    in_a_row: u32,
    /// When, in counted time, the last loss was noticed.
    last_loss: Monotonic,
}

impl CountedTime {
    /// Begins when the clock says `clock`.
    pub fn new(clock: Monotonic) -> Self {
        Self { last_look: clock, ..Self::default() }
    }

    /// The counted time at the last look. It does not move between looks.
    pub fn now(&self) -> Monotonic {
        self.at(self.last_look)
    }

    /// The counted time when the clock says `clock`, if nothing was lost since the last look.
    pub fn at(&self, clock: Monotonic) -> Monotonic {
        Monotonic::from_origin(clock.since(Monotonic::from_origin(self.lost)))
    }

    /// What the clock says at a moment of counted time, if nothing more is lost.
    pub fn clock_at(&self, counted: Monotonic) -> Monotonic {
        counted + self.lost
    }

    /// When, by the clock, the next look is due: `deadline` is the next one that is armed, in counted time. Without one
    /// there is nothing to look for.
    pub fn next_look(&self, deadline: Option<Monotonic>) -> Option<Monotonic> {
        deadline.map(|deadline| self.clock_at(deadline).min(self.last_look + LOOK))
    }

    /// Looks at the clock. `deadline` is the next one that has been armed since the last look.
    pub fn look(&mut self, clock: Monotonic, deadline: Option<Monotonic>) -> Option<TimeLost> {
        let slept = clock.since(self.last_look);
        let planned = deadline.map(|deadline| deadline.since(self.now()).min(LOOK));
        let before = self.now();
        self.last_look = self.last_look.max(clock);
        let late = slept.saturating_sub(planned?);
        if late <= LATE {
            return None;
        }
        let is_row = self.losses > 0 && before.since(self.last_loss) < RECOVERED;
        self.in_a_row = if is_row { self.in_a_row.saturating_add(1) } else { 1 };
        let by = if self.in_a_row > GRANTED_IN_FULL { late } else { slept };
        self.lost = self.lost.saturating_add(by);
        self.losses += 1;
        self.last_loss = self.now();
        Some(TimeLost { by, in_a_row: self.in_a_row })
    }

    /// How often time was lost, and how much in all.
    pub fn lost(&self) -> (u64, Duration) {
        (self.losses, self.lost)
    }
}

impl Supervisor {
    /// The deadlines of the machine have not moved, because its time has stood still. The service manager's time has not: what
    /// it granted is less now than was thought.
    pub(super) fn time_lost(&mut self, lost: TimeLost) {
        self.extended_until = None;
        // One that is late again and again is told less and less often.
        if lost.in_a_row.is_power_of_two() {
            self.cx.note(Note::TimeLost(lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_origin(Duration::from_millis(millis))
    }

    const FAR: u64 = 1_000_000;

    #[test]
    fn a_look_that_is_late_gives_the_time_since_the_last_one() {
        let mut time = CountedTime::new(at(0));
        assert_eq!(time.next_look(Some(at(FAR))), Some(at(1_000)));
        assert_eq!(time.look(at(2_000), Some(at(FAR))), None, "a second late is in time");
        assert_eq!(time.now(), at(2_000));
        let lost = time.look(at(10_000), Some(at(FAR))).expect("seven seconds late");
        assert_eq!(lost, TimeLost { by: Duration::from_secs(8), in_a_row: 1 });
        assert_eq!(time.now(), at(2_000), "nothing of it counts");
        assert_eq!(time.clock_at(at(FAR)), at(FAR + 8_000), "what is armed moves by it");
        assert_eq!(time.next_look(Some(at(FAR))), Some(at(11_000)));
        assert_eq!(time.look(at(11_000), Some(at(FAR))), None);
        assert_eq!((time.now(), time.lost()), (at(3_000), (1, Duration::from_secs(8))));
    }

    #[test]
    fn a_near_deadline_is_kept_and_a_pause_before_it_moves_it_by_all_that_may_be_lost() {
        let mut time = CountedTime::new(at(0));
        assert_eq!(time.next_look(Some(at(300))), Some(at(300)));
        assert_eq!(time.look(at(1_300), Some(at(300))), None, "late, and not by more than a second");
        let mut time = CountedTime::new(at(0));
        time.look(at(1_301), Some(at(300))).expect("more than a second after it was due");
        assert_eq!(time.now(), at(0), "it has all of its time before it");
    }

    #[test]
    fn without_a_deadline_there_is_nothing_to_look_for_and_nothing_to_lose() {
        let mut time = CountedTime::new(at(0));
        assert_eq!(time.next_look(None), None);
        assert_eq!(time.look(at(3_600_000), None), None);
        assert_eq!(time.now(), at(3_600_000));
        assert_eq!(time.look(at(0), Some(at(0))), None, "a clock that goes back stands still");
        assert_eq!(time.now(), at(3_600_000));
    }

    #[test]
    fn a_loop_that_is_always_late_reaches_its_deadlines_all_the_same() {
        let (mut time, deadline) = (CountedTime::new(at(0)), at(30_000));
        let mut looks = 0;
        while time.now() < deadline {
            looks += 1;
            let now = at(looks * 5_000);
            let lost = time.look(now, Some(deadline)).expect("four seconds late");
            assert_eq!(u64::from(lost.in_a_row), looks);
            time.look(now, Some(deadline));
        }
        assert_eq!(looks, u64::from(GRANTED_IN_FULL) + 30, "a second of each look counts then");
    }

    #[test]
    fn a_row_of_losses_ends_when_enough_time_has_counted() {
        let (mut time, mut clock) = (CountedTime::new(at(0)), 0);
        for seconds in [9, 10] {
            clock += 8_000;
            time.look(at(clock), Some(at(FAR))).expect("lost");
            for _ in 0..seconds {
                clock += 1_000;
                assert_eq!(time.look(at(clock), Some(at(FAR))), None);
            }
        }
        let lost = time.look(at(clock + 8_000), Some(at(FAR))).expect("lost");
        assert_eq!(lost.in_a_row, 1);
        let lost = time.look(at(clock + 16_000), Some(at(FAR))).expect("lost");
        assert_eq!(lost.in_a_row, 2);
    }
}

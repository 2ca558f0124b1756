//! Threads that read what a generation is made of.
//!
//! Files may lie on a server that does not answer, and so may the user database: whoever asks is stuck in the
//! kernel, for minutes or for ever, and nobody can end that. So a reading has a thread of its own, which ends
//! with it; what it found comes into the loop as an input. A reading that takes too long is given up: whoever
//! waits for it is told what it was about. Its thread is left to its fate, and because such threads may pile
//! up, only a few are allowed at a time. No worker is ever started on one: the parent-death signal follows
//! the thread.
//!
//! Before the loop runs there is nothing else to do, and the same patience (`in_time`): a start that hangs says
//! with what, and ends.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::supervisor::PREPARE_TIMEOUT;
use crate::time::Monotonic;

/// The most time that a reading may take. A plan has as much as a reload.
const PATIENCE: Duration = PREPARE_TIMEOUT;
/// Readings of one kind at a time, those that were given up among them.
const RUNNING_MAX: usize = 4;

/// What a reading does at the moment, for a person; shared with its thread.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Step(Arc<Mutex<String>>);

impl Step {
    /// Says what comes next; a present participle with its object: `reading /etc/myapp.toml`.
    pub(in crate::daemon) fn is(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn now(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Kinds of readings, so that those of one kind do not keep the others from being begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Kind {
    /// For a generation.
    Reload,
    /// For a plan that is only shown.
    Plan,
}

/// What a reading came to, and its number. It may be a fault, for a person.
pub(in crate::daemon) type Finished<T> = (u64, Result<T, String>);

struct Running<W> {
    kind: Kind,
    step: Step,
    since: Monotonic,
    /// What it is for; `None`: it was given up.
    wanted: Option<W>,
}

/// A reading, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Look {
    /// What it does.
    pub(in crate::daemon) what: String,
    /// For how long it has been running.
    pub(in crate::daemon) lasts: Duration,
    /// Nobody waits for it any more.
    pub(in crate::daemon) given_up: bool,
}

/// All readings that run. `T` is what they find, `W` what that is wanted for.
pub(in crate::daemon) struct Readings<T, W> {
    finished: mpsc::UnboundedSender<Finished<T>>,
    last: u64,
    running: BTreeMap<u64, Running<W>>,
}

impl<T: Send + 'static, W> Readings<T, W> {
    /// None yet; and where those that are done report.
    pub(in crate::daemon) fn new() -> (Self, mpsc::UnboundedReceiver<Finished<T>>) {
        let (finished, receiver) = mpsc::unbounded_channel();
        (Self { finished, last: 0, running: BTreeMap::new() }, receiver)
    }

    /// Begins one. Refused, with the reason for a person, while too many of its kind have not ended.
    pub(in crate::daemon) fn begin(
        &mut self,
        now: Monotonic,
        kind: Kind,
        wanted: W,
        job: impl FnOnce(&Step) -> Result<T, String> + Send + 'static,
    ) -> Result<(), (W, String)> {
        let others: Vec<String> =
            self.running.values().filter(|other| other.kind == kind).map(|other| other.step.now()).collect();
        if others.len() >= RUNNING_MAX {
            let others = others.join(", ");
            let hint =
                "hint: each of them waits for a file system or a directory server that does not answer";
            return Err((wanted, format!("too many readings have not ended: {others}\n{hint}")));
        }
        self.last += 1;
        let (number, step, finished) = (self.last, Step::default(), self.finished.clone());
        let of_thread = step.clone();
        // Where nobody listens any more, the daemon ends.
        let report = move |found: Result<_, _>| drop(finished.send((number, found.and_then(|found| found))));
        match start(of_thread, job, report) {
            Ok(()) => {
                self.running.insert(number, Running { kind, step, since: now, wanted: Some(wanted) });
                Ok(())
            }
            Err(reason) => Err((wanted, reason)),
        }
    }

    /// A reading has ended. Gives what it is for, if somebody still waits for it.
    pub(in crate::daemon) fn ended(&mut self, number: u64) -> Option<W> {
        self.running.remove(&number)?.wanted
    }

    /// When the next plan has taken too long. When a generation has is the machine's to say.
    pub(in crate::daemon) fn next_deadline(&self) -> Option<Monotonic> {
        let waited_for = self.running.values().filter(|reading| reading.wanted.is_some());
        waited_for.filter(|reading| reading.kind == Kind::Plan).map(|reading| reading.since + PATIENCE).min()
    }

    /// Gives up plans that have taken too long. Gives what they are for, and the reason for a person.
    pub(in crate::daemon) fn overdue(&mut self, now: Monotonic) -> Vec<(W, String)> {
        self.give_up_late(|reading| reading.kind == Kind::Plan && reading.since + PATIENCE <= now)
    }

    /// Gives up those of a kind, because somebody else found that they take too long. Gives what they are for, and the reason for
    /// a person.
    pub(in crate::daemon) fn too_long(&mut self, kind: Kind) -> Vec<(W, String)> {
        self.give_up_late(|reading| reading.kind == kind)
    }

    fn give_up_late(&mut self, is_late: impl Fn(&Running<W>) -> bool) -> Vec<(W, String)> {
        let late = self.running.values_mut().filter(|reading| is_late(reading));
        late.filter_map(|reading| Some((reading.wanted.take()?, too_long(&reading.step, PATIENCE)))).collect()
    }

    /// Gives up those that are for what `is_unwanted` picks; gives what they were for.
    pub(in crate::daemon) fn give_up(&mut self, is_unwanted: impl Fn(&W) -> bool) -> Vec<W> {
        self.running.values_mut().filter_map(|reading| reading.wanted.take_if(|w| is_unwanted(w))).collect()
    }

    /// Those that run, oldest first.
    pub(in crate::daemon) fn look(&self, now: Monotonic) -> Vec<Look> {
        let look = |reading: &Running<W>| Look {
            what: reading.step.now(),
            lasts: now.since(reading.since),
            given_up: reading.wanted.is_none(),
        };
        self.running.values().map(look).collect()
    }
}

/// Reads on a thread, for one who has nothing else to do meanwhile. A thread that is stuck is left to its fate, and ends with
/// the process.
///
/// # Errors
/// It takes too long; for a person.
pub(in crate::daemon) fn in_time<T: Send + 'static>(
    job: impl FnOnce(&Step) -> T + Send + 'static,
) -> Result<T, String> {
    in_time_of(PATIENCE, job)
}

fn in_time_of<T: Send + 'static>(
    patience: Duration,
    job: impl FnOnce(&Step) -> T + Send + 'static,
) -> Result<T, String> {
    let (step, (report, reports)) = (Step::default(), std_mpsc::channel());
    // Where nobody listens any more, it came too late.
    start(step.clone(), job, move |found| drop(report.send(found)))?;
    reports.recv_timeout(patience).unwrap_or_else(|_| Err(too_long(&step, patience)))
}

/// Starts the thread of one reading, which reports in any case.
fn start<T>(
    step: Step,
    job: impl FnOnce(&Step) -> T + Send + 'static,
    report: impl FnOnce(Result<T, String>) + Send + 'static,
) -> Result<(), String> {
    let thread = thread::Builder::new().name("reading".to_owned()).spawn(move || {
        // A fault of ours in there must not leave anybody waiting.
        let found = catch_unwind(AssertUnwindSafe(|| job(&step)));
        report(found.map_err(|panic| panicked(&step, panic.as_ref())));
    });
    thread.map(drop).map_err(|error| format!("no thread to read on: {}", crate::os::words(&error)))
}

fn too_long(step: &Step, patience: Duration) -> String {
    let (what, seconds) = (step.now(), patience.as_secs());
    format!(
        "{what} takes more than {seconds} s\nhint: does the file system, or the directory server, answer?"
    )
}

fn panicked(step: &Step, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    format!("{} failed, which is a fault of handover: {text}", step.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Monotonic = Monotonic::ZERO;

    /// A thing to read that does not come before it is let go.
    fn hangs() -> (std::sync::mpsc::Sender<()>, impl FnOnce(&Step) -> Result<u32, String> + Send + 'static) {
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let job = move |step: &Step| {
            step.is("reading /mnt/gone");
            let _ = held.recv();
            Ok(1)
        };
        (let_go, job)
    }

    fn begin(readings: &mut Readings<u32, &'static str>, what: &'static str) -> std::sync::mpsc::Sender<()> {
        let (let_go, job) = hangs();
        readings.begin(START, Kind::Reload, what, job).unwrap();
        let_go
    }

    fn wait_for_step(readings: &Readings<u32, &'static str>) {
        while readings.look(START).iter().any(|look| look.what.is_empty()) {
            thread::yield_now();
        }
    }

    #[test]
    fn what_was_read_comes_with_what_it_is_for() {
        let (mut readings, mut finished) = Readings::new();
        readings.begin(START, Kind::Reload, "web", |_| Ok(7)).unwrap();
        assert_eq!(finished.blocking_recv(), Some((1, Ok(7))));
        assert_eq!(readings.ended(1), Some("web"));
        assert_eq!((readings.look(START), readings.next_deadline()), (Vec::new(), None));
    }

    #[test]
    fn a_reading_that_hangs_is_given_up_and_said_by_name() {
        let (mut readings, mut finished) = Readings::new();
        let (let_go, job) = hangs();
        readings.begin(START, Kind::Plan, "web", job).unwrap();
        wait_for_step(&readings);
        assert_eq!(readings.next_deadline(), Some(START + PATIENCE));
        assert_eq!(readings.overdue(START + PATIENCE / 2), []);
        let overdue = readings.overdue(START + PATIENCE);
        let [(what, reason)] = &overdue[..] else { panic!("{overdue:?}") };
        assert_eq!(*what, "web");
        assert!(reason.starts_with("reading /mnt/gone takes more than 30 s\nhint: "), "{reason}");
        assert_eq!(readings.next_deadline(), None, "nothing is to be done for it any more");
        assert!(readings.look(START)[0].given_up);
        drop(let_go);
        assert_eq!(finished.blocking_recv(), Some((1, Ok(1))));
        assert_eq!(readings.ended(1), None, "too late");
        assert_eq!(readings.look(START), []);
    }

    #[test]
    fn what_is_read_for_a_generation_is_given_up_when_the_machine_says_so() {
        let (mut readings, _finished) = Readings::new();
        let _let_go = begin(&mut readings, "web");
        wait_for_step(&readings);
        assert_eq!(readings.next_deadline(), None);
        assert_eq!(readings.overdue(START + PATIENCE), []);
        assert_eq!(readings.too_long(Kind::Plan), []);
        let given_up = readings.too_long(Kind::Reload);
        let [("web", reason)] = &given_up[..] else { panic!("{given_up:?}") };
        assert!(reason.starts_with("reading /mnt/gone takes more than 30 s\nhint: "), "{reason}");
        assert_eq!(readings.too_long(Kind::Reload), []);
    }

    #[test]
    fn what_hangs_is_bounded_and_later_ones_are_possible_again() {
        let (mut readings, mut finished) = Readings::new();
        let let_go: Vec<_> = (0..RUNNING_MAX).map(|_| begin(&mut readings, "web")).collect();
        wait_for_step(&readings);
        assert_eq!(readings.give_up(|what| *what == "web").len(), RUNNING_MAX);
        let refused = readings.begin(START, Kind::Reload, "more", |_| Ok(2)).unwrap_err();
        assert_eq!(refused.0, "more");
        assert!(
            refused.1.starts_with("too many readings have not ended: reading /mnt/gone, "),
            "{refused:?}"
        );
        readings.begin(START, Kind::Plan, "another kind", |_| Ok(2)).unwrap();
        drop(let_go);
        for _ in 0..=RUNNING_MAX {
            let (number, _) = finished.blocking_recv().unwrap();
            readings.ended(number);
        }
        readings.begin(START, Kind::Reload, "more", |_| Ok(3)).unwrap();
    }

    #[test]
    fn a_reading_that_panics_is_a_fault_and_leaves_nobody_waiting() {
        let (mut readings, mut finished) = Readings::<u32, _>::new();
        let job = |step: &Step| {
            step.is("reading /a");
            assert!(step.now().is_empty(), "as a test");
            Ok(1)
        };
        readings.begin(START, Kind::Reload, "web", job).unwrap();
        let (number, found) = finished.blocking_recv().unwrap();
        assert!(found.unwrap_err().starts_with("reading /a failed, which is a fault of handover: as a test"));
        assert_eq!(readings.ended(number), Some("web"));
    }

    #[test]
    fn one_who_only_waits_hears_what_it_is_about() {
        assert_eq!(in_time(|_| 7), Ok(7));
        let (_let_go, job) = hangs();
        let reason = in_time_of(Duration::from_millis(200), job).unwrap_err();
        assert!(reason.starts_with("reading /mnt/gone takes more than "), "{reason}");
        let reason = in_time(|step: &Step| -> u32 {
            step.is("reading /a");
            panic!("as a test")
        });
        assert_eq!(reason, Err("reading /a failed, which is a fault of handover: as a test".to_owned()));
    }
}

//! The machine and its shadow side by side, event by event or with those that were found together; and a list of events played
//! again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use handover::config::model::Policy;
use handover::id::PoolName;
use handover::supervisor::{Action, Event, Supervisor};
use handover::time::Monotonic;

use super::shadow::{Check, Shadow, Violation};

/// What was found together, and what the machine answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Monotonic,
    pub(crate) events: Vec<Event>,
    pub(crate) actions: Vec<Action>,
}

/// See the module.
pub(crate) struct Bench {
    pub(crate) machine: Supervisor,
    pub(crate) shadow: Shadow,
    pub(crate) trace: Vec<Step>,
    /// Go on with a copy after the next event.
    pub(crate) copy_next: bool,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A panic of the machine is a finding like others; it is told once, with its trace.
pub(crate) fn silence_expected_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            loud(panic);
        }
    }));
}

fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Violation> {
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(step));
    QUIET.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Violation { property: "the machine does not panic", detail: text.unwrap_or_default() }
    })
}

impl Bench {
    /// A machine at the origin of time, with its first orders given.
    pub(crate) fn new(
        seed: u64,
        pools: &BTreeMap<PoolName, Policy>,
    ) -> Result<(Self, Vec<Action>), Violation> {
        let machine = guarded(|| Supervisor::new(Monotonic::ZERO, seed, pools.clone()))?;
        let mut bench = Self { machine, shadow: Shadow::new(pools), trace: Vec::new(), copy_next: false };
        let actions = bench.answer()?;
        Ok((bench, actions))
    }

    /// Gives the machine what was found together and checks its answer.
    pub(crate) fn step(&mut self, at: Monotonic, events: &[Event]) -> Result<Vec<Action>, Violation> {
        events.iter().for_each(|event| self.shadow.learn(at, event));
        self.trace.push(Step { at, events: events.to_vec(), actions: Vec::new() });
        guarded(|| self.machine.handle_together(at, events.iter().cloned()))?;
        if std::mem::take(&mut self.copy_next) {
            self.swap_for_a_copy()?;
        }
        let actions = self.answer()?;
        Ok(actions)
    }

    fn answer(&mut self) -> Result<Vec<Action>, Violation> {
        let mut actions = Vec::new();
        let mut first: Check = Ok(());
        while let Some(action) = self.machine.next_action() {
            if first.is_ok() {
                first = self.shadow.obey(&action);
            }
            actions.push(action);
        }
        if let Some(step) = self.trace.last_mut() {
            step.actions.clone_from(&actions);
        }
        first?;
        self.shadow.after_step(self.machine.next_deadline())?;
        Ok(actions)
    }

    /// The machine, written down and read back.
    fn swap_for_a_copy(&mut self) -> Check {
        let failed =
            |detail: String| Violation { property: "the machine survives being written down", detail };
        let text = serde_json::to_string(&self.machine).map_err(|fault| failed(fault.to_string()))?;
        let copy: Supervisor = serde_json::from_str(&text).map_err(|fault| failed(fault.to_string()))?;
        if copy != self.machine {
            return Err(failed(text));
        }
        self.machine = copy;
        Ok(())
    }
}

/// Plays a list of steps; gives the first violation and the step at which it was found.
pub(crate) fn replay(
    seed: u64,
    pools: &BTreeMap<PoolName, Policy>,
    steps: &[(Monotonic, Vec<Event>)],
) -> Option<(usize, Violation, Vec<Step>)> {
    let (mut bench, _) = match Bench::new(seed, pools) {
        Ok(bench) => bench,
        Err(violation) => return Some((0, violation, Vec::new())),
    };
    for (number, (at, events)) in steps.iter().enumerate() {
        if let Err(violation) = bench.step(*at, events) {
            return Some((number, violation, bench.trace));
        }
    }
    None
}

//! One run: faults for a while, then calm, then a stop; and what must have come of it.

use std::collections::BTreeMap;
use std::time::Duration;

use handover::config::model::Policy;
use handover::id::{Generation, PoolName, RequestId, WorkerId};
use handover::supervisor::{Action, Event, ExitStatus, Outcome, ReadyBy, Request, Scope};

use super::bench::{Bench, Step};
use super::pauses::{Clock, Lives};
use super::rng::Rng;
use super::shadow::{Check, Violation, hold};
use super::swarm::Setup;
use super::world::World;

/// Simulated time within which a calm daemon is where it should be.
const CALM: Duration = Duration::from_secs(3600);
/// Steps within which it is; far more than any good run needs.
const CALM_STEPS: u32 = 20_000;

/// A run that went wrong, with all that is needed to see it again.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) pools: BTreeMap<PoolName, Policy>,
    pub(crate) violation: Violation,
    pub(crate) trace: Vec<Step>,
}

struct Run {
    world: World,
    bench: Bench,
    clock: Clock,
    lives: Lives,
    /// When the machine is written down and read back; a stream of its own, so that it changes nothing else.
    copies: Rng,
}

/// Runs a seed to its end; gives the trace.
pub(crate) fn run(seed: u64, with_copies: bool) -> Result<Vec<Step>, Box<Failure>> {
    let setup = Setup::new(seed);
    let (pools, steps) = (setup.pools.clone(), setup.steps);
    let fail = |violation, trace| Box::new(Failure { seed, pools: pools.clone(), violation, trace });
    let (bench, first) = Bench::new(seed, &setup.pools).map_err(|violation| fail(violation, Vec::new()))?;
    let mut world = World::new(setup);
    if !with_copies {
        world.faults.snapshot = 0;
    }
    let (clock, lives) = (Clock::new(), Lives::new());
    let mut run = Run { world, bench, clock, lives, copies: Rng::new(seed ^ 0xC0B1) };
    run.obey(&first).map_err(|violation| fail(violation, Vec::new()))?;
    match run.whole(steps) {
        Ok(()) => Ok(run.bench.trace),
        Err(violation) => Err(fail(violation, run.bench.trace)),
    }
}

impl Run {
    fn whole(&mut self, steps: u32) -> Check {
        for _ in 0..steps {
            if self.bench.shadow.ended || !self.step()? {
                break;
            }
        }
        self.check_after_end()?;
        self.world.calm_down();
        self.converge()?;
        if self.bench.shadow.stopping.is_none() {
            self.roll_in_calm()?;
            if self.world.rng.chance(100) {
                self.roll_with_worn_workers(false)?;
                self.roll_with_worn_workers(true)?;
            }
            let stop = self.world.request(Request::Stop { now: false });
            self.give(stop)?;
            self.until("a stop ends", |run| run.bench.shadow.ended)?;
        }
        let left = &self.bench.shadow.requests;
        hold(left.is_empty(), "every request is answered", || format!("{left:?}"))
    }

    /// The next thing that happens, and sometimes a fault of the shell; false where nothing ever will.
    fn step(&mut self) -> Result<bool, Violation> {
        let event = loop {
            let deadline = self.bench.machine.next_deadline();
            let Some(event) = self.world.next(self.clock.wakes(deadline)) else { return Ok(false) };
            if let Some(pause) = self.world.pause() {
                self.clock.pause(pause);
            }
            self.look()?;
            let deadline = self.bench.machine.next_deadline();
            if event != Event::DeadlinePassed || deadline.is_some_and(|at| at <= self.clock.time.now()) {
                break event;
            }
        };
        let mut events = vec![event.clone()];
        events.extend(self.world.found_with(&event));
        self.look()?;
        self.give_together(&events)?;
        if self.world.buggify() {
            self.disturb(event)?;
        }
        Ok(true)
    }

    /// The loop looks at the clock, whatever it woke up for.
    fn look(&mut self) -> Check {
        let lost = self.clock.look(self.world.now, self.bench.machine.next_deadline());
        lost.map_or(Ok(()), |lost| self.give(lost).map(drop))
    }

    fn give(&mut self, event: Event) -> Result<Vec<Action>, Violation> {
        self.give_together(&[event])
    }

    fn give_together(&mut self, events: &[Event]) -> Result<Vec<Action>, Violation> {
        // With its orders still to be fetched: a state like any other.
        self.bench.copy_next = self.copies.chance(self.world.faults.snapshot);
        for event in events {
            self.lives.learn(self.world.now, event, &self.bench.shadow);
        }
        let actions = self.bench.step(self.clock.time.now(), events)?;
        self.obey(&actions)?;
        Ok(actions)
    }

    fn obey(&mut self, actions: &[Action]) -> Check {
        for action in actions {
            self.lives.check(self.world.now, action, &self.bench.shadow)?;
            self.world.obey(action);
        }
        Ok(())
    }

    /// An event twice, one too late, or a needless wake-up.
    fn disturb(&mut self, last: Event) -> Check {
        match self.world.rng.below(4) {
            0 if may_come_twice(&last) => self.give(last).map(drop),
            1 => self.give(Event::DeadlinePassed).map(drop),
            2 if self.bench.shadow.preparing.is_none() => {
                let stale = [
                    Event::PrepareRefused { reason: String::new() },
                    Event::Prepared { pools: BTreeMap::new() },
                ];
                let stale = self.world.rng.pick(&stale);
                self.check_stale(stale)
            }
            _ => self.stale_event(),
        }
    }

    fn stale_event(&mut self) -> Check {
        let worker = WorkerId(1 + self.world.rng.below(self.bench.shadow.spawned + 2));
        if self.bench.shadow.workers.contains_key(&worker) {
            return Ok(());
        }
        let stale = [
            Event::Spawned { worker },
            Event::Ready { worker, by: ReadyBy::Notify },
            Event::ReadinessUnknown { worker },
            Event::Stopping { worker },
            Event::WatchdogTriggered { worker },
            Event::ChannelOpened { worker, drains: true, answers: true },
            Event::Answered { worker },
            Event::ReplacementWished { worker, reason: String::new() },
            Event::ChannelClosed { worker },
            Event::ChannelLost { worker },
            Event::Exited { worker, status: ExitStatus::Code(1) },
            Event::GroupEnded { worker },
        ];
        let stale = self.world.rng.pick(&stale);
        self.check_stale(stale)
    }

    /// What comes too late has no more effect than time has.
    fn check_stale(&mut self, stale: Event) -> Check {
        let mut without = self.bench.machine.clone();
        without.handle(self.clock.time.now(), Event::DeadlinePassed);
        let text = format!("{stale:?}");
        let mut with = self.bench.machine.clone();
        with.handle(self.clock.time.now(), stale);
        hold(with == without, "a late event changes nothing", || text)
    }

    fn check_after_end(&mut self) -> Check {
        if self.bench.shadow.ended {
            let stop = self.world.request(Request::Stop { now: true });
            let roll = self.world.request(Request::Roll(everything()));
            self.give(stop)?;
            self.give(roll)?;
        }
        Ok(())
    }

    fn until(&mut self, property: &'static str, reached: impl Fn(&Self) -> bool) -> Check {
        let latest = self.world.now + CALM;
        for _ in 0..CALM_STEPS {
            if reached(self) {
                return Ok(());
            }
            let went_on = self.step()?;
            hold(went_on, property, || {
                format!("nothing happens any more: {:#?}", self.bench.machine.status())
            })?;
            let in_time = self.world.now < latest;
            hold(in_time, property, || format!("an hour later: {:#?}", self.bench.machine.status()))?;
        }
        hold(false, property, || format!("still busy: {:#?}", self.bench.machine.status()))
    }

    fn converge(&mut self) -> Check {
        self.until("a calm daemon settles", |run| {
            let shadow = &run.bench.shadow;
            let idle = shadow.rollout.is_none() && shadow.preparing.is_none() && shadow.requests.is_empty();
            let settled = shadow.pools.keys().all(|name| run.is_settled(name));
            shadow.ended
                || (idle && settled && shadow.started && !shadow.reloading && shadow.stopping.is_none())
        })
    }

    /// Every slot has a ready worker of the pool's generation, or of one that was kept; nobody else is there, nobody
    /// is to be replaced, and nobody has a dead socket.
    fn is_settled(&self, pool: &PoolName) -> bool {
        let shadow = &self.bench.shadow;
        let slots = shadow.slots(pool);
        let mut ready = Vec::new();
        for worker in shadow.in_pool(pool) {
            let place = &worker.place;
            let may = Some(place.generation) == shadow.pools[pool].base
                || shadow.failed.contains(&place.generation);
            if !worker.is_ready() || worker.worn || !may || place.slot.0 >= slots || !worker.dead.is_empty() {
                return false;
            }
            ready.push(place.slot.0);
        }
        ready.sort_unstable();
        ready == (0..slots).collect::<Vec<u32>>()
    }

    /// With nothing going wrong, a rollout succeeds.
    fn roll_in_calm(&mut self) -> Check {
        self.world.allow_staying();
        let roll = self.world.request(Request::Roll(everything()));
        let Event::Requested { request, .. } = roll else { return Ok(()) };
        self.give(roll)?;
        self.until("a calm rollout ends", |run| !run.bench.shadow.requests.contains_key(&request))?;
        let outcome = self.outcome(request);
        let done = matches!(outcome, Some(Outcome::Done { generation: Some(Generation(_)) }));
        hold(done, "a calm rollout succeeds", || format!("{outcome:?}"))?;
        self.converge()
    }

    /// Where every worker wishes to be replaced as soon as it serves, a rollout ends all the same, and so does a
    /// rollback; when they are content again, none of them is left to be replaced. `early`: their wishes are failures.
    fn roll_with_worn_workers(&mut self, early: bool) -> Check {
        self.world.become_restless(early);
        for cancelled in [false, true] {
            let roll = self.world.request(Request::Roll(everything()));
            let Event::Requested { request, .. } = roll else { return Ok(()) };
            self.give(roll)?;
            let waits = |run: &Self| run.bench.shadow.requests.contains_key(&request);
            if cancelled {
                let proven =
                    |run: &Self| run.bench.shadow.rollout.as_ref().is_some_and(|rollout| rollout.proven);
                self.until("a canary that is worn bakes", |run| proven(run) || !waits(run))?;
                let cancel = self.world.request(Request::Cancel { pool: None });
                self.give(cancel)?;
            }
            let property = "a rollout ends whatever worn workers do";
            self.until(property, |run| !waits(run))?;
            let outcome = self.outcome(request);
            let done = matches!(outcome, Some(Outcome::Done { .. }));
            hold(done || cancelled || early, property, || format!("{outcome:?}"))?;
        }
        self.world.restless = false;
        self.converge()
    }

    fn outcome(&self, asked: RequestId) -> Option<Outcome> {
        let actions = self.bench.trace.iter().rev().flat_map(|step| &step.actions);
        actions.into_iter().find_map(|action| match action {
            Action::Answer { request, outcome } if *request == asked => Some(outcome.clone()),
            _ => None,
        })
    }
}

fn everything() -> Scope {
    Scope { reread: false, pools: None, changed_only: false }
}

fn may_come_twice(event: &Event) -> bool {
    !matches!(
        event,
        Event::Requested { .. }
            | Event::TimeLost(_)
            | Event::StopSignal { .. }
            | Event::Prepared { .. }
            | Event::PrepareRefused { .. }
            | Event::Broken { .. }
    )
}

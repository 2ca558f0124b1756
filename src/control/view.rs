//! The status document from what the machine says and what the shell knows.
//!
//! Pure. The machine knows neither pids nor sockets nor dates; [`Facts`] brings them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::document::{
    Channel, Counters, Daemon, FailedRollout, Failure, Generation, Listener, Moment, Place, Pool, Reading,
    Rollout, Slot, SlotFailure, StatusDocument, VERSION, Worker,
};
use super::summary::{Summary, summary};
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::stamp;
use crate::supervisor::{PoolStatus, RolloutStatus, SlotStatus, Status, WorkerStatus};
use crate::time::Monotonic;

/// What the shell knows.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the daemon started.
    pub started: Monotonic,
    /// The moment of the document.
    pub now: Monotonic,
    /// The same moment by the wall clock.
    pub wall: SystemTime,
    /// `name`
    pub name: String,
    /// Our own process.
    pub pid: u32,
    /// The service manager was told that we are ready.
    pub ready: bool,
    /// The configuration file.
    pub config: Option<String>,
    /// The number of the last event.
    pub last_event: u64,
    /// Workers, those that failed among them as long as their output is kept.
    pub workers: BTreeMap<WorkerId, WorkerFacts>,
    /// Fds that are stored for slots.
    pub stored: BTreeMap<(PoolName, SlotIndex), StoredFacts>,
    /// Listeners, by name.
    pub listeners: Vec<Listener>,
    /// Generations that exist, oldest first.
    pub generations: Vec<Generation>,
    /// What is being read.
    pub readings: Vec<Reading>,
    /// Numbers that should stay small.
    pub counters: Counters,
}

/// What the shell knows of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Its main process.
    pub pid: Option<u32>,
    /// Its last `STATUS=`.
    pub status: Option<String>,
    /// Its channel, where it said hello.
    pub channel: Option<Channel>,
    /// Processes left in its group after its main process ended.
    pub leftovers: u32,
    /// Its last lines of output, oldest first.
    pub output: Vec<String>,
    /// What may help, where it failed and that can be guessed.
    pub hint: Option<String>,
    /// Where it has been starting for long: what it has not done yet, and what may help.
    pub starting: Option<StartingFacts>,
    /// How its readiness was decided, where nobody could see it.
    pub readiness: Option<String>,
}

/// What a worker that starts has not done yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartingFacts {
    /// What is waited for.
    pub waiting_for: String,
    /// What may help.
    pub hint: String,
}

/// What the shell knows of the fds that are stored for a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFacts {
    /// Their names, oldest first.
    pub names: Vec<String>,
    /// Those that were not stored.
    pub refused: u64,
}

impl StatusDocument {
    /// The document for clients that may see everything.
    pub(crate) fn new(status: &Status, facts: Facts) -> Self {
        let view = View { status, facts: &facts };
        let mut document = Self {
            version: VERSION,
            daemon: view.daemon(),
            pools: status.pools.iter().map(|(name, pool)| view.pool(name, pool)).collect(),
            listeners: Vec::new(),
            rollout: view.rollout(),
            last_failed_rollout: view.last_failed_rollout(),
            generations: Vec::new(),
            readings: Vec::new(),
            counters: Counters::default(),
        };
        document.listeners = facts.listeners;
        document.generations = facts.generations;
        document.readings = facts.readings;
        document.counters = facts.counters;
        let Summary { fine, healthy, line } = summary(&document);
        document.daemon = Daemon { fine, healthy, summary: line, ..document.daemon };
        document
    }
}

struct View<'a> {
    status: &'a Status,
    facts: &'a Facts,
}

impl View<'_> {
    fn daemon(&self) -> Daemon {
        Daemon {
            name: self.facts.name.clone(),
            pid: self.facts.pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.moment(self.facts.started),
            phase: self.status.phase.to_string(),
            ready: self.facts.ready,
            fine: false,
            healthy: false,
            summary: String::new(),
            config: self.facts.config.clone(),
            last_event: self.facts.last_event,
        }
    }

    fn pool(&self, name: &PoolName, pool: &PoolStatus) -> Pool {
        Pool {
            name: name.to_string(),
            generation: pool.generation.map(|generation| generation.0),
            wanted: pool.wanted,
            scaled: pool.scaled,
            ready: pool.ready,
            draining: pool.draining,
            lost_listeners: pool.lost_listeners.iter().map(ToString::to_string).collect(),
            slots: pool.slots.iter().map(|(index, slot)| self.slot(name, *index, slot)).collect(),
        }
    }

    fn slot(&self, pool: &PoolName, index: SlotIndex, slot: &SlotStatus) -> Slot {
        let stored = self.facts.stored.get(&(pool.clone(), index)).cloned().unwrap_or_default();
        Slot {
            slot: index.0,
            workers: slot.workers.iter().map(|worker| self.worker(worker)).collect(),
            restarts: slot.restarts,
            restart_in_seconds: slot.restart_at.map(|at| self.seconds_until(at)),
            crash_loop: slot.crash_loop,
            kept: slot.kept,
            last_failure: slot.last_failure.as_ref().map(|(at, worker, failure)| SlotFailure {
                at: self.moment(*at),
                failure: Failure {
                    hint: self.hint(*worker),
                    ..Failure::of_worker(worker.0, failure, self.output(*worker))
                },
            }),
            stored_fds: stored.names,
            stored_fds_refused: stored.refused,
        }
    }

    fn worker(&self, worker: &WorkerStatus) -> Worker {
        let known = self.facts.workers.get(&worker.worker).cloned().unwrap_or_default();
        let starting = known.starting;
        Worker {
            worker: worker.worker.0,
            pid: known.pid,
            generation: worker.generation.0,
            state: worker.state,
            worn: worker.worn,
            started: self.moment(worker.started),
            ready: worker.ready.map(|at| self.moment(at)),
            asked: worker.asked.map(|at| self.moment(at)),
            deadline_in_seconds: worker.deadline.map(|at| self.seconds_until(at)),
            status: known.status,
            waiting_for: starting.as_ref().map(|starting| starting.waiting_for.clone()),
            hint: starting.map(|starting| starting.hint),
            readiness: known.readiness.filter(|_| worker.bakes),
            channel: known.channel,
            leftovers: known.leftovers,
            output: Some(known.output),
        }
    }

    fn rollout(&self) -> Option<Rollout> {
        let rollout = self.status.rollout.as_ref()?;
        Some(Rollout {
            generation: rollout.generation.0,
            started: self.moment(rollout.started),
            moved: rollout.moved.0,
            slots: rollout.moved.1,
            rolling_back: rollout.rolling_back.as_ref().map(|reason| self.rollout_failure(reason)),
            waiting_for: self.waiting_for(rollout),
            waiting_seconds: seconds(rollout.waiting_for.1),
        })
    }

    /// With the pid that the machine does not know.
    fn waiting_for(&self, rollout: &RolloutStatus) -> String {
        let text = rollout.waiting_for.0.clone();
        let worker = rollout.waiting_for_end_of.and_then(|worker| self.facts.workers.get(&worker));
        worker.and_then(|known| known.pid).map_or(text.clone(), |pid| format!("{text} (pid {pid})"))
    }

    fn last_failed_rollout(&self) -> Option<FailedRollout> {
        let (generation, reason) = self.status.last_failure.as_ref()?;
        let kept = self.status.pools.iter().flat_map(|(name, pool)| {
            let kept = pool.slots.iter().filter(|(_, slot)| slot.kept);
            kept.map(|(index, _)| Place {
                pool: Some(name.to_string()),
                slot: Some(index.0),
                generation: Some(generation.0),
            })
        });
        Some(FailedRollout {
            generation: generation.0,
            failure: self.rollout_failure(reason),
            kept: kept.collect(),
        })
    }

    fn rollout_failure(&self, reason: &crate::supervisor::RolloutFailure) -> Failure {
        let (output, hint) = match reason {
            crate::supervisor::RolloutFailure::Worker { worker, .. } => {
                (self.output(*worker), self.hint(*worker))
            }
            _ => (Vec::new(), None),
        };
        Failure { hint, ..Failure::of_rollout(reason, output) }
    }

    fn hint(&self, worker: WorkerId) -> Option<String> {
        self.facts.workers.get(&worker).and_then(|known| known.hint.clone())
    }

    fn output(&self, worker: WorkerId) -> Vec<String> {
        self.facts.workers.get(&worker).map(|known| known.output.clone()).unwrap_or_default()
    }

    fn moment(&self, at: Monotonic) -> Moment {
        let ago = self.facts.now.since(at);
        let wall = self.facts.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        Moment { time: stamp::rfc3339(wall), seconds_ago: seconds(ago) }
    }

    fn seconds_until(&self, at: Monotonic) -> f64 {
        seconds(at.since(self.facts.now))
    }
}

/// Seconds, to the millisecond: more would suggest a precision that nobody has.
fn seconds(duration: Duration) -> f64 {
    let millis = u32::try_from(duration.as_millis());
    millis.map_or_else(|_| duration.as_secs_f64().round(), |millis| f64::from(millis) / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::id;
    use crate::supervisor::{ExitStatus, Phase, RolloutFailure, WorkerFailure, WorkerState};

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_origin(Duration::from_secs(seconds))
    }

    fn facts() -> Facts {
        let known = |pid, line: &str| WorkerFacts {
            pid: Some(pid),
            status: Some("serving".into()),
            channel: None,
            leftovers: 0,
            output: vec![line.into()],
            ..WorkerFacts::default()
        };
        Facts {
            started: at(30),
            now: at(100),
            wall: UNIX_EPOCH + Duration::from_secs(1_767_225_600),
            name: "myapp".into(),
            pid: 10,
            ready: true,
            config: None,
            last_event: 17,
            workers: [(WorkerId(1), known(11, "hello")), (WorkerId(2), known(12, "boom"))].into(),
            stored: [(
                (PoolName::new("web"), SlotIndex(0)),
                StoredFacts { names: vec!["sessions".into(); 2], refused: 3 },
            )]
            .into(),
            listeners: Vec::new(),
            generations: Vec::new(),
            readings: Vec::new(),
            counters: Counters::default(),
        }
    }

    fn status() -> Status {
        let died = WorkerFailure::EndedBeforeReady { status: ExitStatus::Code(3) };
        let worker = WorkerStatus {
            worker: WorkerId(1),
            generation: id::Generation(1),
            state: WorkerState::Ready,
            worn: false,
            bakes: false,
            late: false,
            started: at(40),
            ready: Some(at(50)),
            asked: None,
            deadline: Some(at(130)),
        };
        let slot = SlotStatus {
            workers: vec![worker],
            restarts: 1,
            restart_at: Some(at(102)),
            crash_loop: false,
            last_failure: Some((at(90), WorkerId(2), died.clone())),
            kept: true,
        };
        let pool = PoolStatus {
            generation: Some(id::Generation(1)),
            wanted: 1,
            scaled: false,
            ready: 1,
            draining: 0,
            lost_listeners: BTreeSet::new(),
            slots: [(SlotIndex(0), slot)].into(),
        };
        let place = crate::supervisor::Place {
            pool: PoolName::new("web"),
            slot: SlotIndex(0),
            generation: id::Generation(2),
        };
        let reason = RolloutFailure::Worker { worker: WorkerId(2), place, failure: died };
        Status {
            phase: Phase::Running,
            pools: [(PoolName::new("web"), pool)].into(),
            rollout: Some(RolloutStatus {
                generation: id::Generation(2),
                started: at(80),
                rolling_back: Some(reason.clone()),
                moved: (0, 1),
                waiting_for: ("slot 0".into(), Duration::from_millis(1500)),
                waiting_for_end_of: Some(WorkerId(1)),
            }),
            last_failure: Some((id::Generation(2), reason)),
        }
    }

    #[test]
    fn moments_are_dates_and_spans_and_output_is_where_it_belongs() {
        let document = StatusDocument::new(&status(), facts());
        assert_eq!(document.daemon.started.time, "2025-12-31T23:58:50.000000Z");
        let slot = &document.pools[0].slots[0];
        assert_eq!(slot.restart_in_seconds, Some(2.0));
        assert_eq!((slot.stored_fds.join(" "), slot.stored_fds_refused), ("sessions sessions".to_owned(), 3));
        let worker = &slot.workers[0];
        assert_eq!((worker.pid, worker.deadline_in_seconds), (Some(11), Some(30.0)));
        assert_eq!(worker.ready.as_ref().unwrap().seconds_ago, 50.0);
        assert_eq!(worker.output.as_deref(), Some(["hello".to_owned()].as_slice()));
        let last = slot.last_failure.as_ref().unwrap();
        assert_eq!((last.failure.kind.as_str(), last.failure.exit_code), ("ended_before_ready", Some(3)));
        assert_eq!(last.failure.output.as_deref(), Some(["boom".to_owned()].as_slice()));
        let failed = document.last_failed_rollout.as_ref().unwrap();
        assert_eq!(failed.kept.len(), 1);
        assert_eq!(failed.failure.worker, Some(2));
        let rollout = document.rollout.as_ref().unwrap();
        assert_eq!((rollout.waiting_for.as_str(), rollout.waiting_seconds), ("slot 0 (pid 11)", 1.5));
    }

    #[test]
    fn a_client_that_may_only_look_sees_no_output() {
        let full = StatusDocument::new(&status(), facts());
        let text = serde_json::to_string(&full).unwrap();
        assert!(text.contains("boom") && text.contains("hello"));
        let text = serde_json::to_string(&full.without_output()).unwrap();
        assert!(!text.contains("boom") && !text.contains("hello") && !text.contains("\"output\""));
        assert!(text.contains("serving"));
    }

    #[test]
    fn the_document_reads_back_as_it_was_written() {
        let document = StatusDocument::new(&status(), facts());
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<StatusDocument>(&text).unwrap(), document);
    }
}

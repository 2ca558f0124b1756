//! What the shell knows, for the status document.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::control::document::{Channel, Counters, Generation, Listener, Program, Reading};
use crate::control::{Facts, StartingFacts, StatusDocument, StoredFacts, WorkerFacts};
use crate::daemon::Daemon;
use crate::daemon::core::projection;
use crate::daemon::reload::config_source::Source;
use crate::daemon::reload::generation::{PoolRecord, Record};
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::listeners::{Drift, Origin};
use crate::notify::printable_line;
use crate::os::clock;
use crate::os::process::{count_orphans, group_sizes};
use crate::os::socket::Kind;
use crate::supervisor::{Status, WorkerState};

impl Daemon {
    /// Everything, output of workers included.
    pub(in crate::daemon) fn document(&self) -> StatusDocument {
        let status = self.machine.status();
        let facts = Facts {
            started: self.started,
            now: self.now(),
            wall: clock::wall_time(),
            name: self.surroundings.name.clone(),
            pid: std::process::id(),
            ready: self.manager.is_ready(),
            config: self.config_shown(),
            last_event: self.chronicle.last(),
            workers: self.worker_facts(&status),
            stored: self.stored_facts(),
            listeners: self.listener_facts(),
            generations: self.generation_facts(),
            readings: self.reading_facts(),
            counters: self.counters(),
        };
        StatusDocument::new(&status, facts)
    }

    fn config_shown(&self) -> Option<String> {
        match &self.source {
            Source::File(path) => Some(path.display().to_string()),
            Source::Flags { .. } | Source::Text { .. } | Source::Code { .. } => None,
        }
    }

    fn worker_facts(&self, status: &Status) -> BTreeMap<WorkerId, WorkerFacts> {
        let mut facts = BTreeMap::new();
        let slots = status.pools.values().flat_map(|pool| pool.slots.values());
        let workers = slots.flat_map(|slot| &slot.workers);
        let ending = workers.clone().filter(|worker| worker.state == WorkerState::Ending);
        let ending: BTreeSet<WorkerId> = ending.map(|worker| worker.worker).collect();
        let late: BTreeSet<WorkerId> =
            workers.filter(|worker| worker.late).map(|worker| worker.worker).collect();
        // One look at all processes, and only where there is something to look for.
        let sizes = if ending.is_empty() { BTreeMap::new() } else { group_sizes().unwrap_or_default() };
        for (pool, slots) in &status.pools {
            for slot in slots.slots.keys() {
                let Some(words) = self.table.last_words_in(pool, *slot) else { continue };
                let Some(worker) = words.worker else { continue };
                facts.insert(worker, WorkerFacts { output: words.lines.clone(), ..WorkerFacts::default() });
            }
        }
        for (worker, entry) in self.table.iter() {
            let pid = entry.process.pid();
            // The leader, which has ended, is one of them.
            let of_group = sizes.get(&pid).filter(|_| ending.contains(&worker));
            let leftovers = of_group.map_or(0, |size| size.saturating_sub(1));
            let status = (!entry.status_text.is_empty()).then(|| entry.status_text.clone());
            let output = entry.tail.borrow().lines().map(str::to_owned).collect();
            let channel = entry.link.as_ref().and_then(|link| channel(link.facts()));
            let readiness = entry.readiness();
            let starting = late
                .contains(&worker)
                .then(|| StartingFacts { waiting_for: readiness.missing(), hint: readiness.way_out() });
            let known = WorkerFacts {
                pid: Some(pid),
                status,
                channel,
                leftovers,
                output,
                hint: None,
                starting,
                readiness: readiness.by_bake_time(),
            };
            facts.insert(worker, known);
        }
        for (pool, slots) in &status.pools {
            for (slot, of_slot) in &slots.slots {
                let Some((_, worker, failure)) = &of_slot.last_failure else { continue };
                let words =
                    self.table.last_words_in(pool, *slot).filter(|words| words.worker == Some(*worker));
                let hint = words.and_then(|words| projection::hint(failure, words));
                facts.entry(*worker).or_default().hint = hint;
            }
        }
        if let Some((generation, reason)) = &status.last_failure
            && let Some((worker, ..)) = projection::culprit(reason)
        {
            let (lines, hint) = self.last_words_of_failed(*generation);
            let known = facts.entry(worker).or_default();
            (known.output, known.hint) = (lines, hint);
        }
        facts
    }

    fn stored_facts(&self) -> BTreeMap<(PoolName, SlotIndex), StoredFacts> {
        let facts = self.stored.names();
        facts.map(|(spot, names, refused)| (spot.clone(), StoredFacts { names, refused })).collect()
    }

    fn listener_facts(&self) -> Vec<Listener> {
        let Ok(record) = self.committed_record() else { return Vec::new() };
        let mut listeners = Vec::new();
        for (name, held) in &record.listeners {
            let pools = record.config.pools.iter().filter(|(_, pool)| pool.listeners.contains(name));
            let pools: Vec<String> = pools.map(|(pool, _)| pool.to_string()).collect();
            for (facts, queue) in held.look() {
                listeners.push(Listener {
                    name: name.to_string(),
                    address: held.shown(),
                    kind: kind(facts.kind).to_owned(),
                    origin: match held.origin() {
                        Origin::Inherited => "inherited".to_owned(),
                        Origin::Bound => "bound".to_owned(),
                    },
                    queue: queue.map(|queue| queue.waiting),
                    queue_max: queue.map(|queue| queue.limit),
                    drift: self.drifts.get(name).into_iter().flatten().map(ToString::to_string).collect(),
                    harmed: self.drifts.get(name).into_iter().flatten().any(Drift::harms),
                    inode: Some(facts.inode),
                    pools: pools.clone(),
                });
            }
        }
        listeners
    }

    fn generation_facts(&self) -> Vec<Generation> {
        let programs = |record: &Record| {
            let of_pool = |(pool, record): (&PoolName, &Rc<PoolRecord>)| {
                let changed = record.programs.has_changed();
                let paths = record.programs.programs().into_iter();
                paths
                    .map(|path| Program { pool: pool.to_string(), path: path.display().to_string(), changed })
                    .collect::<Vec<_>>()
            };
            // The others have theirs from an earlier generation.
            record.pools.iter().filter(|(pool, _)| record.moving.contains(*pool)).flat_map(of_pool).collect()
        };
        self.generations
            .iter()
            .map(|(generation, record)| Generation {
                generation: generation.0,
                config: self.config_shown(),
                programs: programs(record),
            })
            .collect()
    }

    fn reading_facts(&self) -> Vec<Reading> {
        let looks = self.readings.look(self.now()).into_iter();
        let fact = |look: crate::daemon::reload::blocking_jobs::Look| Reading {
            what: look.what,
            seconds: look.lasts.as_secs_f64(),
            given_up: look.given_up,
        };
        looks.map(fact).collect()
    }

    fn counters(&self) -> Counters {
        let (log_lines_dropped, lines_lost) = self.writer.losses();
        let (closers_stuck, fds_to_close) = self.closer.counts();
        Counters {
            notifications_dropped: self.notifications_dropped,
            log_lines_dropped,
            lines_lost: lines_lost + self.unwritten.lost(),
            stray_outputs: u32::try_from(self.unwritten.strays()).unwrap_or(u32::MAX),
            manager_texts_lost: self.manager.lost(),
            seconds_lost: self.time.lost().1.as_secs(),
            orphans: self.orphans(),
            control_refused: self.traffic.refused(),
            messages_refused: self.messages_refused,
            closers_stuck,
            fds_to_close,
        }
    }

    /// Children that are neither workers nor those of the program that we may be a part of.
    fn orphans(&self) -> u32 {
        if !self.is_subreaper {
            return 0;
        }
        let count = count_orphans(&|pid| self.table.has_pid(pid) || self.closer.has_pid(pid));
        count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// A channel on which the worker speaks.
fn channel(facts: crate::daemon::channel::Facts) -> Option<Channel> {
    let client = facts.client?;
    let client = (!client.is_empty()).then(|| printable_line(client.as_bytes()));
    let waiting = u64::try_from(facts.waiting).unwrap_or(u64::MAX);
    Some(Channel { client, waiting, refused: facts.refused })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stream => "stream",
        Kind::Datagram => "datagram",
        Kind::SeqPacket => "seqpacket",
        Kind::Other => "other",
    }
}

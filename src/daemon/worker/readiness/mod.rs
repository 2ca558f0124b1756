//! When a worker is ready that does not say so itself, and what is missing while it is not (docs/workers.md, decision 0023).
//!
//! - `watcher`: the thread that looks whether workers wait on their listeners
//! - `missing`: what a worker that starts has not done yet, and the ways out

mod missing;
mod watcher;

pub(in crate::daemon) use missing::{Readiness, Stranger};
pub(in crate::daemon) use watcher::{Sighted, Watcher};

use std::os::fd::AsFd;

use crate::config::model::{Pool, Ready};
use crate::daemon::Daemon;
use crate::daemon::reload::generation::Record;
use crate::daemon::worker::monitor::Stray;
use crate::daemon::worker::start::FIRST_FD;
use crate::daemon::worker::stored::Given;
use crate::id::WorkerId;
use crate::notify::printable_line;
use crate::os::process::process_name;
use crate::os::waiting::{Awaited, Sight, Target};
use crate::supervisor::{Event, Note, ReadyBy};

impl Readiness {
    /// Of a worker that is about to be started.
    pub(in crate::daemon) fn of(record: &Record, pool: &Pool) -> Self {
        let sockets = record.listeners_of(pool).into_iter().flat_map(|(name, held)| {
            let shown = held.shown();
            held.sockets().map(move |_| (name, shown.clone()))
        });
        let label = |((name, shown), fd)| format!("{name} (fd {fd}, {shown})");
        Self::new(pool.policy.ready, sockets.zip(FIRST_FD..).map(label).collect())
    }
}

/// What is to be looked at until the worker is ready; `None` where nothing is. A socket that cannot be asked what it is will not be
/// seen to be waited on.
pub(in crate::daemon) fn target(leader: u32, record: &Record, pool: &Pool, given: &Given) -> Option<Target> {
    if pool.policy.ready != Ready::Accept {
        return None;
    }
    let held = record.listeners_of(pool);
    let sockets = held.iter().flat_map(|(_, held)| held.sockets());
    let sockets = sockets.filter_map(|socket| Awaited::of(socket).ok()).collect();
    let inherited = given.iter().filter_map(|(_, fd)| Awaited::of(fd.as_fd()).ok()).map(|fd| fd.inode);
    Some(Target { leader, sockets, inherited: inherited.collect() })
}

impl Daemon {
    /// The worker's program runs: from now on it is looked whether it waits on its listeners.
    pub(in crate::daemon) fn watch_readiness(&mut self, worker: WorkerId) {
        let now = self.now();
        if let Some(target) = self.table.get_mut(worker).and_then(|entry| entry.target.take()) {
            self.watcher.watch(now, worker, target);
        }
    }

    /// It will not write a newline there any more.
    pub(in crate::daemon) fn note_ready_fd_closed(&mut self, worker: WorkerId) {
        if let Some(entry) = self.table.get_mut(worker) {
            entry.readiness.ready_fd_closed = true;
        }
    }

    /// Somebody wrote to its notify socket who may not speak for it: while it starts, that is worth knowing. What the worker itself
    /// wrote and is not understood is dropped, too, but it did write.
    pub(in crate::daemon) fn note_stranger(&mut self, worker: WorkerId, stray: Option<Stray>, why: String) {
        let Some(entry) = self.table.get_mut(worker) else { return };
        match stray {
            None => entry.readiness.has_notified = true,
            Some(Stray { pid, uid, says_ready }) if entry.readiness.wants(says_ready) => {
                let name = u32::try_from(pid).ok().and_then(process_name);
                let name = name.map(|name| printable_line(name.as_bytes()));
                entry.readiness.stranger = Some(Stranger { pid, uid, name, says_ready, why });
            }
            Some(_) => {}
        }
    }

    pub(in crate::daemon) fn take_sight(&mut self, (worker, sight): Sighted) {
        let is_complete = sight.is_complete();
        let Some(entry) = self.table.get_mut(worker) else { return };
        let Sight { waited_on, obstacle } = sight;
        for (socket, waited_on) in entry.readiness.sockets.iter_mut().zip(waited_on) {
            socket.waited_on = waited_on;
        }
        if is_complete {
            // What could not be seen does not matter any more.
            entry.readiness.obstacle = None;
            return self.inbox.push_back(Event::Ready { worker, by: ReadyBy::Accept });
        }
        if let Some(why) = obstacle
            && entry.readiness.obstacle.is_none()
        {
            let place = entry.place.clone();
            entry.readiness.obstacle = Some(why.clone());
            if let Some(held_back) = self.limits.pass("readiness unknown", self.now()) {
                let (pool, slot) = (&place.pool, place.slot.0);
                tracing::warn!(%pool, slot, worker = worker.0, reason = why, held_back, "readiness cannot be seen, bake_time decides");
            }
            self.inbox.push_back(Event::ReadinessUnknown { worker });
        }
    }

    /// Whoever is ready, or asked to end, is not looked at any more.
    pub(in crate::daemon) fn stop_watching(&mut self, note: &Note) {
        if let Note::WorkerReady { worker, .. } | Note::Retiring { worker, .. } = note {
            self.watcher.forget(*worker);
        }
    }
}

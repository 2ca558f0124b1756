//! What workers say about fds that are to outlive them, and which of these a start gets.

use std::fmt;

use super::store::{FDS_OF_SLOT, Spot};
use crate::config::model::Pool;
use crate::daemon::Daemon;
use crate::daemon::fds::quota::Fd;
use crate::daemon::worker::monitor::Brought;
use crate::daemon::worker::start::{FIRST_FD, ready_fd};
use crate::id::WorkerId;
use crate::supervisor::Place;

/// The name of fds that come without a valid one (`sd_notify(3)`).
const NAMELESS: &str = "stored";

/// The fds that a start gets, with their names, oldest first.
pub(in crate::daemon) type Given = Vec<(String, Fd)>;

/// Why fds were not kept, or are not given; for the log.
enum Why<'a> {
    NoFds,
    Lost,
    ListenersName(&'a str),
    TooMany,
    ReadyFd(i32),
    NoRoom,
    Unwatched,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFds => f.write_str("FDSTORE=1 came without fds"),
            Self::Lost => f.write_str(
                "fds were not stored: files of FUSE, NFS and other file systems that may not answer are not taken, nor is \
                 anything at our limit of open files",
            ),
            Self::ListenersName(name) => {
                write!(f, "fds were not stored: {name} is the name of a listener of this pool")
            }
            Self::TooMany => write!(f, "fds were not stored: {FDS_OF_SLOT} are kept for this slot already"),
            Self::ReadyFd(number) => write!(
                f,
                "fds were not stored: ready_fd = {number} leaves no number for more; hint: choose a higher one"
            ),
            Self::NoRoom => f.write_str(
                "fds were not stored: those of all workers are too many for our limit of open files",
            ),
            Self::Unwatched => {
                f.write_str("fds were not stored: they cannot be watched for a hang-up; hint: FDPOLL=0")
            }
        }
    }
}

impl Daemon {
    /// `FDSTORE=1`
    pub(in crate::daemon) fn store_fds(
        &mut self,
        worker: WorkerId,
        name: Option<String>,
        poll: bool,
        brought: Brought,
    ) {
        let Some(entry) = self.table.get(worker) else { return };
        let place = entry.place.clone();
        let spot = (place.pool.clone(), place.slot);
        let name = name.unwrap_or_else(|| NAMELESS.to_owned());
        let Some(rules) = self.rules(&place) else { return };
        if brought.fds.is_empty() && brought.closed == 0 && !brought.lost {
            return self.refuse_fds(worker, &spot, 0, &Why::NoFds);
        }
        if brought.lost {
            self.refuse_fds(worker, &spot, 1, &Why::Lost);
        }
        if brought.closed > 0 {
            self.refuse_fds(worker, &spot, brought.closed, &Why::NoRoom);
        }
        if rules.listeners.contains(&name) {
            return self.refuse_fds(worker, &spot, brought.fds.len(), &Why::ListenersName(&name));
        }
        let outcome = self.stored.keep(&spot, &name, brought.fds, rules.places, poll);
        if outcome.too_many > 0 {
            let why =
                rules.ready_fd.filter(|_| rules.places < FDS_OF_SLOT).map_or(Why::TooMany, Why::ReadyFd);
            self.refuse_fds(worker, &spot, outcome.too_many, &why);
        }
        if outcome.unwatched > 0 {
            self.refuse_fds(worker, &spot, outcome.unwatched, &Why::Unwatched);
        }
        self.show_fds(&spot, "stored", outcome.kept, Some(&name));
    }

    /// `FDSTOREREMOVE=1`
    pub(in crate::daemon) fn remove_fds(&mut self, worker: WorkerId, name: &str) {
        let Some(entry) = self.table.get(worker) else { return };
        let spot = (entry.place.pool.clone(), entry.place.slot);
        let removed = self.stored.remove(&spot, name);
        self.show_fds(&spot, "removed", removed, Some(name));
    }

    /// `BARRIER=1`: its fd is closed when all that was said before it is dealt with.
    pub(in crate::daemon) fn hold_barrier(&mut self, worker: WorkerId, brought: Brought) {
        match brought.fds.len() + brought.closed {
            1 => self.barriers.extend(brought.fds),
            _ => self.warn_once(worker, "BARRIER=1 came without exactly one fd", None),
        }
    }

    /// The other side of some stored fds is gone.
    pub(in crate::daemon) fn drop_hung_up(&mut self, numbers: &[u64]) {
        for (spot, count) in self.stored.drop_hung_up(numbers) {
            self.show_fds(&spot, "closed: hung up", count, None);
        }
    }

    /// Slots may be gone: what was kept for those that are is closed.
    pub(in crate::daemon) fn retain_stored(&mut self) {
        if self.stored.is_empty() {
            return;
        }
        let machine = &self.machine;
        for (spot, count) in self.stored.retain(|(pool, slot)| machine.has_slot(pool, *slot)) {
            self.show_fds(&spot, "closed: the slot is gone", count, None);
        }
    }

    /// What a start in this place gets. A listener of its configuration wins over a stored fd of the same name, which is kept for
    /// a start that has no such listener: there may be a way back.
    pub(in crate::daemon) fn given_to(&mut self, place: &Place) -> Given {
        let spot = (place.pool.clone(), place.slot);
        let Some(rules) = self.rules(place) else { return Given::new() };
        let stored = self.stored.of(&spot).map(|(name, fd)| (name.to_owned(), fd.clone()));
        let (hidden, mut given): (Given, Given) =
            stored.partition(|(name, _)| rules.listeners.contains(name));
        let numberless = given.len().saturating_sub(rules.places);
        given.truncate(rules.places);
        let what = [
            (hidden.len(), "there is a listener of their name"),
            (numberless, "ready_fd leaves no number for them"),
        ];
        for (count, what) in what.into_iter().filter(|(count, _)| *count > 0) {
            if let Some(held_back) = self.limits.pass("stored fds not given", self.now()) {
                let generation = place.generation.0;
                tracing::warn!(pool = %place.pool, slot = place.slot.0, generation, fds = count, what, held_back, "stored fds not given");
            }
        }
        given
    }

    fn rules(&self, place: &Place) -> Option<Rules> {
        let record = self.generations.get(&place.generation)?;
        let pool = &record.pools.get(&place.pool)?.pool;
        let listeners = record.listeners_of(pool);
        let sockets = listeners.iter().map(|(_, held)| held.sockets().count()).sum();
        let names = listeners.iter().map(|(name, _)| name.to_string()).collect();
        Some(Rules { listeners: names, ready_fd: ready_fd(pool), places: places(pool, sockets) })
    }

    fn refuse_fds(&mut self, worker: WorkerId, spot: &Spot, count: usize, why: &Why<'_>) {
        if count > 0 {
            self.stored.count_refused(spot, count);
        }
        let now = self.now();
        let Some(entry) = self.table.get_mut(worker) else { return };
        let what = why.to_string();
        if !entry.warned.contains(&what)
            && let Some(held_back) = self.limits.pass("stored fds", now)
        {
            let (pool, slot) = spot;
            tracing::warn!(%pool, slot = slot.0, worker = worker.0, what, fds = count, held_back, "worker notification");
            entry.warned.insert(what);
        }
    }

    fn show_fds(&mut self, (pool, slot): &Spot, what: &str, count: usize, name: Option<&str>) {
        if count > 0
            && let Some(held_back) = self.limits.pass("fds of workers", self.now())
        {
            tracing::debug!(%pool, slot = slot.0, what, fds = count, name, held_back, "stored fds");
        }
    }
}

/// What holds for the fds of a slot while its worker is of a certain generation.
struct Rules {
    /// Names that are taken.
    listeners: Vec<String>,
    ready_fd: Option<i32>,
    /// How many can be given to a worker.
    places: usize,
}

/// `LISTEN_FDS` counts from 3 without a gap, so what is stored has to end before the ready fd.
fn places(pool: &Pool, sockets: usize) -> usize {
    let first = usize::try_from(FIRST_FD).unwrap_or(0) + sockets;
    let until = ready_fd(pool).and_then(|number| usize::try_from(number).ok());
    until.map_or(FDS_OF_SLOT, |until| until.saturating_sub(first).min(FDS_OF_SLOT))
}

//! Who is who: the shell's side of each living worker, by its `WorkerId`, and the last words of the dead.
//!
//! The machine knows workers by number only; here a number meets a process, a notify socket and a tail of
//! output. Everything an entry owns goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::oneshot;

use crate::daemon::channel::SharedLink;
use crate::daemon::worker::address_hint::OwnAddresses;
use crate::daemon::worker::monitor::GroupOrder;
use crate::daemon::worker::output::SharedTail;
use crate::daemon::worker::process::Process;
use crate::daemon::worker::readiness::Readiness;
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::os::open_directory::OpenDirectory;
use crate::os::waiting::Target;
use crate::supervisor::Place;

/// The shell's side of one worker.
pub(in crate::daemon) struct Entry {
    pub(in crate::daemon) place: Place,
    pub(in crate::daemon) process: Rc<Process>,
    /// Tells the attendant how to end what is left of the group; taken when it is told.
    pub(in crate::daemon) end_group: Option<oneshot::Sender<GroupOrder>>,
    /// Its main process has ended and stays unreaped until the rest of the group has ended, too.
    pub(in crate::daemon) lingers: bool,
    pub(in crate::daemon) tail: SharedTail,
    /// What it last said with `STATUS=`.
    pub(in crate::daemon) status_text: String,
    /// How it becomes ready, and what of that is done.
    pub(in crate::daemon) readiness: Readiness,
    /// What is looked at until it is ready, from the moment when its program runs.
    pub(in crate::daemon) target: Option<Target>,
    /// What was logged of its notifications already.
    pub(in crate::daemon) warned: BTreeSet<String>,
    /// Things in its notify socket that were dropped.
    pub(in crate::daemon) dropped: u64,
    /// Its notify socket's file, removed with the entry.
    pub(in crate::daemon) notify_path: PathBuf,
    /// Its channel, where its pool has one.
    pub(in crate::daemon) link: Option<SharedLink>,
    pub(in crate::daemon) addresses: OwnAddresses,
}

impl Entry {
    pub(in crate::daemon) fn new(
        place: Place,
        process: Rc<Process>,
        end_group: oneshot::Sender<GroupOrder>,
        tail: SharedTail,
        readiness: Readiness,
        notify_path: PathBuf,
        link: Option<SharedLink>,
    ) -> Self {
        Self {
            place,
            process,
            end_group: Some(end_group),
            lingers: false,
            tail,
            status_text: String::new(),
            readiness,
            target: None,
            warned: BTreeSet::new(),
            dropped: 0,
            notify_path,
            link,
            addresses: OwnAddresses::default(),
        }
    }
}

impl Entry {
    /// How it becomes ready, and what of that is done by now.
    pub(in crate::daemon) fn readiness(&self) -> Readiness {
        let has_said_hello = self.link.as_ref().is_some_and(|link| link.has_spoken());
        Readiness { has_said_hello, ..self.readiness.clone() }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // It lies in a directory of our own, or in one that somebody else has put in its place; one that is gone already
        // is no loss.
        if let Ok((directory, name)) = OpenDirectory::of(&self.notify_path) {
            let _ = directory.remove(name);
        }
    }
}

/// The last words of a worker that is gone.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct LastWords {
    pub(in crate::daemon) worker: Option<WorkerId>,
    pub(in crate::daemon) lines: Vec<String>,
    /// How it was to become ready, and what of that it had done.
    pub(in crate::daemon) readiness: Readiness,
    pub(in crate::daemon) addresses: OwnAddresses,
}

/// See the module.
#[derive(Default)]
pub(in crate::daemon) struct Table {
    living: BTreeMap<WorkerId, Entry>,
    /// Their main processes. A number is free again once its process is reaped, which may be before its entry is
    /// removed: then it may be the next worker's already.
    pids: BTreeMap<u32, WorkerId>,
    /// Of the worker that ended last in each slot.
    last_words: BTreeMap<(PoolName, SlotIndex), LastWords>,
}

impl Table {
    pub(in crate::daemon) fn insert(&mut self, worker: WorkerId, entry: Entry) {
        self.pids.insert(entry.process.pid(), worker);
        self.living.insert(worker, entry);
    }

    pub(in crate::daemon) fn get(&self, worker: WorkerId) -> Option<&Entry> {
        self.living.get(&worker)
    }

    pub(in crate::daemon) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Entry> {
        self.living.get_mut(&worker)
    }

    pub(in crate::daemon) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Entry)> {
        self.living.iter().map(|(worker, entry)| (*worker, entry))
    }

    /// Keeps the last words of a worker whose main process has ended.
    pub(in crate::daemon) fn keep_last_words(&mut self, worker: WorkerId) {
        let Some(entry) = self.living.get(&worker) else { return };
        let key = (entry.place.pool.clone(), entry.place.slot);
        self.last_words.insert(key, words_of(worker, entry));
    }

    /// Nothing is left of a worker.
    pub(in crate::daemon) fn remove(&mut self, worker: WorkerId) {
        if let Some(entry) = self.living.remove(&worker)
            && let Some(of) = self.pids.get(&entry.process.pid())
            && *of == worker
        {
            self.pids.remove(&entry.process.pid());
        }
    }

    /// The last words of a worker, living or the last one that ended in its slot.
    pub(in crate::daemon) fn words(&self, worker: WorkerId, place: &Place) -> LastWords {
        if let Some(entry) = self.living.get(&worker) {
            return words_of(worker, entry);
        }
        let kept = self.last_words_in(&place.pool, place.slot);
        kept.filter(|words| words.worker == Some(worker)).cloned().unwrap_or_default()
    }

    /// The last words of the worker that ended last in a slot.
    pub(in crate::daemon) fn last_words_in(&self, pool: &PoolName, slot: SlotIndex) -> Option<&LastWords> {
        self.last_words.get(&(pool.clone(), slot))
    }

    /// Forgets the slots that are gone.
    pub(in crate::daemon) fn retain_slots(&mut self, is_there: impl Fn(&PoolName, SlotIndex) -> bool) {
        self.last_words.retain(|(pool, slot), _| is_there(pool, *slot));
    }

    /// Is this pid the main process of a worker?
    pub(in crate::daemon) fn has_pid(&self, pid: u32) -> bool {
        self.pids.contains_key(&pid)
    }

    /// Is this pid a worker that has ended and stays unreaped for the sake of its group?
    pub(in crate::daemon) fn lingers(&self, pid: u32) -> bool {
        self.pids.get(&pid).and_then(|worker| self.living.get(worker)).is_some_and(|entry| entry.lingers)
    }
}

fn words_of(worker: WorkerId, entry: &Entry) -> LastWords {
    LastWords {
        worker: Some(worker),
        lines: entry.tail.borrow().lines().map(str::to_owned).collect(),
        readiness: entry.readiness(),
        addresses: entry.addresses.clone(),
    }
}

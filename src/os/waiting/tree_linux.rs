//! Who belongs to a process that was started: its session, and everybody that descends from one of those.
//!
//! The session finds those whose parents are gone, the children those that made a session of their own. One that did
//! both is not found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

use nix::unistd::{Pid, getsid};

/// Processes of one tree that are looked at.
const PROCESSES_MAX: usize = 512;
/// Threads of one process that are looked at.
pub(super) const THREADS_MAX: usize = 512;

/// The members of each session, found in one pass.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<u32, Vec<u32>>);

impl Sessions {
    /// Nothing where `/proc` cannot be read.
    pub(super) fn read() -> Self {
        let mut sessions: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pid in numbers("/proc", usize::MAX) {
            let Ok(number) = i32::try_from(pid) else { continue };
            if let Ok(session) = getsid(Some(Pid::from_raw(number)))
                && let Ok(session) = u32::try_from(session.as_raw())
            {
                sessions.entry(session).or_default().push(pid);
            }
        }
        Self(sessions)
    }

    /// The leader first.
    pub(super) fn tree(&self, leader: u32) -> Vec<u32> {
        let mut found = BTreeSet::from([leader]);
        let mut tree = vec![leader];
        let mut waiting = VecDeque::from([leader]);
        let session = self.0.get(&leader).into_iter().flatten();
        let mut add = |pid: u32, tree: &mut Vec<u32>, waiting: &mut VecDeque<u32>| {
            if tree.len() < PROCESSES_MAX && found.insert(pid) {
                tree.push(pid);
                waiting.push_back(pid);
            }
        };
        session.for_each(|pid| add(*pid, &mut tree, &mut waiting));
        while let Some(parent) = waiting.pop_front() {
            for child in children(parent) {
                add(child, &mut tree, &mut waiting);
            }
        }
        tree
    }
}

/// Needs `CONFIG_PROC_CHILDREN`; without it only the session is found.
fn children(parent: u32) -> Vec<u32> {
    let threads = numbers(&format!("/proc/{parent}/task"), THREADS_MAX);
    let of_thread = |thread: u32| fs::read_to_string(format!("/proc/{parent}/task/{thread}/children"));
    let texts = threads.into_iter().filter_map(|thread| of_thread(thread).ok());
    texts
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The entries of a directory that are numbers, at most so many.
pub(super) fn numbers(directory: &str, most: usize) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.take(most).collect()
}

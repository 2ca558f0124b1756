//! The members of a process group, on macOS: `libproc` lists them, a kqueue says when one ends.
//!
//! A process that is on its way out counts as ended here. The kernel posts `NOTE_EXIT` in the middle of an
//! exit, while the process can still be found (`proc_exit` in bsd/kern/kern_exit.c): a watch that is begun
//! after that would wait for ever. It marks the process before, and that mark is what is looked at, so a
//! process without it has its `NOTE_EXIT` still to come.

use std::collections::BTreeMap;
use std::io;

use crate::os::macos::{self, ExitWatch};

/// The pids of the group's processes that are alive, in no order. A leader that has ended is none of them,
/// nor is any other process that is only waiting to be reaped.
///
/// # Errors
/// Any of `proc_listpids`.
pub fn group_members(leader: u32) -> io::Result<Vec<u32>> {
    let mut members = macos::pids_of_group(leader)?;
    members.retain(|pid| is_alive_in(*pid, leader));
    Ok(members)
}

/// Waits until no process of the group is alive, sending nothing. It returns at once where none is.
///
/// Meant for a group whose leader has ended and is kept unreaped. It wakes only when a member ends. Dropping
/// the future loses nothing. Within a tokio runtime with I/O.
///
/// # Errors
/// As [`group_members`], and `EMFILE`.
pub async fn group_empty(leader: u32) -> io::Result<()> {
    // One after the other: a group of a thousand must not need a thousand fds. Those that are left when one
    // ends may have started others meanwhile, so it is looked again.
    while let Some(member) = find_member(leader)? {
        member.ended().await?;
    }
    Ok(())
}

fn find_member(leader: u32) -> io::Result<Option<ExitWatch>> {
    for pid in macos::pids_of_group(leader)? {
        let Some(watch) = ExitWatch::begin(pid)? else { continue };
        // Asked with the watch begun: the number may have been given to another meanwhile, or its NOTE_EXIT
        // may have been posted before.
        if is_alive_in(pid, leader) {
            return Ok(Some(watch));
        }
    }
    Ok(None)
}

/// How many processes each process group has, in one pass.
///
/// # Errors
/// Any of `proc_listpids`.
pub fn group_sizes() -> io::Result<BTreeMap<u32, u32>> {
    let mut sizes = BTreeMap::new();
    for process in macos::all_pids()?.into_iter().filter_map(macos::process) {
        *sizes.entry(process.pbsi_pgid).or_insert(0) += 1;
    }
    Ok(sizes)
}

fn is_alive_in(pid: u32, leader: u32) -> bool {
    macos::process(pid).is_some_and(|process| process.pbsi_pgid == leader && !macos::is_ending(&process))
}

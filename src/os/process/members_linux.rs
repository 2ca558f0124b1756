//! The members of a process group, on Linux.
//!
//! The kernel has no list of a group's members to ask for, so all processes are looked at: one directory
//! and one `getpgid` for each, without opening anything. With 1,000 processes that takes 1.4 ms, twice as
//! long as the list of our own children (`/proc/self/task/*/children`) would; but it is right for members
//! that are not our children, too. docs/decisions/0004-process-groups.md has the measurements.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use nix::unistd::{Pid, getpgid};

use super::pidfd::{Pidfd, has_ended};
use crate::os::linux;

/// The pids of the group's processes that are alive, in no order. A leader that has ended is none of them,
/// nor is any other process that is only waiting to be reaped.
///
/// # Errors
/// Where `/proc` cannot be read, or `EMFILE`.
pub fn group_members(leader: u32) -> io::Result<Vec<u32>> {
    let mut members = Vec::new();
    for pid in candidates(leader)? {
        let Some(pidfd) = opened(pid)? else { continue };
        if !has_ended(pidfd.as_fd())? && in_group(pid, leader) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// Waits until no process of the group is alive, sending nothing. It returns at once where none is.
///
/// Meant for a group whose leader has ended and is kept unreaped. It wakes only when a member ends. Dropping
/// the future loses nothing. Within a tokio runtime with I/O.
///
/// # Errors
/// As [`group_members`].
pub async fn group_empty(leader: u32) -> io::Result<()> {
    // One after the other: a group of a thousand must not need a thousand fds. Those that are left when one
    // ends may have started others meanwhile, so it is looked again.
    while let Some(member) = find_member(leader)? {
        member.exited().await?;
    }
    Ok(())
}

fn find_member(leader: u32) -> io::Result<Option<Pidfd>> {
    for pid in candidates(leader)? {
        let Some(fd) = opened(pid)? else { continue };
        // Asked again with the pidfd open: the number may have been given to another meanwhile.
        if !has_ended(fd.as_fd())? && in_group(pid, leader) {
            return Pidfd::from_fd(fd, pid).map(Some);
        }
    }
    Ok(None)
}

/// How many processes each process group has, ended ones that wait to be reaped included; in one pass.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn group_sizes() -> io::Result<BTreeMap<u32, u32>> {
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(group) = getpgid(Some(Pid::from_raw(pid)))
            && let Ok(group) = u32::try_from(group.as_raw())
        {
            *sizes.entry(group).or_insert(0) += 1;
        }
    }
    Ok(sizes)
}

fn opened(pid: u32) -> io::Result<Option<std::os::fd::OwnedFd>> {
    match linux::pidfd_open(pid) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_group(pid: u32, leader: u32) -> bool {
    let (Ok(pid), Ok(leader)) = (i32::try_from(pid), i32::try_from(leader)) else { return false };
    getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(leader))
}

/// Every process that is in the group now, ended ones included.
fn candidates(leader: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if in_group(pid, leader) {
            found.push(pid);
        }
    }
    Ok(found)
}

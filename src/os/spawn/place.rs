//! Giving fds exact numbers, whatever numbers they have now.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::os::fd;

/// Gives each fd its number, open across exec; everything else from 3 up becomes close-on-exec, or is closed
/// where it is in the way.
///
/// Returns a duplicate of `keep` above all targets. Only for a process that is about to execute
/// something: fds of other owners may be closed.
///
/// # Errors
/// `EMFILE` or `EBADF` where a number is not below the soft limit of open files.
pub(super) fn place(fds: Vec<OwnedFd>, targets: &[RawFd], keep: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let above = targets.iter().copied().max().unwrap_or(2).max(2) + 1;
    let keep = fd::duplicate_from(keep, above)?;
    fd::close_on_exec_all()?;
    let mut at: BTreeMap<RawFd, usize> =
        fds.iter().enumerate().map(|(index, fd)| (fd.as_raw_fd(), index)).collect();
    let mut waiting: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    for (index, &target) in targets.iter().enumerate() {
        let Some(fd) = waiting.get_mut(index).and_then(Option::take) else { continue };
        at.remove(&fd.as_raw_fd());
        if let Some(&other) = at.get(&target)
            && let Some(in_the_way) = waiting.get_mut(other).and_then(Option::take)
        {
            let moved = fd::duplicate_from(&in_the_way, above)?;
            at.remove(&target);
            at.insert(moved.as_raw_fd(), other);
            waiting[other] = Some(moved);
        }
        fd::place(fd, target)?;
    }
    Ok(keep)
}

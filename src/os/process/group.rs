//! Process groups: what is left of a program when its main process has ended.
//!
//! Who is in a group is asked in the way of each system, in `members_linux.rs` and `members_macos.rs`.

use std::io;

use nix::errno::Errno;

use super::group_members;

/// Sends a signal to every process of the group whose leader is `leader`. False: there is none.
///
/// Only while the leader is alive or unreaped: else the number may have become another group's.
///
/// # Errors
/// `EPERM`: none of them may be signalled by us. `EINVAL`: no such signal, or not a group of ours to signal
/// (0 and 1 mean something else to `kill(2)`).
pub fn kill_group(leader: u32, signal: i32) -> io::Result<bool> {
    let group = libc::pid_t::try_from(leader).ok().filter(|group| *group > 1).ok_or(Errno::EINVAL)?;
    // SAFETY: two numbers.
    match Errno::result(unsafe { libc::kill(-group, signal) }) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        // macOS says so of a group in which only ended processes are left, where Linux says nothing
        // (`killpg1` in bsd/kern/kern_sig.c counts no zombie).
        Err(Errno::EPERM) if cfg!(target_os = "macos") && group_members(leader)?.is_empty() => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

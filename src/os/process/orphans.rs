//! Processes that become our children because their parents ended: all of them where we are PID 1, those
//! of our workers where we are a subreaper.

use std::io;
#[cfg(target_os = "linux")]
use std::path::Path;

use super::wait::waitid;

/// Makes this process the new parent of every descendant whose parent ends (Linux 3.4).
///
/// # Errors
/// Any of `prctl(2)`; `Unsupported` where that is always launchd.
#[cfg(target_os = "linux")]
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// See the other.
#[cfg(target_os = "macos")]
pub fn become_subreaper() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What a look at the ended children found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// How many were reaped.
    pub count: usize,
    /// The known one that stands before the rest: there may be more behind it.
    pub kept: Option<u32>,
}

/// Reaps ended children that are not `known`, up to the first one that is; that one is left as it is.
///
/// For each `SIGCHLD` where we are PID 1 or a subreaper. The program may have no other children than those
/// that are known: it would not find them any more. It costs one call for each child that is reaped, and one
/// more, however many children there are.
///
/// # Errors
/// Any of `waitid(2)`.
pub fn reap_orphans(known: &dyn Fn(u32) -> bool) -> io::Result<Reaped> {
    let mut count = 0;
    // The kernel shows ended children in a fixed order, the oldest first.
    loop {
        match first_ended()? {
            None => return Ok(Reaped { count, kept: None }),
            Some(pid) if known(pid) => return Ok(Reaped { count, kept: Some(pid) }),
            Some(pid) => count += usize::from(reap(pid)?),
        }
    }
}

/// Reaps every ended child that is not `known`, those behind a known one that stays too, and says how many.
/// It asks for a list of all children.
///
/// # Errors
/// Any of `waitid(2)`, and where `/proc` cannot be read; on macOS any of `proc_listpids`.
pub fn reap_hidden_orphans(known: &dyn Fn(u32) -> bool) -> io::Result<usize> {
    let mut reaped = 0;
    for pid in children()? {
        if !known(pid) {
            reaped += usize::from(reap(pid)?);
        }
    }
    Ok(reaped)
}

/// How many children we have that are not `known`: processes that outlived their parents, ended ones
/// included.
///
/// # Errors
/// Where `/proc` cannot be read; on macOS any of `proc_listpids`.
pub fn count_orphans(known: &dyn Fn(u32) -> bool) -> io::Result<usize> {
    Ok(children()?.into_iter().filter(|pid| !known(*pid)).count())
}

fn first_ended() -> io::Result<Option<u32>> {
    match waitid(libc::P_ALL, 0, libc::WNOWAIT) {
        // SAFETY: waitid has filled in the fields of a child's state.
        Ok(info) => Ok(info.and_then(|info| u32::try_from(unsafe { info.si_pid() }).ok())),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reaps one child if it has ended.
fn reap(pid: u32) -> io::Result<bool> {
    match waitid(libc::P_PID, pid, 0) {
        Ok(info) => Ok(info.is_some()),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Our children, ended ones included.
#[cfg(target_os = "macos")]
fn children() -> io::Result<Vec<u32>> {
    crate::os::macos::pids_of_parent(std::process::id())
}

/// Our children, ended ones included. The kernel's own list is exact as long as nobody reaps while it is
/// read; it needs `CONFIG_PROC_CHILDREN`, and without that every process is asked for its parent.
#[cfg(target_os = "linux")]
fn children() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        match std::fs::read_to_string(task?.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            Err(_) => return children_by_parent(),
        }
    }
    Ok(found)
}

#[cfg(target_os = "linux")]
fn children_by_parent() -> io::Result<Vec<u32>> {
    let ours = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if parent_of(&entry.path()) == Some(ours) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The fourth field of `/proc/PID/stat`; the second may hold anything, parentheses too.
#[cfg(target_os = "linux")]
fn parent_of(process: &Path) -> Option<u32> {
    let stat = std::fs::read(process.join("stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

//! A worker does not outlive its supervisor, on macOS: a process beside each worker that watches both.
//!
//! The kernel has no parent-death signal, and launchd ends only what is in the supervisor's own process group.
//! So the helper leaves a process behind that waits on a kqueue, without any fd of the worker or of handover: if
//! the supervisor ends first, it sends the signal to the worker's process group; if the worker does, it is done.
//! It is forked before the change of user, so that it may signal whatever the worker becomes, and is launchd's
//! child, so that no program finds a child that it did not start.

use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use crate::os::macos::{kqueue, next_exit, watch_exit};

/// Before the change of user: leaves the watching process behind, and returns when it watches.
pub(super) fn before_identity(parent: u32, signal: i32) -> io::Result<()> {
    let worker = std::process::id();
    let (mut settled, report) = io::pipe()?;
    match fork()? {
        0 => {
            drop(settled);
            // A session of its own, so that neither the worker's group nor a terminal reaches it; and one more
            // fork, after which it is nobody's child here.
            // SAFETY: no arguments.
            let alone = unsafe { libc::setsid() } >= 0;
            if alone && fork() == Ok(0) {
                let _ = watch(parent, worker, signal, report);
            }
            // SAFETY: ends this process and runs nothing of what its parent has set up.
            unsafe { libc::_exit(0) }
        }
        child => reap(child)?,
    }
    drop(report);
    match settled.read(&mut [0])? {
        0 => Err(io::Error::other("the watching process ended")),
        _ => Ok(()),
    }
}

/// After the change of user: nothing to do here.
pub(super) fn after_identity(_signal: i32) -> io::Result<()> {
    Ok(())
}

fn fork() -> Result<libc::pid_t, Errno> {
    // SAFETY: the exec helper has one thread, so the child may run ordinary code.
    Errno::result(unsafe { libc::fork() })
}

fn reap(child: libc::pid_t) -> io::Result<()> {
    loop {
        // SAFETY: a null status is not written.
        match Errno::result(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Watches until one of the two ends. The helper looks afterwards whether its parent is still the same, so the
/// number was the supervisor's when the watch began.
fn watch(parent: u32, worker: u32, signal: i32, mut report: PipeWriter) -> io::Result<()> {
    let queue = kqueue()?;
    let parent_lives = watch_exit(&queue, parent)?;
    if !parent_lives || !watch_exit(&queue, worker)? {
        // The helper finds that out by itself.
        return Ok(());
    }
    close_all_but(&[queue.as_raw_fd(), report.as_raw_fd()])?;
    report.write_all(&[1])?;
    drop(report);
    if next_exit(&queue)? == parent {
        crate::os::process::kill_group(worker, signal)?;
    }
    Ok(())
}

/// Closes every other fd. This process uses none of them, and an open one would keep pipes and the
/// handshake from ending.
fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let names =
        std::fs::read_dir("/dev/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = names.collect();
    for number in numbers.into_iter().filter(|number| !kept.contains(number)) {
        // SAFETY: nobody in this process uses the fd any more. The one that read the directory is gone already.
        unsafe { libc::close(number) };
    }
    Ok(())
}

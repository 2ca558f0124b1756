//! macOS calls that no library wraps, each as thin as it can be: `libproc.h` and `kqueue(2)`.
//!
//! What they do beyond their manual pages is taken from the sources of XNU (bsd/kern), which the comments
//! name. None of this was ever run: docs/macos.md.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Kinds of lists that `proc_listpids` gives (`sys/proc_info.h`).
const PROC_ALL_PIDS: u32 = 1;
const PROC_PGRP_ONLY: u32 = 2;
const PROC_PPID_ONLY: u32 = 6;
/// The process works its way through its exit.
const PROC_FLAG_INEXIT: u32 = 4;
/// It waits to be reaped (`sys/proc.h`).
const SZOMB: u32 = 5;

/// Every process.
pub(super) fn all_pids() -> io::Result<Vec<u32>> {
    pids(PROC_ALL_PIDS, 0)
}

/// The processes of a group, those that wait to be reaped included.
pub(super) fn pids_of_group(group: u32) -> io::Result<Vec<u32>> {
    pids(PROC_PGRP_ONLY, group)
}

/// The children of a process, those that wait to be reaped included.
pub(super) fn pids_of_parent(parent: u32) -> io::Result<Vec<u32>> {
    pids(PROC_PPID_ONLY, parent)
}

fn pids(kind: u32, of: u32) -> io::Result<Vec<u32>> {
    let mut room = 1024;
    loop {
        let mut buffer: Vec<libc::pid_t> = vec![0; room];
        let bytes = libc::c_int::try_from(size_of_val(buffer.as_slice())).map_err(|_| Errno::ENOMEM)?;
        Errno::clear();
        // SAFETY: the buffer has `bytes` bytes.
        let got = unsafe { libc::proc_listpids(kind, of, buffer.as_mut_ptr().cast(), bytes) };
        // Nothing found and an error look the same (libsyscall/wrappers/libproc/libproc.c).
        if got <= 0 && Errno::last_raw() != 0 {
            return Err(Errno::last().into());
        }
        let count = usize::try_from(got).unwrap_or(0) / size_of::<libc::pid_t>();
        if count < room {
            buffer.truncate(count);
            return Ok(buffer
                .into_iter()
                .filter_map(|pid| u32::try_from(pid).ok().filter(|pid| *pid > 0))
                .collect());
        }
        room *= 2;
    }
}

/// What the kernel says of a process, whoever's it is; `None` where there is none, or it only waits to be reaped.
pub(super) fn process(pid: u32) -> Option<libc::proc_bsdshortinfo> {
    // SAFETY: all bytes zero are a valid proc_bsdshortinfo: it holds numbers only.
    let mut info: libc::proc_bsdshortinfo = unsafe { std::mem::zeroed() };
    let bytes = libc::c_int::try_from(size_of_val(&info)).ok()?;
    let pid = libc::c_int::try_from(pid).ok()?;
    // SAFETY: the buffer has `bytes` bytes.
    let got =
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDT_SHORTBSDINFO, 0, (&raw mut info).cast(), bytes) };
    (got == bytes).then_some(info)
}

/// It has ended, or works its way through its exit.
pub(super) fn is_ending(process: &libc::proc_bsdshortinfo) -> bool {
    process.pbsi_status == SZOMB || process.pbsi_flags & PROC_FLAG_INEXIT != 0
}

/// A system value that is an int: `sysctlbyname(3)`.
pub(super) fn sysctl(name: &std::ffi::CStr) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut bytes = size_of_val(&value);
    // SAFETY: the name ends in a NUL, and the buffer has `bytes` bytes.
    let done = unsafe {
        libc::sysctlbyname(name.as_ptr(), (&raw mut value).cast(), &raw mut bytes, std::ptr::null_mut(), 0)
    };
    Errno::result(done)?;
    Ok(value)
}

/// A new kqueue, close-on-exec. A child of a `fork` does not get it (`kqueue(2)`).
pub(super) fn kqueue() -> io::Result<OwnedFd> {
    // SAFETY: no arguments.
    let number = Errno::result(unsafe { libc::kqueue() })?;
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    let queue = unsafe { OwnedFd::from_raw_fd(number) };
    super::fd::set_close_on_exec(queue.as_raw_fd(), true)?;
    Ok(queue)
}

/// Asks a kqueue to tell of the end of a process, once. False: there is no such process, or it has ended.
pub(super) fn watch_exit(queue: &OwnedFd, pid: u32) -> io::Result<bool> {
    let change = libc::kevent {
        ident: pid as libc::uintptr_t,
        filter: libc::EVFILT_PROC,
        flags: libc::EV_ADD,
        fflags: libc::NOTE_EXIT,
        data: 0,
        udata: std::ptr::null_mut(),
    };
    // SAFETY: one change, and no room for events, so that an error is returned.
    let done = unsafe {
        libc::kevent(queue.as_raw_fd(), &raw const change, 1, std::ptr::null_mut(), 0, std::ptr::null())
    };
    match Errno::result(done) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for one of the processes that the kqueue watches to end, and gives its pid. Blocks.
pub(super) fn next_exit(queue: &OwnedFd) -> io::Result<u32> {
    loop {
        // SAFETY: all bytes zero are a valid kevent: a null pointer and numbers.
        let mut event: libc::kevent = unsafe { std::mem::zeroed() };
        // SAFETY: no changes, and room for one event; no timeout.
        let got = unsafe {
            libc::kevent(queue.as_raw_fd(), std::ptr::null(), 0, &raw mut event, 1, std::ptr::null())
        };
        match Errno::result(got) {
            Err(Errno::EINTR) | Ok(0) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(u32::try_from(event.ident).unwrap_or(0)),
        }
    }
}

/// A kqueue that watches one process, which need not be our child. It can be read when that has ended.
#[derive(Debug)]
pub(super) struct ExitWatch(AsyncFd<OwnedFd>);

impl ExitWatch {
    /// Begins to watch; `None`: there is no such process. Within a tokio runtime with I/O.
    pub(super) fn begin(pid: u32) -> io::Result<Option<Self>> {
        let queue = kqueue()?;
        if !watch_exit(&queue, pid)? {
            return Ok(None);
        }
        // SAFETY: an OwnedFd keeps its fd, open and under one number, until it is dropped.
        let queue = unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) }?;
        Ok(Some(Self(queue)))
    }

    /// Waits until the process has ended, or is about to.
    pub(super) async fn ended(&self) -> io::Result<()> {
        // What is in the kqueue is never taken out, so it stays readable.
        self.0.readable().await.map(|mut guard| guard.retain_ready())
    }
}

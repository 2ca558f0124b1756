//! Fds by number, which only the exec helper and the intake of inherited fds need; and when one is of no use any more.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A duplicate that is close-on-exec and has the lowest free number that is not below `minimum`.
///
/// # Errors
/// `EMFILE` where no such number lies below the soft limit of open files; `EINVAL` where `minimum` does not.
pub(crate) fn duplicate_from(fd: impl AsFd, minimum: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a borrowed, open fd and a number.
    let new = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, minimum) };
    let new = Errno::result(new)?;
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Gives `fd` the number `target`, open across exec, and closes whatever had that number.
///
/// The result has no owner: it is there for the program that is executed next. Nobody in this process may
/// own `target`, which is why only the exec helper may use this.
///
/// # Errors
/// `EBADF` where `target` is not below the soft limit of open files.
pub(super) fn place(fd: OwnedFd, target: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        let number = fd.into_raw_fd();
        // SAFETY: the fd is open: it was owned until the line above.
        Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })?;
        return Ok(());
    }
    // SAFETY: dup2 closes `target`; that this is nobody's is the contract of this function. `fd` stays
    // owned here and is closed at the end.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), target) })?;
    Ok(())
}

/// Whether this number is an open fd.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD only looks the number up.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// What the socket with this number is.
///
/// # Errors
/// `EBADF` where the number is not open, `ENOTSOCK` where it is something else.
pub(crate) fn facts_of(number: RawFd) -> io::Result<super::socket::Facts> {
    if !is_open(number) {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the number is open now, and while this process is still being set up nobody closes it.
    super::socket::facts(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Takes over an fd that this process was started with: a close-on-exec duplicate, which has an owner, in
/// place of the number, which has none.
///
/// # Errors
/// `EBADF` where the number is not open; `EMFILE`.
pub(crate) fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if !is_open(number) {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: as above; the duplicate outlives the borrow.
    let taken = duplicate_from(unsafe { BorrowedFd::borrow_raw(number) }, 3)?;
    // SAFETY: nobody in this process owns a number that it was started with and has not taken.
    Errno::result(unsafe { libc::close(number) })?;
    Ok(taken)
}

/// Sets or clears close-on-exec on fd number `number`.
///
/// # Errors
/// `EBADF` where it is not open.
pub(crate) fn set_close_on_exec(number: RawFd, on: bool) -> io::Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes no pointer, and changes no more than the one flag that there is.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, flags) })?;
    Ok(())
}

/// Sets close-on-exec on every fd from 3 up, whoever owns it: what a program inherited, or a library opened
/// carelessly, goes to no child.
///
/// # Errors
/// Any of `close_range(2)`, and where `/proc` is needed instead (before Linux 5.11; on macOS `/dev/fd`), of
/// reading that.
pub(crate) fn close_on_exec_all() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match super::linux::close_range_on_exec(3) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {}
        done => return done,
    }
    let list = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    for entry in std::fs::read_dir(list)? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if number > 2 {
            // A number that is gone by now was the one that read the directory.
            let _ = set_close_on_exec(number, true);
        }
    }
    Ok(())
}

/// Returns when the kernel reports an error for `fd`: for the writing end of a pipe, that its last reader is gone
/// (`POLLERR`, `poll(2)`). What `fd` refers to is neither read nor written, nor made non-blocking. Needs a tokio
/// runtime.
///
/// # Errors
/// `EPERM` for what cannot be watched, such as a regular file; any other of `epoll_ctl(2)`.
pub async fn has_error(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: an OwnedFd keeps its fd, open and under one number, until it is dropped.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::ERROR) }?;
    fd.ready(Interest::ERROR).await.map(drop)
}

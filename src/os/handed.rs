//! What this process was started with: fds by number, and the variables that name them: `sd_listen_fds(3)`, `environ(7)`.
//!
//! Needs libc alone: the worker SDK takes its sockets with it. That a number is taken once only is for the caller to see to.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over an fd that this process was started with, under its number, and sets close-on-exec. Nobody in this process may own
/// the number.
///
/// # Errors
/// `EBADF` where it is not open, or is one of the three standard ones.
pub(crate) fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_SETFD takes no pointer, and fails for a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by the contract of this function nobody owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// As [`take`], if `check` says that it is what was meant; `None` where it is something else, which is left alone, or not open. What came with
/// the start is not close-on-exec, so what is has been made since.
pub(crate) fn take_if(number: RawFd, check: impl FnOnce(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number < 3 || flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: it is open, and nobody closes it: while a program looks at what it was started with, nobody owns the number.
    if check(unsafe { BorrowedFd::borrow_raw(number) }) { take(number).ok() } else { None }
}

/// Takes variables out of the environment, so that programs which this one starts do not see them; whether that was done.
/// It is not while other threads run: one of them might be in `getenv(3)` of the C library, which takes no lock.
pub(crate) fn forget(variables: &[&str]) -> bool {
    if super::threads::count() != Some(1) {
        return false;
    }
    for variable in variables {
        forget_one(variable);
    }
    true
}

/// Only while there is one thread.
#[expect(
    clippy::disallowed_methods,
    reason = "what names fds goes with them, before there are other threads"
)]
fn forget_one(variable: &str) {
    // SAFETY: by the contract of this function nobody else reads the environment meanwhile.
    unsafe { std::env::remove_var(variable) };
}

/// The inode of this process's pidfd, which systemd writes into `LISTEN_PIDFDID` since 258; `None` before Linux 6.9, where pidfds
/// have no inodes of their own, and on other systems.
#[cfg(target_os = "linux")]
pub(crate) fn own_pidfd_inode() -> Option<u64> {
    use std::os::fd::AsRawFd;
    const PID_FS_MAGIC: libc::c_long = 0x5049_4446;
    let pid = libc::pid_t::try_from(std::process::id()).ok()?;
    // SAFETY: takes no pointer.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let number = RawFd::try_from(number).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: all bytes zero are a valid statfs and a valid stat: they hold numbers only.
    let (mut system, mut file): (libc::statfs, libc::stat) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both are alive for their calls.
    let done = unsafe {
        libc::fstatfs(fd.as_raw_fd(), &raw mut system) == 0 && libc::fstat(fd.as_raw_fd(), &raw mut file) == 0
    };
    (done && i128::from(system.f_type) == i128::from(PID_FS_MAGIC)).then_some(file.st_ino)
}

/// There are no pidfds here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn own_pidfd_inode() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_open_is_not_taken() {
        assert_eq!(take(1).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(take(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn what_was_made_since_the_start_is_left_alone() {
        use std::os::fd::AsRawFd;
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(take_if(ours.as_raw_fd(), |_| true).is_none());
    }

    #[test]
    fn what_is_taken_is_close_on_exec() {
        use std::os::fd::{AsRawFd, IntoRawFd};
        // SAFETY: F_DUPFD makes a new number, without close-on-exec.
        let number = unsafe { libc::fcntl(std::io::stderr().as_raw_fd(), libc::F_DUPFD, 3) };
        let fd = take(number).unwrap();
        // SAFETY: F_GETFD only asks.
        assert!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 });
        assert_eq!(fd.into_raw_fd(), number);
        drop(take(number).unwrap());
    }
}

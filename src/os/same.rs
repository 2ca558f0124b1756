//! Whether two fds are the same open file.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether two fds of this process share one file description, as after `dup(2)`: `F_DUPFD_QUERY` (Linux 6.10), before that
/// `kcmp(2)`. Where neither can say so (an old kernel with a seccomp filter, macOS) they count as different.
pub fn is_same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
    one == other || asked(one, other).unwrap_or(false)
}

#[cfg(target_os = "linux")]
fn asked(one: i32, other: i32) -> io::Result<bool> {
    /// `F_LINUX_SPECIFIC_BASE` + 3 (`linux/fcntl.h`).
    const F_DUPFD_QUERY: libc::c_int = 1027;
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: two numbers; the kernel only compares.
    match unsafe { libc::fcntl(one, F_DUPFD_QUERY, other) } {
        0 => return Ok(false),
        1 => return Ok(true),
        _ => {}
    }
    let pid = std::process::id();
    // SAFETY: as above.
    match unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one, other) } {
        answer if answer < 0 => Err(io::Error::last_os_error()),
        answer => Ok(answer == 0),
    }
}

#[cfg(target_os = "macos")]
fn asked(_one: i32, _other: i32) -> io::Result<bool> {
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_duplicate_is_the_same_and_another_opening_of_the_file_is_not() {
        let open = || std::fs::File::open("/dev/null").unwrap();
        let (one, other) = (open(), open());
        let copy = one.try_clone().unwrap();
        assert!(is_same_file(one.as_fd(), copy.as_fd()) && is_same_file(one.as_fd(), one.as_fd()));
        assert!(!is_same_file(one.as_fd(), other.as_fd()));
    }
}

//! A file that nobody can open for a while: whoever tries waits in the kernel, as with a file server that does
//! not answer.
//!
//! A lease (`fcntl(2)`, `F_SETLEASE`): the kernel tells its holder that somebody wants to open the file, and lets
//! that wait until the lease is given back, at most `/proc/sys/fs/lease-break-time` seconds (45 unless changed).

#![allow(unsafe_code, reason = "no safe call takes a lease")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `F_SETSIG` of `fcntl(2)` (`asm-generic/fcntl.h`), which libc does not name.
const F_SETSIG: i32 = 10;

/// The lease; given back when it is dropped.
pub struct Lease(#[allow(dead_code, reason = "held, not used")] File);

impl Lease {
    /// Takes it, on a file of ours that nobody has open.
    ///
    /// # Panics
    ///
    /// Where that is not possible.
    #[track_caller]
    pub fn take(path: &Path) -> Self {
        let file = File::open(path).expect("our file");
        // How its holder is told. This signal is ignored unless somebody wants it; SIGIO ends a process.
        // SAFETY: numbers only, on an fd that is open.
        let told = unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) };
        // SAFETY: as above.
        let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        assert!(told == 0 && taken == 0, "no lease: {}", std::io::Error::last_os_error());
        Self(file)
    }
}

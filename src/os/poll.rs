//! Waiting for several fds without a runtime: `poll(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// One fd, what to wait for, and what has come.
#[derive(Debug)]
pub struct Entry<'fd> {
    fd: BorrowedFd<'fd>,
    events: libc::c_short,
    found: libc::c_short,
}

impl<'fd> Entry<'fd> {
    /// Waits for bytes, a connection, or the end of the file.
    pub const fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self { fd, events: libc::POLLIN, found: 0 }
    }

    /// Waits as chosen; an error of the fd always ends the wait.
    pub const fn either(fd: BorrowedFd<'fd>, reading: bool, writing: bool) -> Self {
        let read = if reading { libc::POLLIN } else { 0 };
        let write = if writing { libc::POLLOUT } else { 0 };
        Self { fd, events: read | write, found: 0 }
    }

    /// Whether it can be read, has ended, or has an error.
    pub const fn is_readable(&self) -> bool {
        self.found & (libc::POLLIN | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }

    /// Whether it can be written, or has an error.
    pub const fn is_writable(&self) -> bool {
        self.found & (libc::POLLOUT | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }
}

/// Waits for the first of them, up to `timeout` (rounded up to milliseconds); `None` waits for ever. Whether something was found: an
/// interruption by a signal gives `false`, too, so that the caller looks at its clock.
///
/// # Errors
/// Any of `poll(2)` but an interruption.
pub fn poll(entries: &mut [Entry<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let ms = match timeout {
        None => -1,
        Some(timeout) => {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        }
    };
    let mut all: Vec<libc::pollfd> = entries
        .iter()
        .map(|entry| libc::pollfd { fd: entry.fd.as_raw_fd(), events: entry.events, revents: 0 })
        .collect();
    // SAFETY: as many entries as said, alive for the call.
    let found = unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, ms) };
    if found < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
    }
    for (entry, found) in entries.iter_mut().zip(all) {
        entry.found = found.revents;
    }
    Ok(found > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_finds_the_one_that_is_ready() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (quiet, _kept) = std::io::pipe().unwrap();
        let mut entries = [Entry::readable(quiet.as_fd()), Entry::either(ours.as_fd(), true, false)];
        assert!(!poll(&mut entries, Some(Duration::ZERO)).unwrap());
        theirs.write_all(b"x").unwrap();
        assert!(poll(&mut entries, None).unwrap());
        assert!(!entries[0].is_readable() && entries[1].is_readable() && !entries[1].is_writable());
        let mut room = [Entry::either(ours.as_fd(), false, true)];
        assert!(poll(&mut room, None).unwrap() && room[0].is_writable());
    }
}

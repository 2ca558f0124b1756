//! Fds whose other end goes away: an `epoll(7)` that waits for nothing but `EPOLLHUP` and `EPOLLERR`.
//!
//! tokio's reactor also wakes for what can be read, and what is watched here may be a socket that somebody else serves. This
//! one sleeps through that. It hangs in tokio's as a single fd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use crate::os::watch;

/// Events that one look takes.
const EVENTS: usize = 64;

/// See the module.
pub struct Hangups {
    epoll: AsyncFd<OwnedFd>,
}

impl Hangups {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Any of `epoll_create1(2)` and `epoll_ctl(2)`.
    ///
    /// # Panics
    /// Outside of a runtime with I/O.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a flag and no pointer.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this fd, and nobody else knows of it.
        let epoll = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { epoll: watch::readable(epoll)? })
    }

    /// Watches a socket or a pipe under a number of the caller's, until [`forget`](Self::forget). False: it is neither, and
    /// not watched.
    ///
    /// # Errors
    /// Any of `epoll_ctl(2)`: `ENOSPC` beyond `fs.epoll.max_user_watches`.
    pub fn watch(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<bool> {
        if !has_another_end(fd) {
            return Ok(false);
        }
        let mut event = libc::epoll_event { events: 0, u64: key };
        let epoll = self.epoll.get_ref().as_raw_fd();
        // SAFETY: the event is ours and alive; the kernel copies it.
        let done = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(true) }
    }

    /// Ends that. It must come before the fd is closed: others may have the same file open, and it would be watched on.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let epoll = self.epoll.get_ref().as_raw_fd();
        // SAFETY: no event is needed for this (Linux 2.6.9). One that is not watched is no loss.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut()) };
    }

    /// Waits until some have hung up, and gives their numbers; again and again, until they are forgotten.
    pub async fn next(&self) -> Vec<u64> {
        loop {
            let Ok(mut ready) = self.epoll.readable().await else { return std::future::pending().await };
            let hung_up = self.look();
            if !hung_up.is_empty() {
                return hung_up;
            }
            ready.clear_ready();
        }
    }

    fn look(&self) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let epoll = self.epoll.get_ref().as_raw_fd();
        let most = i32::try_from(EVENTS).unwrap_or(1);
        // SAFETY: there is room for so many events, and it does not wait.
        let found = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), most, 0) };
        let found = usize::try_from(found).unwrap_or(0);
        events[..found].iter().map(|event| event.u64).collect()
    }
}

/// Whether it is a socket or a pipe. Neither question reaches a file system; `epoll_ctl(2)` and `fstat(2)` on a file of `fuse(4)` would
/// wait for whoever serves that.
fn has_another_end(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GETPIPE_SZ only asks.
    let is_pipe = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) } >= 0;
    is_pipe || crate::os::kind::kind(fd).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn only_a_hang_up_is_told_and_only_until_it_is_forgotten() {
        let hangups = Hangups::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(hangups.watch(ours.as_fd(), 7).unwrap() && hangups.watch(read.as_fd(), 8).unwrap());
        assert!(!hangups.watch(file.as_fd(), 9).unwrap());
        theirs.write_all(b"something to read").unwrap();
        assert!(hangups.look().is_empty());
        drop(theirs);
        assert_eq!(hangups.next().await, [7]);
        hangups.forget(ours.as_fd());
        drop(write);
        assert_eq!(hangups.next().await, [8]);
    }
}

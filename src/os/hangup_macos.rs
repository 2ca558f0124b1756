//! Fds whose other end goes away. A kqueue has no event for that alone, so nothing is watched here.

use std::io;
use std::os::fd::BorrowedFd;

/// See the module.
pub struct Hangups(());

impl Hangups {
    /// Watches nothing.
    ///
    /// # Errors
    /// None.
    pub fn new() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// False: it is not watched.
    ///
    /// # Errors
    /// None.
    pub fn watch(&self, _fd: BorrowedFd<'_>, _key: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Nothing is to be done.
    pub fn forget(&self, _fd: BorrowedFd<'_>) {}

    /// Waits for ever.
    pub async fn next(&self) -> Vec<u64> {
        std::future::pending().await
    }
}

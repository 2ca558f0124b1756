//! Fds that outlive a worker: `FDSTORE=1`, `sd_pid_notify_with_fds(3)`.

use std::io;
use std::os::fd::BorrowedFd;

use super::error::Error;
use super::handle::Worker;

impl Worker {
    /// Puts an fd away under a name (`FDSTORE=1` through `NOTIFY_SOCKET`), for the next worker in this slot, or the next start of
    /// the service: [`take_fds`](Self::take_fds) finds it. Whether there is somebody to keep it. The name is no listener's, without colons, at most 255 bytes.
    ///
    /// handover keeps 64 for a slot (docs/workers.md), systemd as many as `FileDescriptorStoreMax=` says. What hangs up is let go of. Store an fd when it
    /// is made: a successor is started before this worker is asked to end, and gets what is stored by then.
    ///
    /// ```no_run
    /// # use std::os::fd::AsFd;
    /// # fn f(worker: &handover::worker::Worker, file: std::fs::File) -> Result<(), handover::worker::Error> {
    /// worker.store_fd("sessions", file.as_fd())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]: `InvalidInput` for such a name, or what `sendmsg(2)` says.
    pub fn store_fd(&self, name: &str, fd: BorrowedFd<'_>) -> Result<bool, Error> {
        self.fd_store("FDSTORE=1", name, &[fd])
    }

    /// Lets go of all fds that were put away under a name (`FDSTOREREMOVE=1`).
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// worker.remove_stored_fds("sessions")?;
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`store_fd`](Self::store_fd).
    pub fn remove_stored_fds(&self, name: &str) -> Result<bool, Error> {
        self.fd_store("FDSTOREREMOVE=1", name, &[])
    }

    fn fd_store(&self, what: &str, name: &str, fds: &[BorrowedFd<'_>]) -> Result<bool, Error> {
        let is_good = (1..=255).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_good {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let Some(notify) = &self.core.notify else { return Ok(false) };
        notify.send(&format!("{what}\nFDNAME={name}"), fds)?;
        Ok(true)
    }
}

//! The controlling terminal of this process: is there one, and is it still there (`tty(4)`, `credentials(7)`).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Stands for the controlling terminal of whoever opens it.
const CONTROLLING: &str = "/dev/tty";

/// This process has a controlling terminal.
pub fn is_there() -> bool {
    open().is_ok()
}

/// This process has none (any more): a terminal that closes is taken from all of its session before the first of them is sent
/// `SIGHUP`. An error that says something else (`EMFILE`) is no such news.
pub fn is_gone() -> bool {
    let gone = [libc::ENXIO, libc::EIO, libc::ENODEV];
    open().is_err_and(|error| error.raw_os_error().is_some_and(|errno| gone.contains(&errno)))
}

/// Neither waits for a line to be up nor makes a terminal the controlling one.
fn open() -> io::Result<()> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(CONTROLLING).map(drop)
}

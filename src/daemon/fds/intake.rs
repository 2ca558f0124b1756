//! Taking messages that may carry fds, so that none of these is ours before somebody has looked at it, and none is closed here.
//!
//! A message is looked at first, and stays where it is. Without fds it is simply taken. With fds that are wanted, the closer looks
//! at them; those that it finds harmless come to us, while the message still holds them. All others it takes out of the socket
//! itself, unseen. So whatever others send, neither taking nor dropping it waits for anybody.

use std::io;
use std::os::fd::BorrowedFd;

use crate::daemon::fds::closer::Closer;
use crate::os::foreign::Foreign;
use crate::os::passing::{self, Credentials};

/// What stands first in a socket.
#[derive(Debug)]
pub(in crate::daemon) struct Seen {
    pub(in crate::daemon) length: usize,
    pub(in crate::daemon) credentials: Option<Credentials>,
    pub(in crate::daemon) truncated: bool,
    pub(in crate::daemon) has_fds: bool,
    /// Where a look is not possible, it is taken already.
    #[cfg(target_os = "macos")]
    taken: Fds,
}

/// The fds of a message that was taken.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Fds {
    pub(in crate::daemon) fds: Vec<Foreign>,
    /// There were some that are not ours now.
    pub(in crate::daemon) lost: bool,
}

/// Looks at what stands first. Fits `try_io`.
#[cfg(target_os = "linux")]
pub(in crate::daemon) fn look(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    with_credentials: bool,
) -> io::Result<Seen> {
    let passing::Seen { length, credentials, truncated, has_fds } =
        passing::look(socket, buffer, with_credentials)?;
    Ok(Seen { length, credentials, truncated, has_fds })
}

/// See the other.
#[cfg(target_os = "macos")]
pub(in crate::daemon) fn look(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    _with_credentials: bool,
) -> io::Result<Seen> {
    let received = passing::receive_now(socket, buffer)?;
    let fds: Vec<Foreign> = received.fds.into_iter().map(Foreign::new).collect();
    let has_fds = !fds.is_empty() || received.fds_lost;
    let taken = Fds { fds, lost: received.fds_lost };
    Ok(Seen {
        length: received.length,
        credentials: received.credentials,
        truncated: received.truncated,
        has_fds,
        taken,
    })
}

/// Takes what was seen and brought no fds. `buffer` has it already, and gets it once more.
///
/// # Errors
/// Nobody knows whether it was taken.
#[cfg(target_os = "linux")]
pub(in crate::daemon) fn take_plain(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<()> {
    passing::take_without_fds(socket, buffer).map(drop)
}

/// See the other: a look takes it there.
#[cfg(target_os = "macos")]
pub(in crate::daemon) fn take_plain(_socket: BorrowedFd<'_>, _buffer: &mut [u8]) -> io::Result<()> {
    Ok(())
}

/// Takes what was seen and brought fds, with them if they are wanted and harmless.
///
/// # Errors
/// Nobody knows whether it was taken.
#[cfg(target_os = "linux")]
pub(in crate::daemon) async fn take(
    socket: BorrowedFd<'_>,
    seen: Seen,
    wants_fds: bool,
    closer: &Closer,
) -> io::Result<Fds> {
    // What was seen may be longer than what has to be taken of it: a datagram goes as a whole.
    let mut buffer = vec![0; seen.length];
    if wants_fds && closer.look(socket, seen.length).await {
        let received = passing::peek(socket, &mut buffer)?;
        let fds: Vec<Foreign> = received.fds.into_iter().map(Foreign::new).collect();
        if !received.fds_lost {
            passing::take_without_fds(socket, &mut buffer)?;
            return Ok(Fds { fds, lost: false });
        }
    }
    match closer.discard(socket, seen.length).await {
        true => Ok(Fds { fds: Vec::new(), lost: true }),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// See the other.
#[cfg(target_os = "macos")]
pub(in crate::daemon) async fn take(
    _socket: BorrowedFd<'_>,
    seen: Seen,
    _wants_fds: bool,
    _closer: &Closer,
) -> io::Result<Fds> {
    Ok(seen.taken)
}

//! One stream socket, without a runtime: waiting for it, closing its ways, and whether it is one: `poll(2)`, `shutdown(2)`,
//! `SO_TYPE` (`socket(7)`).

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It can be read.
    Readable,
    /// It can be written.
    Writable,
    /// One of these.
    Either,
}

/// Waits for what is said, or until the other end is closed. Nothing is read or written, and the socket's mode plays no part.
///
/// # Errors
/// Any of `poll(2)` but an interruption, after which it waits on.
pub fn wait(socket: BorrowedFd<'_>, until: Until) -> io::Result<()> {
    let events = match until {
        Until::Readable => libc::POLLIN,
        Until::Writable => libc::POLLOUT,
        Until::Either => libc::POLLIN | libc::POLLOUT,
    };
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    loop {
        // SAFETY: one entry, alive for the call.
        if unsafe { libc::poll(&raw mut entry, 1, -1) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Closes one way of a connection, or both, whoever else has the socket.
///
/// # Errors
/// `ENOTCONN` where it is not connected any more.
pub fn shut_down(socket: BorrowedFd<'_>, ways: Shutdown) -> io::Result<()> {
    let ways = match ways {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointer.
    let done = unsafe { libc::shutdown(socket.as_raw_fd(), ways) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this is a stream socket, of whatever family.
pub fn is_stream(fd: BorrowedFd<'_>) -> bool {
    let mut kind: libc::c_int = 0;
    let mut bytes = libc::socklen_t::try_from(size_of_val(&kind)).unwrap_or(0);
    // SAFETY: the buffer has `bytes` bytes; the kernel writes no more.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut bytes,
        )
    };
    done == 0 && kind == libc::SOCK_STREAM
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn it_waits_for_bytes_room_or_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        wait(ours.as_fd(), Until::Either).unwrap();
        wait(ours.as_fd(), Until::Writable).unwrap();
        (&theirs).write_all(b"x").unwrap();
        wait(ours.as_fd(), Until::Readable).unwrap();
        drop(ours);
        wait(theirs.as_fd(), Until::Readable).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_has_come_can_be_read_after_reading_is_closed_and_nothing_more_comes() {
        use std::io::Read;
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"x").unwrap();
        shut_down(ours.as_fd(), Shutdown::Both).unwrap();
        assert_eq!((&theirs).write(b"y").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut buffer = [0; 2];
        assert_eq!((&ours).read(&mut buffer).unwrap(), 1);
        assert_eq!((&ours).read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_stream_socket_is_told_from_others() {
        assert!(is_stream(UnixStream::pair().unwrap().0.as_fd()));
        assert!(!is_stream(UnixDatagram::pair().unwrap().0.as_fd()));
        assert!(!is_stream(std::io::pipe().unwrap().0.as_fd()));
    }
}

//! Fds and credentials over Unix sockets: `sendmsg(2)`, `recvmsg(2)`, `unix(7)`, `cmsg(3)`.
//!
//! Receiving is written by hand because the libraries at hand either leave received fds open across exec, hide that
//! the kernel dropped some, or lose track of those that arrived beside a truncation. Here each fd has an owner
//! before anything else is looked at, and what is not understood is closed. Sending is for sockets whose blocking
//! mode is somebody else's: it waits, or not, as it is told call by call (docs/decisions/0003-sendfd.md). This file
//! needs libc alone, because the worker SDK and the pipes are made of it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// How many fds the kernel takes in one message (`SCM_MAX_FD`).
pub const FDS_MAX: usize = 253;

/// Room for [`FDS_MAX`] fds, credentials and a pidfd, each with its header; checked by a test.
const CONTROL_BYTES: usize = 1280;

/// Ancillary data must start where a `cmsghdr` may.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

/// One message.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it filled. 0 on a stream: the other end is closed.
    pub length: usize,
    /// The fds that came with it, in the sender's order.
    pub fds: Vec<OwnedFd>,
    /// Who sent it, where the socket asks for that (`SO_PASSCRED`).
    pub credentials: Option<Credentials>,
    /// The message was longer than the buffer; the rest is lost (datagrams only).
    pub truncated: bool,
    /// Some of its fds did not arrive: this process is at its limit of open files, or a security module
    /// refused them.
    pub fds_lost: bool,
}

/// Who sent a message, as the kernel saw it; a privileged sender may have lied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// 0 where the sender's pid has no number here (another pid namespace).
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// [`receive`] or [`receive_now`].
pub type Receive = fn(BorrowedFd<'_>, &mut [u8]) -> io::Result<Received>;

/// Takes one message from a Unix socket, or what there is on a stream (never across two messages with fds).
///
/// Fits `try_io` and `async_io` of tokio's sockets. Interrupted calls are repeated.
///
/// # Errors
/// `WouldBlock` on a nonblocking socket with nothing to read; else any of `recvmsg(2)`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    receive_with(socket, buffer, 0)
}

/// As [`receive`], but never waits, whatever the socket's own mode is (`MSG_DONTWAIT`).
///
/// # Errors
/// `WouldBlock` where there is nothing to read; else any of `recvmsg(2)`.
pub fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    receive_with(socket, buffer, libc::MSG_DONTWAIT)
}

/// As [`receive_now`], but the message stays where it is (`MSG_PEEK`), so that none of its fds is closed for the last time
/// by those who drop what this gives.
///
/// # Errors
/// As [`receive_now`].
#[cfg(feature = "supervisor")]
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    receive_with(socket, buffer, libc::MSG_DONTWAIT | libc::MSG_PEEK)
}

/// What stands first in a socket.
#[cfg(feature = "supervisor")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As [`Received::length`].
    pub length: usize,
    /// As [`Received::credentials`].
    pub credentials: Option<Credentials>,
    /// As [`Received::truncated`].
    pub truncated: bool,
    /// It carries fds.
    pub has_fds: bool,
}

/// Looks at what stands first, and takes neither it nor its fds. `with_credentials`: the socket asks for those (`SO_PASSCRED`).
/// Never waits.
///
/// There is room for credentials, which come first, and for no fd: the kernel then says that something did not fit.
///
/// # Errors
/// As [`receive_now`].
#[cfg(all(feature = "supervisor", target_os = "linux"))]
pub fn look(socket: BorrowedFd<'_>, buffer: &mut [u8], with_credentials: bool) -> io::Result<Seen> {
    // SAFETY: only computes a length.
    let room = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as libc::c_uint) };
    let room = if with_credentials { room as usize } else { 0 };
    let seen = receive_into(socket, buffer, libc::MSG_DONTWAIT | libc::MSG_PEEK, room)?;
    let Received { length, credentials, truncated, fds_lost, .. } = seen;
    Ok(Seen { length, credentials, truncated, has_fds: fds_lost })
}

/// Takes what stands first, as far as the buffer reaches, without any of its fds: the kernel closes these if nobody else has
/// them. Never waits for a message.
///
/// # Errors
/// As [`receive_now`].
#[cfg(feature = "supervisor")]
pub fn take_without_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is alive, and the kernel writes no more than its length.
    repeat(|| unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

fn receive_with(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Received> {
    receive_into(socket, buffer, flags, CONTROL_BYTES)
}

/// `room`: bytes for ancillary data, at most [`CONTROL_BYTES`].
fn receive_into(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: libc::c_int,
    room: usize,
) -> io::Result<Received> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut data = [IoSliceMut::new(buffer)];
    // SAFETY: all bytes zero are a valid msghdr: no name, no data, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = data.as_mut_ptr().cast(); // IoSliceMut has the layout of iovec, by its documentation
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = room.min(CONTROL_BYTES) as _;
    #[cfg(target_os = "linux")]
    let flags = flags | libc::MSG_CMSG_CLOEXEC;
    let length = repeat(|| {
        // SAFETY: `message` points at one buffer for data and one for control, both alive and of the
        // lengths given.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) }
    })?;
    let mut received = Received {
        length,
        fds: Vec::new(),
        credentials: None,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        fds_lost: message.msg_flags & libc::MSG_CTRUNC != 0,
    };
    // SAFETY: recvmsg has filled the control buffer up to `msg_controllen`, and nobody has read it yet.
    unsafe { take_control(&message, &mut received) };
    Ok(received)
}

/// Calls until it is not interrupted (`EINTR`).
fn repeat(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        // What is negative is no length, and then errno is set.
        if let Ok(length) = usize::try_from(call()) {
            return Ok(length);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends bytes on a Unix stream socket, with fds attached to the first of them, and never waits (`MSG_DONTWAIT`).
/// Gives how many bytes were taken, which may be fewer than there are; the fds are on their way with the first.
/// A peer that is gone is an error and no signal.
///
/// # Errors
/// `InvalidInput` for fds without a byte to carry them, or more than [`FDS_MAX`]; `WouldBlock` where there is no room; `ETOOMANYREFS` where this user has
/// too many fds on the way (`unix(7)`); else any of `sendmsg(2)`.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > FDS_MAX || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut data = [IoSlice::new(bytes)];
    // SAFETY: all bytes zero are a valid msghdr: no name, no data, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = data.as_mut_ptr().cast(); // IoSlice has the layout of iovec, by its documentation
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let bytes = u32::try_from(size_of_val(fds)).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: these two only compute lengths. FDS_MAX fds fit into CONTROL_BYTES (checked by a test), and that
        // is aligned for a header. BorrowedFd has the layout of its number, by its documentation.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
            message.msg_control.cast::<u8>().write_bytes(0, libc::CMSG_SPACE(bytes) as usize);
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast(), libc::CMSG_DATA(header), size_of_val(fds));
        }
    }
    #[cfg(target_os = "linux")]
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // There the option SO_NOSIGPIPE takes the signal's place; std's sockets have it set.
    #[cfg(target_os = "macos")]
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: `message` points at the bytes and the control data, both alive and of the lengths given.
    repeat(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// Whether an error of [`send_now`] means that there is no room for fds until receivers take some: `ETOOMANYREFS`, when this user has
/// more on the way than its limit of open files (not for root; `unix(7)`); on macOS also `EMSGSIZE`, when the receiver's
/// buffer cannot take bytes and fds at once.
pub fn waits_for_receivers(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(libc::ETOOMANYREFS) || (cfg!(target_os = "macos") && number == Some(libc::EMSGSIZE))
}

/// Walks the ancillary data once, and gives every fd in it an owner.
///
/// # Safety
/// `message` must be as a successful `recvmsg` left it, with its control buffer alive; and this may be done
/// once only, since it takes ownership of the fds.
unsafe fn take_control(message: &libc::msghdr, received: &mut Received) {
    // SAFETY: by the contract above; CMSG_FIRSTHDR and CMSG_NXTHDR stay within the control buffer, and the
    // length of a header that the kernel wrote covers the data behind it.
    unsafe {
        let length: usize = message.msg_controllen as _;
        let end = message.msg_control.addr() + length;
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            // macOS leaves the length of what was truncated as it was.
            let bytes = bytes.min(end.saturating_sub(data.addr()));
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    take_fds(data, bytes, &mut received.fds);
                }
                #[cfg(target_os = "linux")]
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if bytes >= size_of::<libc::ucred>() => {
                    let who = data.cast::<libc::ucred>().read_unaligned();
                    let pid = u32::try_from(who.pid).unwrap_or(0);
                    received.credentials = Some(Credentials { pid, uid: who.uid, gid: who.gid });
                }
                #[cfg(target_os = "linux")]
                (libc::SOL_SOCKET, SCM_PIDFD) => {
                    // Nobody asked for it, but it is an fd and must not leak.
                    take_fds(data, bytes, &mut Vec::new());
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// `SO_PASSPIDFD` (Linux 6.5) adds one fd under this type.
#[cfg(target_os = "linux")]
const SCM_PIDFD: libc::c_int = 0x04;

/// # Safety
/// `data` must be `bytes` bytes that hold fd numbers which this process owns and nobody has taken.
unsafe fn take_fds(data: *const u8, bytes: usize, fds: &mut Vec<OwnedFd>) {
    fds.reserve(bytes / size_of::<RawFd>());
    for index in 0..bytes / size_of::<RawFd>() {
        // SAFETY: within `bytes`; the data need not be aligned.
        let number = unsafe { data.cast::<RawFd>().add(index).read_unaligned() };
        if number < 0 {
            continue; // SCM_PIDFD says so where the sender is gone
        }
        // SAFETY: by the contract of this function.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        // SAFETY: F_SETFD takes no pointer, and the fd is ours since the line above.
        #[cfg(target_os = "macos")]
        unsafe {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC)
        };
        fds.push(fd);
    }
}

/// Whether messages come with their senders' credentials. macOS has none for datagrams.
pub const SENDERS_ARE_KNOWN: bool = cfg!(target_os = "linux");

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "supervisor")]
    use crate::os::socket::bind_notify_socket;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn is_close_on_exec(fd: &OwnedFd) -> bool {
        // SAFETY: F_GETFD only asks.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
    }

    /// With an fd attached to the first byte, as many times as there are.
    fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> usize {
        send_now(socket.as_fd(), bytes, fds).unwrap()
    }

    #[test]
    #[cfg(feature = "supervisor")]
    fn fds_and_credentials_arrive_together_and_close_on_exec() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = bind_notify_socket(&path, &directory.path().join("draft")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        send(&sender, b"READY=1", &[sender.as_fd(); FDS_MAX]);
        let mut buffer = [0; 100];
        let received = receive(socket.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"READY=1");
        assert_eq!(received.fds.len(), FDS_MAX);
        assert!(received.fds.iter().all(is_close_on_exec));
        assert!(!received.truncated && !received.fds_lost);
        assert_eq!(received.credentials.is_some(), SENDERS_ARE_KNOWN);
        if let Some(who) = received.credentials {
            assert_eq!((who.pid, who.uid), (std::process::id(), nix::unistd::geteuid().as_raw()));
        }
        let empty = receive(socket.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_datagram_that_is_too_long_says_so_and_its_fds_have_owners() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let (watched, end) = std::io::pipe().unwrap();
        send(&theirs, b"0123456789", &[end.as_fd()]);
        drop(end);
        let received = receive(ours.as_fd(), &mut [0; 4]).unwrap();
        assert!(received.truncated);
        assert_eq!((received.length, received.fds.len(), received.credentials), (4, 1, None));
        drop(received);
        // Its only writing end is closed now.
        assert_eq!(io::Read::read(&mut &watched, &mut [0]).unwrap(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pidfd_that_nobody_asked_for_does_not_leak() {
        const SO_PASSPIDFD: libc::c_int = 76;
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let on: libc::c_int = 1;
        // SAFETY: the option takes one int. (Kernels before 6.5 refuse it, which only weakens the test.)
        unsafe {
            libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, (&raw const on).cast(), 4)
        };
        theirs.send(b"x").unwrap();
        let received = receive(ours.as_fd(), &mut [0; 4]).unwrap();
        assert!(received.fds.is_empty());
        let pidfds = std::fs::read_dir("/proc/self/fdinfo").unwrap().filter(|entry| {
            let info = std::fs::read_to_string(entry.as_ref().unwrap().path()).unwrap_or_default();
            info.contains(&format!("\nPid:\t{}\n", std::process::id()))
        });
        assert_eq!(pidfds.count(), 0);
    }

    #[test]
    #[cfg(all(feature = "supervisor", target_os = "linux"))]
    fn a_look_takes_nothing_and_says_whether_there_are_fds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = bind_notify_socket(&path, &directory.path().join("draft")).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        let (watched, end) = std::io::pipe().unwrap();
        for fds in [0, 1, FDS_MAX] {
            send(&sender, b"READY=1", &vec![end.as_fd(); fds]);
        }
        drop(end);
        let mut buffer = [0; 100];
        for fds in [0, 1, FDS_MAX] {
            for _ in 0..2 {
                let seen = look(socket.as_fd(), &mut buffer, true).unwrap();
                assert_eq!((seen.length, seen.has_fds, seen.truncated), (7, fds > 0, false));
                assert_eq!(seen.credentials.unwrap().pid, std::process::id());
            }
            assert_eq!(peek(socket.as_fd(), &mut buffer).unwrap().fds.len(), fds);
            assert_eq!(take_without_fds(socket.as_fd(), &mut buffer).unwrap(), 7);
        }
        assert_eq!(look(socket.as_fd(), &mut buffer, true).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(io::Read::read(&mut &watched, &mut [0]).unwrap(), 0, "none of the fds is left");

        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&theirs, b"ab", &[]);
        send(&theirs, b"cd", &[ours.as_fd()]);
        send(&theirs, b"ef", &[]);
        let seen = look(ours.as_fd(), &mut buffer, false).unwrap();
        assert_eq!((&buffer[..seen.length], seen.has_fds), (&b"abcd"[..], true), "up to those with fds");
        assert_eq!(take_without_fds(ours.as_fd(), &mut buffer[..seen.length]).unwrap(), 4);
        let seen = look(ours.as_fd(), &mut buffer, false).unwrap();
        assert_eq!((&buffer[..seen.length], seen.has_fds), (&b"ef"[..], false));
    }

    #[test]
    fn the_end_of_a_stream_is_no_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&theirs, b"ab", &[ours.as_fd()]);
        drop(theirs);
        let mut buffer = [0; 1];
        let first = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((first.length, first.fds.len()), (1, 1), "fds come with the first byte");
        assert!(is_close_on_exec(&first.fds[0]));
        let second = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((second.length, second.fds.len()), (1, 0));
        assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap().length, 0);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_the_kernel_sees_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let refused = |result: io::Result<usize>| result.unwrap_err().kind() == io::ErrorKind::InvalidInput;
        assert!(refused(send_now(theirs.as_fd(), b"", &[ours.as_fd()])), "nothing carries the fd");
        assert!(refused(send_now(theirs.as_fd(), b"x", &[ours.as_fd(); FDS_MAX + 1])));
        assert_eq!(
            receive_now(ours.as_fd(), &mut [0; 1]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "the socket is a blocking one, and this did not wait"
        );
    }

    #[test]
    fn a_full_socket_takes_a_part_and_then_says_so() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let much = vec![b'x'; 4 << 20];
        let taken = send(&theirs, &much, &[ours.as_fd()]);
        assert!(taken > 0 && taken < much.len());
        let full = send_now(theirs.as_fd(), b"x", &[]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let first = receive(ours.as_fd(), &mut [0; 10]).unwrap();
        assert_eq!(first.fds.len(), 1, "the fds went with the first byte, though not all bytes did");
        drop((first, ours));
        let gone = send_now(theirs.as_fd(), b"x", &[]).unwrap_err();
        assert!(matches!(gone.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset));
    }
}

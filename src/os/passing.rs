//! Receiving fds and credentials over Unix sockets: `recvmsg(2)`, `unix(7)`, `cmsg(3)`.
//!
//! Written by hand because the libraries at hand either leave received fds open across exec, hide that the
//! kernel dropped some, or lose track of those that arrived beside a truncation. Here each fd has an owner
//! before anything else is looked at, and what is not understood is closed. Sending has no such traps; that
//! is left to the `sendfd` crate (docs/decisions).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

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

/// Takes one message from a Unix socket, or what there is on a stream (never across two messages with fds).
///
/// Fits `try_io` and `async_io` of tokio's sockets. Interrupted calls are repeated.
///
/// # Errors
/// `WouldBlock` on a nonblocking socket with nothing to read; else any of `recvmsg(2)`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut data = [IoSliceMut::new(buffer)];
    // SAFETY: all bytes zero are a valid msghdr: no name, no data, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = data.as_mut_ptr().cast(); // IoSliceMut has the layout of iovec, by its documentation
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    #[cfg(target_os = "linux")]
    let flags = libc::MSG_CMSG_CLOEXEC;
    #[cfg(target_os = "macos")]
    let flags = 0;
    let length = loop {
        // SAFETY: `message` points at one buffer for data and one for control, both alive and of the
        // lengths given.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        match Errno::result(length) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(length) => break usize::try_from(length).unwrap_or(0),
        }
    };
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
    for index in 0..bytes / size_of::<RawFd>() {
        // SAFETY: within `bytes`; the data need not be aligned.
        let number = unsafe { data.cast::<RawFd>().add(index).read_unaligned() };
        if number < 0 {
            continue; // SCM_PIDFD says so where the sender is gone
        }
        // SAFETY: by the contract of this function.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        #[cfg(target_os = "macos")]
        let _ = super::fd::set_close_on_exec(number, true);
        fds.push(fd);
    }
}

/// Whether messages come with their senders' credentials. macOS has none for datagrams.
pub const SENDERS_ARE_KNOWN: bool = cfg!(target_os = "linux");

/// Makes the datagram socket to which a worker reports (`sd_notify(3)`), nonblocking, with the sender's
/// credentials on every message where [`SENDERS_ARE_KNOWN`]. Everybody may send to it, whatever our umask: a program that has given up
/// its privileges, too. Who may find it is for the directory to say.
///
/// # Errors
/// `AddrInUse`: something is at `path`. `InvalidInput`: it is longer than 107 bytes (macOS: 103).
pub fn bind_notify_socket(path: &std::path::Path) -> io::Result<std::os::unix::net::UnixDatagram> {
    use std::os::unix::fs::PermissionsExt;
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    // Before it can be reached, so that no message comes without credentials.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_passcred(true)?;
    // Where it is full, a sender gets ENOBUFS and does not wait, and its 4 KiB are full after two long messages
    // (net.local.dgram.recvspace).
    #[cfg(target_os = "macos")]
    socket2::SockRef::from(&socket).set_recv_buffer_size(256 << 10)?;
    socket2::SockRef::from(&socket).bind(&socket2::SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use sendfd::SendWithFd;

    fn is_close_on_exec(fd: &OwnedFd) -> bool {
        // SAFETY: F_GETFD only asks.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
    }

    #[test]
    fn fds_and_credentials_arrive_together_and_close_on_exec() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = bind_notify_socket(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        let fds = vec![sender.as_raw_fd(); FDS_MAX];
        sender.send_with_fd(b"READY=1", &fds).unwrap();
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
        assert!(bind_notify_socket(&path).is_err());
    }

    #[test]
    fn a_datagram_that_is_too_long_says_so_and_its_fds_have_owners() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let (watched, end) = std::io::pipe().unwrap();
        theirs.send_with_fd(b"0123456789", &[end.as_raw_fd()]).unwrap();
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
    fn the_end_of_a_stream_is_no_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.send_with_fd(b"ab", &[0]).unwrap();
        drop(theirs);
        let mut buffer = [0; 1];
        let first = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((first.length, first.fds.len()), (1, 1), "fds come with the first byte");
        let second = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((second.length, second.fds.len()), (1, 0));
        assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap().length, 0);
    }
}

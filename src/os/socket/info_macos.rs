//! What `proc_pidfdinfo` says of a socket: of our own, and of those of other processes that we may look into.
//!
//! The structure is that of `sys/proc_info.h`, which the libc crate has not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;

const PROC_PIDFDSOCKETINFO: libc::c_int = 3;
const PROX_FDTYPE_SOCKET: u32 = 2;

/// `struct socket_fdinfo`. What is not used has names with an underscore.
#[repr(C)]
pub(super) struct Info {
    /// `struct proc_fileinfo`
    _file: [u64; 3],
    _stat: libc::vinfo_stat,
    _socket: u64,
    _control_block: u64,
    /// `SOCK_STREAM` and so on.
    pub(super) kind: i32,
    _protocol: i32,
    /// `AF_INET` and so on.
    pub(super) family: i32,
    /// `SO_ACCEPTCONN` and so on.
    pub(super) options: i16,
    _linger: i16,
    /// `SOI_S_…`
    pub(super) state: i16,
    /// Connections that wait, those whose handshake is not done included (`sonewconn` in bsd/kern/uipc_socket2.c).
    pub(super) queued: i16,
    /// Those of them that cannot be accepted yet.
    pub(super) incomplete: i16,
    /// How many may wait.
    pub(super) queue_limit: i16,
    _timeout: i16,
    _error: u16,
    _out_of_band: u32,
    /// Two `struct sockbuf_info`.
    _buffers: [u32; 12],
    _which: i32,
    _reserved: u32,
    /// A union, of which `struct un_sockinfo` is the largest with 526 bytes; aligned as its numbers are.
    protocol: [u64; 66],
}

impl Info {
    /// The local port of a socket of IPv4 or IPv6: the second number of `struct in_sockinfo`, in network order.
    pub(super) fn local_port(&self) -> u16 {
        let second = (self.protocol[0] >> 32) as u32;
        u16::from_be((second & 0xffff) as u16)
    }

    /// The path or name that a Unix socket is bound to: in `struct un_sockinfo` after two numbers, and there
    /// after a length and a family. Empty where there is none.
    pub(super) fn local_path(&self) -> Vec<u8> {
        let bytes = self.protocol.iter().flat_map(|word| word.to_ne_bytes());
        bytes.skip(16 + 2).take(104).take_while(|byte| *byte != 0).collect()
    }
}

/// What there is to know of a socket of ours.
pub(super) fn info(socket: impl AsFd) -> io::Result<Info> {
    info_of(std::process::id(), socket.as_fd().as_raw_fd())
}

/// What there is to know of fd number `fd` of a process.
pub(super) fn info_of(pid: u32, fd: RawFd) -> io::Result<Info> {
    // SAFETY: all bytes zero are a valid Info: it holds numbers only.
    let mut info: Info = unsafe { std::mem::zeroed() };
    let bytes = libc::c_int::try_from(size_of_val(&info)).map_err(|_| Errno::ENOMEM)?;
    let pid = libc::c_int::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: the buffer has `bytes` bytes.
    let got = unsafe { libc::proc_pidfdinfo(pid, fd, PROC_PIDFDSOCKETINFO, (&raw mut info).cast(), bytes) };
    // The kernel gives the whole structure or nothing.
    if got <= 0 { Err(Errno::last().into()) } else { Ok(info) }
}

/// The numbers of the fds of a process that are sockets; none where we may not look into it.
pub(super) fn sockets_of(pid: u32) -> Vec<RawFd> {
    let Ok(pid) = libc::c_int::try_from(pid) else { return Vec::new() };
    let each = size_of::<libc::proc_fdinfo>();
    let mut room = 256;
    loop {
        // SAFETY: all bytes zero are a valid proc_fdinfo: two numbers.
        let empty: libc::proc_fdinfo = unsafe { std::mem::zeroed() };
        let mut buffer = vec![empty; room];
        let Ok(bytes) = libc::c_int::try_from(room * each) else { return Vec::new() };
        // SAFETY: the buffer has `bytes` bytes.
        let got =
            unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, buffer.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(got).unwrap_or(0) / each;
        if count < room {
            buffer.truncate(count);
            let sockets = buffer.iter().filter(|fd| fd.proc_fdtype == PROX_FDTYPE_SOCKET);
            return sockets.map(|fd| fd.proc_fd).collect();
        }
        room *= 2;
    }
}

//! The system calls that std does not offer: the monotonic clock as a number, waiting for many sockets, SIGTERM as an
//! fd, inherited sockets, and the kernel's own reports of forks and executions. Every `unsafe` of the figures is here.

#![allow(unsafe_code, reason = "std has no safe call for any of this")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A second, in nanoseconds: the unit of all times here.
pub const SECOND: u64 = 1_000_000_000;
/// A millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds: the same for all processes, and for the kernel's reports.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn timespec(nanoseconds: u64) -> libc::timespec {
    let part = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    libc::timespec { tv_sec: part(nanoseconds / SECOND), tv_nsec: part(nanoseconds % SECOND) }
}

/// Lets time pass: a load has to last, a daemon has to come to rest.
pub fn pause(nanoseconds: u64) {
    let end = now() + nanoseconds;
    while let Some(left) = end.checked_sub(now()).filter(|left| *left > 0) {
        let timeout = timespec(left);
        // SAFETY: no entries, and the pointer is to a local.
        unsafe { libc::ppoll(std::ptr::null_mut(), 0, &raw const timeout, std::ptr::null()) };
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An fd that a system call has just made.
fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the number is that of a new fd, which nobody else knows.
    checked(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `epoll(7)`.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes a number.
        owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    /// Waits for `events` of `fd` too, which are then told with `token`. Closing the fd takes it out.
    pub fn add(&self, fd: RawFd, token: usize, events: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token as u64 };
        // SAFETY: the pointer is to a local.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Takes an fd out that stays open.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        let none = std::ptr::null_mut();
        // SAFETY: no event is needed to take one out.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, none) })?;
        Ok(())
    }

    /// Waits, at most for `timeout` nanoseconds; puts the tokens of what happened into `tokens`.
    pub fn wait(&self, tokens: &mut Vec<usize>, timeout: Option<u64>) -> io::Result<()> {
        const AT_ONCE: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        let timeout = timeout.map(timespec);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let nothing = std::ptr::null::<libc::sigset_t>();
        let (fd, first) = (self.0.as_raw_fd(), events.as_mut_ptr());
        // SAFETY: room for `AT_ONCE` events, a timeout that lives here or none, and no signal mask.
        let count = unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, first, AT_ONCE, timeout, nothing, 0) };
        tokens.clear();
        match usize::try_from(count) {
            Ok(count) => tokens.extend(events[..count].iter().map(|event| event.u64 as usize)),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// An fd that becomes readable when SIGTERM comes, which does nothing else from now on.
pub fn termination() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero set is valid memory, which `sigemptyset` then initializes.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        checked(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        owned(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC))
    }
}

/// Takes an inherited fd, once.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; where it succeeds, the fd is open, and nobody else in this program has it.
    unsafe {
        checked(libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Makes fd 3 what standard input is, for the program that this process is about to become.
pub fn place_at_3() -> io::Result<()> {
    // SAFETY: takes numbers; nothing in this process uses fd 3.
    checked(unsafe { libc::dup2(0, 3) })?;
    Ok(())
}

/// A socket on which the kernel reports each fork, execution and end of a process, with its own time stamp
/// (`CONFIG_PROC_EVENTS`). Only for root.
pub fn process_reports() -> io::Result<OwnedFd> {
    /// `CN_IDX_PROC` of `linux/connector.h`.
    const GROUP: u32 = 1;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers.
    let socket = owned(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) })?;
    // SAFETY: an all-zero address is valid.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    address.nl_groups = GROUP;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or_default();
    // SAFETY: the pointer is to a local of that length.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // Room for what the rest of the machine does before we look.
    let room: libc::c_int = 16 << 20;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the pointer is to a local of that length.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const room).cast(), length)
    })?;
    Ok(socket)
}

//! Linux calls that no library wraps, each as thin as it can be.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::stat::Mode;

/// `pidfd_open(2)` (Linux 5.3): a handle on the process that has this pid now. Close-on-exec always.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: a pid and no flags; no pointer.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The process that made the socket at the other end: of a connection, the one that called `listen(2)` (`SO_PEERPIDFD`, Linux
/// 6.5). It need not have a number in our pid namespace.
pub(super) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut bytes = libc::socklen_t::try_from(size_of::<RawFd>()).unwrap_or(0);
    // SAFETY: the kernel writes one number into a place for one.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut bytes,
        )
    };
    Errno::result(done)?;
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `pidfd_send_signal(2)` (Linux 5.1). Signal 0 only asks.
pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null info is allowed and means what kill(2) would send.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    Errno::result(done)?;
    Ok(())
}

/// The same to the process group whose leader that is or was (Linux 6.9): as long as the pidfd is open, whatever has become of
/// the number. `EINVAL` from an older kernel.
pub(super) fn pidfd_send_group_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    /// `PIDFD_SIGNAL_PROCESS_GROUP` (`linux/pidfd.h`).
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null info is allowed and means what kill(2) would send.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, PROCESS_GROUP) };
    Errno::result(done)?;
    Ok(())
}

/// Sets close-on-exec on all fds from `first` up: `close_range(2)` with `CLOSE_RANGE_CLOEXEC` (Linux 5.11).
pub(super) fn close_range_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: two numbers and a flag; nothing is closed now.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(done)?;
    Ok(())
}

/// The inode number of a process on pidfs (Linux 6.9), which is unique while the machine runs. `None` where
/// pidfds have none.
pub(super) fn pidfd_inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    const PIDFS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x5049_4446);
    let filesystem = nix::sys::statfs::fstatfs(pidfd).ok()?;
    if filesystem.filesystem_type() != PIDFS {
        return None;
    }
    nix::sys::stat::fstat(pidfd).ok().map(|stat| stat.st_ino)
}

/// The signal that the kernel sends this process when the thread that started it ends: `PR_SET_PDEATHSIG`.
/// Cleared by every later change of user or group, and by executing a program with privileges of its own.
pub(super) fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    let signal = libc::c_ulong::try_from(signal).map_err(|_| Errno::EINVAL)?;
    // SAFETY: PR_SET_PDEATHSIG takes a number.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
    Ok(())
}

/// Clears the ambient capabilities (Linux 4.3), which a change of user keeps where neither user is root.
pub(super) fn clear_ambient_capabilities() -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT takes numbers.
    let done = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(done)?;
    Ok(())
}

/// Sets the default disposition of a signal. Past the C library, which refuses the two that it uses itself;
/// a parent may have left us those ignored, too.
pub(super) fn default_signal(signal: i32) {
    /// At least as large as the kernel's `struct sigaction` on every architecture; all zero is `SIG_DFL`
    /// with no flags and no mask.
    #[repr(C, align(8))]
    struct Zero([u8; 64]);
    const SET_BYTES: usize = 8;
    let action = Zero([0; 64]);
    let old: *const Zero = std::ptr::null();
    // SAFETY: the kernel reads no more than the new action; the default runs no code of ours. KILL and STOP
    // are refused, which is right.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, old, SET_BYTES) };
}

/// The file to which a Unix socket is bound (Linux 4.12, `SIOCUNIXFILE` of `linux/un.h`), opened with `O_PATH`: this very
/// file, whatever its path leads to by now. Needs `CAP_NET_ADMIN` in the user namespace of the socket's network.
pub(super) fn file_of_socket(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
    // SAFETY: takes no argument; the kernel gives a number or an error. The type of the request is not the same in all C
    // libraries.
    let fd = Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE as _, 0) })?;
    // SAFETY: the kernel has just made this fd (close-on-exec), and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A path by which this process reaches what an fd of its own is open on.
pub(super) fn path_of_fd(fd: BorrowedFd<'_>) -> std::path::PathBuf {
    std::path::PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Gives what is open with `O_PATH` another mode: `fchmodat2(2)` (Linux 6.6), and where that is not to be had, by the path
/// that proc has for the fd.
pub(super) fn set_mode_of_path(fd: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
    // SAFETY: an fd, an empty string that ends in a NUL, and numbers.
    let done = unsafe {
        libc::syscall(libc::SYS_fchmodat2, fd.as_raw_fd(), c"".as_ptr(), mode.bits(), libc::AT_EMPTY_PATH)
    };
    match Errno::result(done) {
        Ok(_) => Ok(()),
        // An older kernel, or a filter that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path_of_fd(fd), std::fs::Permissions::from_mode(mode.bits()))
        }
        Err(errno) => Err(errno.into()),
    }
}

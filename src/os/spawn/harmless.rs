//! Which open files can be closed without waiting, as long as it is not the last time.
//!
//! Each `close(2)` of a file tells its file system (`flush`), and on FUSE, NFS and their like that waits for somebody: for ever,
//! if a user of this machine serves it and stops. What has no such file system behind it does not: sockets, pipes, memory and the
//! kernel's own. None of the questions here reaches a file system.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// File systems whose files are flushed by nobody but the kernel. `overlay` counts where it is mounted in our own mount namespace:
/// that takes the administrator's rights.
const LOCAL: [&str; 22] = [
    "bcachefs",
    "btrfs",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hugetlbfs",
    "iso9660",
    "overlay",
    "proc",
    "ramfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "vfat",
    "xfs",
    "zfs",
];

/// The kernel's own files that have no name in a file system, as `/proc/PID/fd` shows them.
const NAMELESS: [&str; 8] = [
    "anon_inode:[eventfd]",
    "anon_inode:[eventpoll]",
    "anon_inode:[pidfd]",
    "anon_inode:[signalfd]",
    "anon_inode:[timerfd]",
    "anon_inode:inotify",
    "pidfd:[",
    "net:[",
];

/// All of them.
pub(super) fn are_harmless(fds: &[OwnedFd]) -> bool {
    // Read once, and only where a file is among them.
    let mut mounts = None;
    fds.iter().all(|fd| {
        is_without_file_system(fd.as_fd()) || {
            let mounts = mounts
                .get_or_insert_with(|| std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
            mount_of(fd.as_fd()).is_some_and(|mount| is_local(mounts, &mount))
        }
    })
}

fn is_without_file_system(fd: BorrowedFd<'_>) -> bool {
    let number = fd.as_raw_fd();
    // SAFETY: they only ask.
    let is = |question| unsafe { libc::fcntl(number, question) } >= 0;
    if crate::os::kind::kind(fd).is_ok() || is(libc::F_GETPIPE_SZ) || is(libc::F_GET_SEALS) {
        return true;
    }
    // A path begins with a slash, whatever somebody calls his files.
    let shown = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
    let shown = shown.to_string_lossy();
    NAMELESS.iter().any(|name| shown.starts_with(name))
}

/// The number of the mount that it was opened through; nobody else's as long as it is open.
fn mount_of(fd: BorrowedFd<'_>) -> Option<String> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned())
}

/// Is this mount one of ours, of a local file system (`proc_pid_mountinfo(5)`)?
fn is_local(mounts: &str, id: &str) -> bool {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id));
    let kind = line.and_then(|line| line.split_once(" - ")).and_then(|(_, rest)| rest.split(' ').next());
    kind.is_some_and(|kind| LOCAL.contains(&kind))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_has_no_file_system_and_local_files_are_harmless() {
        let memory = crate::os::sealed::sealed(c"test", b"x").unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let file = File::open("/dev/null").unwrap();
        let stream = UnixStream::pair().unwrap().0;
        let all: [OwnedFd; 5] = [memory, read.into(), write.into(), file.into(), stream.into()];
        assert!(are_harmless(&all));
        let pidfd = crate::os::linux::pidfd_open(std::process::id()).unwrap();
        assert!(are_harmless(&[pidfd]));
    }

    #[test]
    fn a_mount_that_is_not_ours_or_not_local_is_not_believed() {
        let mounts =
            "22 1 0:20 / /proc rw - proc proc rw\n40 22 0:31 / /home/u/x rw - fuse.sshfs a - ext4 rw\n";
        assert!(is_local(mounts, "22"));
        assert!(!is_local(mounts, "40") && !is_local(mounts, "41") && !is_local("", "22"));
    }
}

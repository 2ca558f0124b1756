//! Opening a file by a path that others gave, so that reading it does not wait for what may never come.
//!
//! A path may lead to a FIFO, whose other end nobody opens; to a device, which does something when it is opened; or to a
//! file of the kernel, which calls itself regular and waits for the next message (`/proc/kmsg`,
//! `/sys/kernel/tracing/trace_pipe`), and takes those that are there away from whoever should have them. What remains is a file
//! system that does not answer: no flag helps there, so whoever may not hang opens and reads on a thread.

use std::fs::{File, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Opens a regular file for reading. It has `O_NONBLOCK`: should it be one that waits all the same, reading it fails
/// (`EAGAIN`).
///
/// # Errors
/// Any of `open(2)`; what is not a regular file of a file system, by the name of its kind.
pub fn open(path: &Path) -> io::Result<File> {
    // Looked at before it is opened, which is more than looking at it: to some devices it is an order.
    refuse(&path.metadata()?)?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        // Somebody has a lease on it, as file servers do, and is told now that we want it (`fcntl(2)`): a short wait.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => open_in_the_end(path),
        file => file,
    }?;
    refuse(&file.metadata()?)?;
    if is_of_the_kernel(&file)? {
        return Err(invalid("a file of the kernel, which may keep its reader waiting for ever"));
    }
    Ok(file)
}

fn open_in_the_end(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NOCTTY).open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(file)
}

fn refuse(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    Err(invalid(&format!("{}, not a file", kind(found.file_type()))))
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() => "a character device",
        kind if kind.is_block_device() => "a block device",
        _ => "something else",
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// It lies in one of the file systems whose files are questions to the kernel, some of which have no answer yet.
#[cfg(target_os = "linux")]
fn is_of_the_kernel(file: &File) -> io::Result<bool> {
    use nix::sys::statfs::{DEBUGFS_MAGIC, PROC_SUPER_MAGIC, TRACEFS_MAGIC, fstatfs};
    let lies_in = fstatfs(file)?.filesystem_type();
    Ok([PROC_SUPER_MAGIC, TRACEFS_MAGIC, DEBUGFS_MAGIC].contains(&lies_in))
}

/// There are none.
#[cfg(target_os = "macos")]
fn is_of_the_kernel(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str) -> String {
        open(Path::new(path)).unwrap_err().to_string()
    }

    #[test]
    fn what_may_keep_its_reader_waiting_is_refused_by_its_kind() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name).display().to_string();
        nix::unistd::mkfifo(at("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        assert_eq!(refused(&at("fifo")), "a FIFO, not a file");
        assert_eq!(refused(&at("link")), "a FIFO, not a file");
        assert_eq!(refused(&at("socket")), "a socket, not a file");
        assert_eq!(refused("/dev/zero"), "a character device, not a file");
        assert_eq!(refused(&at(".")), "a directory, not a file");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_of_the_kernel_are_refused_and_what_they_lead_to_is_not() {
        use std::os::fd::AsRawFd;
        assert!(refused("/proc/self/status").starts_with("a file of the kernel"));
        // Where we may not open it, it is refused, too.
        assert!(open(Path::new("/proc/kmsg")).is_err());
        let file = tempfile::tempfile().unwrap();
        open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).unwrap();
    }
}

//! Binding a Unix socket to a path so that nobody else can use it yet, and knowing which file that made.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::Mode;
use socket2::{SockAddr, SockRef};

use crate::os::open_directory::{OpenDirectory, identity};
use crate::os::pin::Pin;

/// Nobody but the owner.
const CLOSED: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Binds a Unix socket to a path, and gives the file that this has made: 0600 less the umask from the moment that it is
/// there. Whoever may write in its directory can put another in its place at any time; what is done to the file is
/// done to the one that is given.
///
/// The path is walked before, to `name` in `directory`, and `bind(2)` walks it again, since the address is what everybody
/// is shown. Where that was led elsewhere meanwhile, its file is removed, and it is an error.
///
/// # Errors
/// Any of `bind(2)`; another file is in its place already.
pub fn bind_closed(socket: impl AsFd, path: &Path) -> io::Result<Pin> {
    let (directory, name) = OpenDirectory::of(path)?;
    bind_closed_in(socket, &directory, name)
}

/// The same in a directory that is open, at its path.
///
/// # Errors
/// As [`bind_closed`].
pub(super) fn bind_closed_in(socket: impl AsFd, directory: &OpenDirectory, name: &OsStr) -> io::Result<Pin> {
    let path = directory.path().join(name);
    bind_with_mode(&socket, &path, CLOSED)?;
    let pin = made(&socket, directory, &path)?;
    if directory.look(name)?.is_some_and(|found| identity(&found) == pin.identity()) {
        return Ok(pin);
    }
    remove_astray(&pin);
    Err(lost())
}

fn lost() -> io::Error {
    io::Error::other("somebody else put another file in the socket's place while it was made")
}

#[cfg(target_os = "linux")]
fn bind_with_mode(socket: &impl AsFd, path: &Path, mode: Mode) -> io::Result<()> {
    // The file gets the socket's own mode, less the umask (unix_bind in net/unix/af_unix.c).
    nix::sys::stat::fchmod(socket, mode)?;
    SockRef::from(socket).bind(&SockAddr::unix(path)?)
}

/// See the other. The file gets 0777 less the umask (`unp_bind` in bsd/kern/uipc_usrreq.c), and a socket has no
/// mode of its own. The umask is the whole process's; its one other thread makes no files.
#[cfg(target_os = "macos")]
fn bind_with_mode(socket: &impl AsFd, path: &Path, mode: Mode) -> io::Result<()> {
    let before = nix::sys::stat::umask(mode.complement());
    let bound = SockRef::from(socket).bind(&SockAddr::unix(path)?);
    nix::sys::stat::umask(before);
    bound
}

/// The file that a socket was just bound to: as the kernel says, or where it does not say so to us, the one at the path if
/// it can be nothing else. Another socket of our own user's that was never opened to anybody passes for it, and whoever
/// could move such a one there owns its directory.
#[cfg(target_os = "linux")]
fn made(socket: &impl AsFd, directory: &OpenDirectory, path: &Path) -> io::Result<Pin> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    if let Ok(file) = crate::os::linux::file_of_socket(socket.as_fd()) {
        return Pin::of(std::fs::File::from(file));
    }
    let name = path.file_name().unwrap_or_default();
    let file = directory.open_file(name, nix::fcntl::OFlag::O_PATH, Mode::empty())?;
    let found = file.metadata()?;
    let ours = nix::unistd::geteuid().as_raw();
    let is_closed = found.mode() & 0o7777 & !CLOSED.bits() == 0;
    if !found.file_type().is_socket() || found.uid() != ours || found.nlink() != 1 || !is_closed {
        return Err(lost());
    }
    Pin::of(file)
}

/// See the other: here it can only be looked at.
#[cfg(target_os = "macos")]
fn made(_socket: &impl AsFd, _directory: &OpenDirectory, path: &Path) -> io::Result<Pin> {
    Pin::at(path)
}

/// Removes a file that was made where it should not be. One that cannot be found any more stays; nobody can connect.
#[cfg(target_os = "linux")]
fn remove_astray(pin: &Pin) {
    let Ok(path) = std::fs::read_link(pin.reach(Path::new(""))) else { return };
    if let Ok((directory, name)) = OpenDirectory::of(&path) {
        let _ = directory.remove_if(name, pin.identity());
    }
}

/// See the other. Nothing tells where it is.
#[cfg(target_os = "macos")]
fn remove_astray(_pin: &Pin) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn without_the_kernels_word_only_a_closed_socket_of_ours_with_one_name_is_the_file() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = OpenDirectory::open(scratch.path()).unwrap();
        let path = scratch.path().join("socket");
        // Nothing that is bound: the kernel has no word on it.
        let unbound = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let found = || made(&unbound, &directory, &path).map(|pin| pin.identity());
        assert!(found().is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let mode = |mode| Pin::at(&path).unwrap().set_mode(Mode::from_bits_truncate(mode)).unwrap();
        mode(0o600);
        let inode = std::fs::metadata(&path).unwrap().ino();
        assert_eq!(found().unwrap().1, inode);
        assert_eq!(made(&listener, &directory, &path).unwrap().identity().1, inode);
        std::fs::hard_link(&path, scratch.path().join("other")).unwrap();
        assert!(found().is_err());
        std::fs::remove_file(scratch.path().join("other")).unwrap();
        mode(0o666);
        assert!(found().is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        mode(0o600);
        assert!(found().is_err());
    }

    #[test]
    fn a_file_that_was_made_elsewhere_is_removed_there() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let pin = Pin::at(&path).unwrap();
        remove_astray(&pin);
        assert!(!path.exists());
        remove_astray(&pin);
    }
}

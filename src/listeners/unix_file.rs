//! The file of a Unix socket: made under a lock, removed only by who made it.
//!
//! That the file disappears under a service, or that a stale one keeps it from starting, is the fault that
//! users of such software report most. The rules: a lock file beside the socket is held as long as the
//! socket is, so that two daemons never believe that the same path is theirs; what lies at the path is
//! removed only if it is a socket to which nobody answers; and at the end the file is removed only if it is
//! still the one that was made.
//!
//! The directory may be somebody else's, who can put what he likes in the file's place while we are root: owner and mode
//! are set on the file that was made, not on what the path leads to, and what is removed is removed by its name in the
//! directory that was walked to (decision 0021).

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{Gid, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

use super::error::BindError;
use crate::config::model::{GroupId, UserId};
use crate::os::lock::{Lock, LockError};
use crate::os::open_directory::{OpenDirectory, identity};
use crate::os::pin::Pin;
use crate::os::socket;

/// The mode of a socket's file where the configuration names none, as for `SocketMode=` in
/// `systemd.socket(5)`.
const DEFAULT_MODE: u32 = 0o666;

/// A socket's file that we made.
#[derive(Debug)]
pub(super) struct UnixFile {
    path: PathBuf,
    /// Which file it is, whatever is put in its place.
    pin: Pin,
    /// Held as long as the socket is.
    lock: Option<Lock>,
}

/// Who may connect.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Access {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl UnixFile {
    /// Binds `socket` to `path`. Nobody can connect before it listens, so the file is as it should be by
    /// then; a datagram socket is closed to everybody until its mode is set.
    pub(super) fn bind(socket: &Socket, path: &Path, access: Access) -> Result<Self, BindError> {
        let lock = lock(path)?;
        Self::bind_locked(socket, path, access, lock)
    }

    /// Makes the file anew for another socket, under the lock that is held.
    pub(super) fn rebind(mut self, socket: &Socket, access: Access) -> Result<Self, BindError> {
        self.remove();
        let held = self.lock.take().map_or_else(|| lock(&self.path), Ok)?;
        Self::bind_locked(socket, &self.path, access, held)
    }

    fn bind_locked(socket: &Socket, path: &Path, access: Access, lock: Lock) -> Result<Self, BindError> {
        let fault = |error: io::Error| BindError::of(path.display(), error);
        clear(path, socket.r#type().map_err(fault)?)?;
        let pin = socket::bind_closed(socket, path).map_err(fault)?;
        let file = Self { path: path.to_owned(), pin, lock: Some(lock) };
        let given = open_up(&file.pin, access, mode_of(access.mode));
        if let Err(error) = given {
            file.remove();
            return Err(fault(error));
        }
        Ok(file)
    }

    /// Gives the file another owner; `None`: our own.
    pub(super) fn set_owner(&self, user: Option<&UserId>, group: Option<&GroupId>) -> io::Result<()> {
        self.must_be_ours()?;
        let uid = user.map_or_else(nix::unistd::geteuid, |user| Uid::from_raw(user.uid));
        let gid = group.map_or_else(nix::unistd::getegid, |group| Gid::from_raw(group.gid));
        self.pin.set_owner(Some(uid), Some(gid))
    }

    /// Gives the file another mode; `None`: 0666.
    pub(super) fn set_mode(&self, mode: Option<u32>) -> io::Result<()> {
        self.must_be_ours()?;
        self.pin.set_mode(mode_of(mode))
    }

    fn must_be_ours(&self) -> io::Result<()> {
        let lost = || io::Error::new(io::ErrorKind::NotFound, "the socket's file is not ours any more");
        self.is_ours().then_some(()).ok_or_else(lost)
    }

    /// The path still leads to the file that we made.
    pub(super) fn is_ours(&self) -> bool {
        self.pin.is_at(&self.path)
    }

    pub(super) fn remove(&self) {
        if let Ok((directory, name)) = OpenDirectory::of(&self.path) {
            // Another process can be in between only if it ignores the lock.
            let _ = directory.remove_if(name, self.pin.identity());
        }
    }
}

/// The bits of a mode; `None`: those of the default. A mode of the configuration has no others.
fn mode_of(mode: Option<u32>) -> Mode {
    let bits = libc::mode_t::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0);
    Mode::from_bits_truncate(bits)
}

/// Owner first: a mode that is given to the wrong owner would be open for a moment.
fn open_up(file: &Pin, access: Access, mode: Mode) -> io::Result<()> {
    let (uid, gid) = (access.uid.map(Uid::from_raw), access.gid.map(Gid::from_raw));
    if uid.is_some() || gid.is_some() {
        file.set_owner(uid, gid)?;
    }
    file.set_mode(mode)
}

fn lock(path: &Path) -> Result<Lock, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    Lock::take(Path::new(&name)).map_err(|error| match error {
        LockError::Held { holder, .. } => BindError::HeldByAnother(path.to_owned(), holder),
        LockError::File { path, source } => BindError::of(path.display(), source),
    })
}

/// Makes room at a path, if what is there is a socket that nobody holds any more.
fn clear(path: &Path, kind: Type) -> Result<(), BindError> {
    let fault = |error: io::Error| BindError::of(path.display(), error);
    let (directory, name) = OpenDirectory::of(path).map_err(fault)?;
    let Some(found) = directory.look(name).map_err(fault)? else { return Ok(()) };
    if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFSOCK.bits() {
        return Err(BindError::Occupied(path.to_owned()));
    }
    let pin = Pin::at(path).map_err(fault)?;
    if pin.identity() != identity(&found) {
        return Err(BindError::Occupied(path.to_owned()));
    }
    if !is_stale(&pin, path, kind).map_err(fault)? {
        return Err(BindError::Live(path.to_owned()));
    }
    directory.remove_if(name, pin.identity()).map_err(fault)
}

/// Looks whether a socket could be bound at a path, as far as that can be seen without touching anything.
pub(super) fn look(path: &Path) -> Result<(), BindError> {
    let fault = |error: io::Error| BindError::of(path.display(), error);
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(BindError::Occupied(path.to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault(error)),
        Err(_) => path.parent().map_or(Ok(()), |parent| parent.metadata().map(drop).map_err(fault)),
    }
}

/// Nobody has the socket open that this file leads to.
fn is_stale(file: &Pin, path: &Path, kind: Type) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(file.reach(path))?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(!socket::is_bound_by_somebody(path))
        }
        // It answers, is too busy to, or is of another kind (EPROTOTYPE): somebody has it open.
        _ => Ok(false),
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.remove();
            // A lock file that stays is no harm: it is not locked.
            let _ = lock.remove();
        }
    }
}

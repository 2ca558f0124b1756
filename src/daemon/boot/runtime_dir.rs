//! The daemon's own directory: lock, control socket, notify sockets; and its pid file.
//!
//! The lock makes a second daemon of the same name end at once. What an earlier one left behind is cleared
//! under it.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::net::UnixListener;

use crate::config::model::{Address, GroupId, SocketOptions, UnixKind, UnixName};
use crate::listeners::Held;
use crate::os::directory::{self, DirectoryError};
use crate::os::lock::{Lock, LockError};
use crate::os::open_directory::OpenDirectory;
use crate::os::socket::refuse_fds;
use crate::os::words;

/// Everybody may find the control socket; who may use it, it says itself.
const DIRECTORY_MODE: u32 = 0o755;
/// Workers of any user reach their notify sockets, and nobody can list them.
const NOTIFY_MODE: u32 = 0o711;
/// The name of the lock in its directory.
const LOCK: &str = "lock";
/// The name of the directory of notify sockets.
const NOTIFY: &str = "notify";
/// Where unguessable names come from.
const RANDOM: &str = "/dev/urandom";
/// Bytes of a pid file that are read.
const PID_FILE_MAX: u64 = 32;
/// Letters of a notify socket's name.
const NAME_LENGTH: usize = 24;
/// The longest path of a Unix socket: `sun_path` less its final NUL (`unix(7)`).
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The directory cannot be used; for a person.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Another daemon of this name runs.
    #[error("another handover runs in {directory}{}\nhint: `handover reload` has it read its configuration again; a second daemon needs another name", .pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Running {
        /// Its directory.
        directory: PathBuf,
        /// Its process.
        pid: Option<u32>,
    },
    /// Paths in it would be too long for sockets.
    #[error("{0}: the path is too long for the sockets in it (at most {max} bytes)\nhint: give a shorter one with --socket", max = SOCKET_PATH_MAX - NAME_LENGTH - "/notify/".len())]
    TooLong(PathBuf),
    /// Anything else.
    #[error("{subject}: {what}")]
    Failed {
        /// What it is about.
        subject: String,
        /// What the system said.
        what: String,
    },
}

impl RuntimeError {
    fn of_directory(error: DirectoryError) -> Self {
        match error {
            DirectoryError::System { path, source } => Self::of(&path, words(&source)),
            DirectoryError::NotADirectory(path) => Self::of(&path, "not a directory"),
            DirectoryError::Foreign { path, owner } => Self::of(&path, format!("belongs to uid {owner}")),
        }
    }

    fn of(subject: &Path, what: impl ToString) -> Self {
        Self::Failed { subject: subject.display().to_string(), what: what.to_string() }
    }
}

/// See the module.
pub(in crate::daemon) struct Runtime {
    directory: PathBuf,
    notify: PathBuf,
    /// `None`: there is none.
    control_path: Option<PathBuf>,
    control_group: Option<GroupId>,
    /// `None`: there is none; or its file was lost, and could not be made anew.
    control: Option<Held>,
    pid_file: Option<PathBuf>,
    pid_file_written: Cell<bool>,
    lock: RefCell<Option<Lock>>,
}

impl Runtime {
    /// Takes the directory, and binds the control socket at `control`, if there is to be one.
    pub(in crate::daemon) fn take(
        path: &Path,
        control: Option<&Path>,
        group: Option<&GroupId>,
        pid_file: Option<PathBuf>,
    ) -> Result<Self, RuntimeError> {
        if path.as_os_str().len() + "/notify/".len() + NAME_LENGTH > SOCKET_PATH_MAX {
            return Err(RuntimeError::TooLong(path.to_owned()));
        }
        let directory = directory::secure(path, DIRECTORY_MODE).map_err(RuntimeError::of_directory)?;
        let lock = Lock::take_in(&directory, LOCK.as_ref()).map_err(|error| match error {
            LockError::Held { holder, .. } => {
                RuntimeError::Running { directory: path.to_owned(), pid: holder }
            }
            LockError::File { path, source } => RuntimeError::of(&path, source),
        })?;
        let notify = directory::secure_in(&directory, NOTIFY.as_ref(), NOTIFY_MODE);
        let notify = notify.map_err(RuntimeError::of_directory)?;
        clear(&notify).map_err(|error| RuntimeError::of(notify.path(), error))?;
        let held = control.map(|control| bind_control(control, group)).transpose()?;
        Ok(Self {
            directory: path.to_owned(),
            notify: path.join(NOTIFY),
            control_path: control.map(Path::to_owned),
            control_group: group.cloned(),
            control: held,
            pid_file,
            pid_file_written: Cell::new(false),
            lock: RefCell::new(Some(lock)),
        })
    }

    /// The control socket, listening, where there is one.
    pub(in crate::daemon) fn control_socket(&self) -> io::Result<Option<UnixListener>> {
        let Some(socket) = self.control.as_ref().and_then(|control| control.sockets().next()) else {
            return Ok(None);
        };
        UnixListener::from_std(socket.try_clone()?.into()).map(Some)
    }

    /// Where the control socket is, where there is one.
    pub(in crate::daemon) fn control_path(&self) -> Option<&Path> {
        self.control_path.as_deref()
    }

    /// Something of ours is in this directory, or below it.
    pub(in crate::daemon) fn is_below(&self, directory: &Path) -> bool {
        self.directory.starts_with(directory)
            || self.control_path.as_ref().is_some_and(|path| path.starts_with(directory))
    }

    /// Nobody can connect to the control socket any more: its file is gone, or another one is in its place.
    pub(in crate::daemon) fn has_lost_control(&self) -> bool {
        self.control_path.is_some() && self.control.as_ref().is_none_or(Held::has_lost_its_file)
    }

    /// Binds the control socket afresh. What somebody else listens at is left to them.
    pub(in crate::daemon) fn rebind_control(&mut self) -> Result<(), RuntimeError> {
        // Its lock may be gone with its directory, so it goes first.
        self.control = None;
        self.make_directories().map_err(RuntimeError::of_directory)?;
        if let Some(path) = &self.control_path {
            self.control = Some(bind_control(path, self.control_group.as_ref())?);
        }
        Ok(())
    }

    /// A path for one more notify socket, which nobody can guess. Its directory is there, whatever was removed
    /// while we ran; the error names the path.
    pub(in crate::daemon) fn notify_path(&self) -> io::Result<PathBuf> {
        self.make_directories().map_err(io::Error::other)?;
        Ok(self.notify.join(unguessable()?))
    }

    /// Makes the directories anew that were removed while we ran, and our lock with them. What is there is
    /// neither changed nor cleared.
    fn make_directories(&self) -> Result<(), DirectoryError> {
        let is_there =
            |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_dir());
        if is_there(&self.notify) {
            return Ok(());
        }
        if !is_there(&self.directory) {
            directory::secure(&self.directory, DIRECTORY_MODE)?;
        }
        directory::secure(&self.notify, NOTIFY_MODE)?;
        tracing::warn!(path = %self.notify.display(), "directory was removed while in use, and is made anew");
        let mut lock = self.lock.borrow_mut();
        if !lock.as_ref().is_some_and(Lock::is_in_place) {
            match Lock::take(&self.directory.join(LOCK)) {
                Ok(new) => *lock = Some(new),
                Err(error) => tracing::warn!(%error, "lock of the runtime directory not taken again"),
            }
        }
        Ok(())
    }

    /// Writes the pid file, once; whole or not at all, and never through a link. The error names the path.
    pub(in crate::daemon) fn write_pid_file(&self) -> io::Result<()> {
        let Some(path) = self.pid_file.as_ref().filter(|_| !self.pid_file_written.get()) else {
            return Ok(());
        };
        let written = OpenDirectory::of(path).and_then(|(directory, name)| write_pid(&directory, name));
        self.pid_file_written.set(written.is_ok());
        written.map_err(|error| io::Error::other(format!("{}: {}", path.display(), words(&error))))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(path) = self.pid_file.as_ref().filter(|_| self.pid_file_written.get())
            && let Ok((directory, name)) = OpenDirectory::of(path)
            && names_us(&directory, name).unwrap_or(false)
        {
            let _ = directory.remove(name);
        }
        self.control = None;
        // Without our lock at its place the directory is another daemon's by now.
        if let Some(lock) = self.lock.take().filter(Lock::is_in_place) {
            remove_empty(&self.notify);
            let _ = lock.remove();
            // One beside a socket is of our own making; the usual one may be the service manager's.
            if self.control_path.as_deref().and_then(Path::parent) != Some(&self.directory) {
                remove_empty(&self.directory);
            }
        }
    }
}

/// Removes the directory of a daemon that is gone, if it is.
pub(in crate::daemon) fn remove_abandoned(path: &Path) {
    let Ok((parent, name)) = OpenDirectory::of(path) else { return };
    let Ok(directory) = parent.directory(name) else { return };
    let Ok(lock) = Lock::take_in(&directory, LOCK.as_ref()) else { return };
    // What cannot be removed now, another daemon will try again.
    if let Ok(notify) = directory.directory(NOTIFY.as_ref()) {
        let _ = clear(&notify);
    }
    let _ = directory.remove_directory(NOTIFY.as_ref());
    let _ = lock.remove();
    let _ = parent.remove_directory(name);
}

fn remove_empty(path: &Path) {
    if let Ok((parent, name)) = OpenDirectory::of(path) {
        let _ = parent.remove_directory(name);
    }
}

/// Whole or not at all, and never through a link.
fn write_pid(directory: &OpenDirectory, name: &OsStr) -> io::Result<()> {
    let pid = std::process::id();
    let mut new = name.to_owned();
    new.push(format!(".{pid}"));
    let _ = directory.remove(&new);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let written = directory
        .open_file(&new, flags, Mode::from_bits_truncate(0o666))
        .and_then(|mut file| writeln!(file, "{pid}"))
        .and_then(|()| directory.rename(&new, name));
    if written.is_err() {
        let _ = directory.remove(&new);
    }
    written
}

/// A name that nobody can guess, of [`NAME_LENGTH`] letters.
pub(in crate::daemon) fn unguessable() -> io::Result<String> {
    let mut random = [0_u8; NAME_LENGTH / 2];
    File::open(RANDOM)
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| io::Error::other(format!("{RANDOM}: {}", words(&error))))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A pid file holds our pid. Neither a link is followed nor the other end of a FIFO waited for.
fn names_us(directory: &OpenDirectory, name: &OsStr) -> io::Result<bool> {
    let file = directory.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut text = String::new();
    file.take(PID_FILE_MAX).read_to_string(&mut text)?;
    Ok(text.trim() == std::process::id().to_string())
}

/// Removes what an earlier daemon left; only sockets are ever here.
fn clear(directory: &OpenDirectory) -> io::Result<()> {
    for name in directory.names()? {
        let _ = directory.remove(&name);
    }
    Ok(())
}

fn bind_control(path: &Path, group: Option<&GroupId>) -> Result<Held, RuntimeError> {
    let address = Address::Unix(UnixKind::Stream, UnixName::Path(path.to_owned()));
    let options = SocketOptions {
        backlog: Some(64),
        nonblocking: Some(true),
        mode: Some(if group.is_some() { 0o660 } else { 0o600 }),
        group: group.cloned(),
        ..SocketOptions::default()
    };
    let held = Held::bind(&address, &options).map_err(|error| RuntimeError::Failed {
        subject: "control socket".to_owned(),
        what: error.to_string(),
    })?;
    // An older kernel cannot: see `control::server::plain`.
    for socket in held.sockets() {
        refuse_fds(socket);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn runtime(directory: &Path, pid_file: Option<PathBuf>) -> Runtime {
        let control = directory.join("control");
        Runtime::take(&directory.join("run"), Some(&control), None, pid_file).unwrap()
    }

    #[test]
    fn directories_that_were_removed_are_made_anew_and_another_daemon_is_kept_out() {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = runtime(scratch.path(), None);
        let directory = scratch.path().join("run");
        std::fs::remove_dir_all(&directory).unwrap();
        let path = runtime.notify_path().unwrap();
        assert_eq!((mode(&directory), mode(path.parent().unwrap())), (0o755, 0o711));
        let second = Runtime::take(&directory, Some(&scratch.path().join("other")), None, None).map(drop);
        assert!(matches!(second, Err(RuntimeError::Running { .. })), "{second:?}");

        std::fs::write(&path, "a socket of a worker").unwrap();
        let again = runtime.notify_path().unwrap();
        assert!(path.exists() && again != path, "nothing is cleared");
        std::fs::remove_file(&path).unwrap();
        drop(runtime);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = runtime(scratch.path(), None);
        let directory = scratch.path().join("run");
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::write(&directory, "in the way").unwrap();
        let error = runtime.notify_path().unwrap_err().to_string();
        assert!(error.contains(directory.to_str().unwrap()), "{error}");
    }

    #[test]
    fn what_is_another_daemons_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let ours = runtime(scratch.path(), None);
        std::fs::rename(scratch.path().join("run"), scratch.path().join("moved")).unwrap();
        let theirs = Runtime::take(&scratch.path().join("run"), None, None, None);
        drop(ours);
        assert!(scratch.path().join("run/notify").is_dir());
        drop(theirs.unwrap());
        assert!(!scratch.path().join("run").exists());
    }

    #[tokio::test]
    async fn a_control_socket_that_lost_its_file_is_bound_afresh() {
        let scratch = tempfile::tempdir().unwrap();
        let mut runtime = runtime(scratch.path(), None);
        assert!(!runtime.has_lost_control());
        std::fs::remove_file(runtime.control_path().unwrap()).unwrap();
        assert!(runtime.has_lost_control());
        runtime.rebind_control().unwrap();
        assert!(!runtime.has_lost_control());
        let listener = runtime.control_socket().unwrap().unwrap();
        std::os::unix::net::UnixStream::connect(runtime.control_path().unwrap()).unwrap();
        listener.accept().await.unwrap();
    }

    #[test]
    fn only_our_own_pid_file_is_removed_and_a_fifo_is_not_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (scratch.path().join("pid"), scratch.path().join("elsewhere"));
        let written = || {
            let runtime = runtime(scratch.path(), Some(path.clone()));
            runtime.write_pid_file().unwrap();
            let (directory, name) = OpenDirectory::of(&path).unwrap();
            assert!(names_us(&directory, name).unwrap());
            runtime
        };
        drop(written());
        assert!(!path.exists());

        let runtime = written();
        std::fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        drop(runtime);
        assert!(std::fs::symlink_metadata(&path).is_ok());
        std::fs::remove_file(&path).unwrap();

        let runtime = written();
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(runtime);
        assert!(path.exists());
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("missing/pid");
        let error = runtime(scratch.path(), Some(path.clone())).write_pid_file().unwrap_err().to_string();
        assert_eq!(error, format!("{}: no such file or directory", path.display()));
    }
}

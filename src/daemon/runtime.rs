//! The daemon's own directory: lock, control socket, notify sockets; and its pid file.
//!
//! The lock makes a second daemon of the same name end at once. What an earlier one left behind is cleared
//! under it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::config::model::{Address, GroupId, SocketOptions, UnixKind, UnixName};
use crate::listeners::Held;
use crate::os::directory;
use crate::os::lock::{Lock, LockError};

/// Letters of a notify socket's name.
const NAME_LENGTH: usize = 24;
/// The longest path of a Unix socket: `sun_path` less its final NUL (`unix(7)`).
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The directory cannot be used; for a person.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Another daemon of this name runs.
    #[error("another handover runs in {directory}{}", .pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
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
    fn of(subject: &Path, what: impl ToString) -> Self {
        Self::Failed { subject: subject.display().to_string(), what: what.to_string() }
    }
}

/// See the module.
pub(super) struct Runtime {
    notify: PathBuf,
    control: Held,
    pid_file: Option<PathBuf>,
    pid_file_written: RefCell<bool>,
    lock: Option<Lock>,
}

impl Runtime {
    /// Takes the directory, and binds the control socket at `control`.
    pub(super) fn take(
        path: &Path,
        control: &Path,
        group: Option<&GroupId>,
        pid_file: Option<PathBuf>,
    ) -> Result<Self, RuntimeError> {
        if path.as_os_str().len() + "/notify/".len() + NAME_LENGTH > SOCKET_PATH_MAX {
            return Err(RuntimeError::TooLong(path.to_owned()));
        }
        directory::secure(path, 0o755).map_err(|error| RuntimeError::of(path, error))?;
        let lock = Lock::take(&path.join("lock")).map_err(|error| match error {
            LockError::Held { holder, .. } => {
                RuntimeError::Running { directory: path.to_owned(), pid: holder }
            }
            LockError::File { path, source } => RuntimeError::of(&path, source),
        })?;
        let notify = path.join("notify");
        directory::secure(&notify, 0o711).map_err(|error| RuntimeError::of(&notify, error))?;
        clear(&notify).map_err(|error| RuntimeError::of(&notify, error))?;
        let control = bind_control(control, group)?;
        Ok(Self { notify, control, pid_file, pid_file_written: RefCell::new(false), lock: Some(lock) })
    }

    /// The control socket, listening.
    pub(super) fn control_socket(&self) -> io::Result<UnixListener> {
        let socket = self.control.sockets().next().ok_or(io::ErrorKind::NotFound)?;
        UnixListener::from_std(socket.try_clone()?.into())
    }

    /// A path for one more notify socket, which nobody can guess.
    pub(super) fn notify_path(&self) -> io::Result<PathBuf> {
        let mut random = [0_u8; NAME_LENGTH / 2];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.notify.join(name))
    }

    /// Writes the pid file, once; whole or not at all, and never through a link.
    pub(super) fn write_pid_file(&self) -> io::Result<()> {
        let Some(path) = self.pid_file.as_ref().filter(|_| !*self.pid_file_written.borrow()) else {
            return Ok(());
        };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(name);
        let _ = std::fs::remove_file(&new);
        let written = File::create_new(&new)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()))
            .and_then(|()| std::fs::rename(&new, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        *self.pid_file_written.borrow_mut() = written.is_ok();
        written
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(path) = self.pid_file.as_ref().filter(|_| *self.pid_file_written.borrow())
            && std::fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string())
        {
            let _ = std::fs::remove_file(path);
        }
        let _ = std::fs::remove_dir(&self.notify);
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove();
        }
    }
}

/// Removes what an earlier daemon left; only sockets are ever here.
fn clear(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let _ = std::fs::remove_file(entry?.path());
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
    Held::bind(&address, &options).map_err(|error| RuntimeError::Failed {
        subject: "control socket".to_owned(),
        what: error.to_string(),
    })
}

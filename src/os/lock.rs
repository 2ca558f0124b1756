//! A lock that ends with its process: a file with `flock(2)` on it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;

use super::open_directory::{OpenDirectory, identity};

/// Bytes of the holder's pid that are read.
const HOLDER_MAX: u64 = 32;

/// A lock that is held. Dropping it gives it up and leaves the file; [`remove`](Self::remove) takes the file
/// away, too.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, holds it.
    #[error("{path}: locked by {}", .holder.map_or_else(|| "another process".into(), |pid| format!("pid {pid}")))]
    Held {
        /// Which lock.
        path: PathBuf,
        /// Who, as the file says.
        holder: Option<u32>,
    },
    /// The file cannot be made or locked.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock at `path` or fails at once. The file is made where it is missing, 0600, and holds our
    /// pid while it is locked.
    ///
    /// # Errors
    /// [`LockError::Held`], or where the file cannot be used. Only a regular file of our own user with one link is
    /// one: what somebody else has put in its place is left as it is.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let (directory, name) =
            OpenDirectory::of(path).map_err(|source| LockError::File { path: path.into(), source })?;
        Self::take_in(&directory, name)
    }

    /// The same in a directory that is open.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_in(directory: &OpenDirectory, name: &OsStr) -> Result<Self, LockError> {
        let path = directory.path().join(name);
        let failed = |source: io::Error| LockError::File { path: path.clone(), source };
        loop {
            let file = open(directory, name).map_err(failed)?;
            if !is_usable(&file).map_err(failed)? {
                continue;
            }
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((file, Errno::EWOULDBLOCK)) => {
                    return Err(LockError::Held { path, holder: holder(&file) });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // Whoever held it before us may have removed the file after we had opened it.
            if !is_in(directory, name, &file).map_err(failed)? {
                continue;
            }
            must_be_a_locks(&file).map_err(failed)?;
            file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Self { path, file });
        }
    }

    /// Its file is still at its path.
    pub fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path).unwrap_or(false)
    }

    /// Gives the lock up and removes its file, where that is still ours.
    ///
    /// # Errors
    /// Where the file cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        let (directory, name) = OpenDirectory::of(&self.path)?;
        let ours = self.file.metadata()?;
        directory.remove_if(name, (ours.dev(), ours.ino()))
    }
}

/// The process that holds the lock at `path`, as the file says: for a person. It may be gone.
pub fn holder_at(path: &Path) -> Option<u32> {
    let (directory, name) = OpenDirectory::of(path).ok()?;
    let file = directory.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).ok()?;
    holder(&file)
}

/// Neither waits for the other end of a FIFO nor follows a link.
fn open(directory: &OpenDirectory, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK;
    directory.open_file(name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// False: it was removed meanwhile. An error says what is wrong with it.
fn is_usable(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    let ours = nix::unistd::geteuid().as_raw();
    let wrong = match (found.is_file(), found.uid(), found.nlink()) {
        (false, ..) => "not a regular file, so it is no lock".to_owned(),
        (true, owner, _) if owner != ours => format!("belongs to uid {owner}, so it is no lock of ours"),
        (true, _, links) if links > 1 => format!("has {links} links, so it is no lock of ours"),
        (true, _, links) => return Ok(links == 1),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
}

/// Who holds it, as it says.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(HOLDER_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whoever owns the directory can give the name of a lock to any file of ours that is in it, and what is in that would be
/// lost: only what a lock can have held is written over. (After a crash of the machine it may be zeros.)
fn must_be_a_locks(mut file: &File) -> io::Result<()> {
    let is_short = file.metadata()?.len() <= HOLDER_MAX;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(HOLDER_MAX).read_to_end(&mut bytes)?;
    if is_short && bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'\n' | 0)) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "holds something else than a process number, so it is no lock",
    ))
}

fn is_in(directory: &OpenDirectory, name: &OsStr, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    Ok(directory.look(name)?.is_some_and(|there| identity(&there) == (ours.dev(), ours.ino())))
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_says_by_whom() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = Lock::take(&path).unwrap();
        match Lock::take(&path).unwrap_err() {
            LockError::Held { holder, .. } => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other}"),
        }
        drop(lock);
        let lock = Lock::take(&path).unwrap();
        lock.remove().unwrap();
        assert!(!path.exists());
        let lock = Lock::take(&path).unwrap();
        std::fs::rename(&path, directory.path().join("moved")).unwrap();
        std::fs::write(&path, "another's").unwrap();
        lock.remove().unwrap();
        assert!(path.exists(), "only our own file is removed");
    }

    #[test]
    fn a_symbolic_link_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::File { .. })));
    }

    fn refusal(path: &Path) -> String {
        match Lock::take(path).unwrap_err() {
            error @ LockError::File { .. } => error.to_string(),
            error @ LockError::Held { .. } => panic!("{error}"),
        }
    }

    #[test]
    fn a_file_with_another_name_is_no_lock_and_keeps_what_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("lock"), directory.path().join("other"));
        std::fs::write(&other, "precious").unwrap();
        std::fs::hard_link(&other, &path).unwrap();
        assert!(refusal(&path).contains("2 links"), "{}", refusal(&path));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_holds_something_else_is_no_lock_and_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        for text in ["precious", "precious\n1\n", &"1".repeat(100)] {
            std::fs::write(&path, text).unwrap();
            assert!(refusal(&path).contains("something else"), "{}", refusal(&path));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        for left in ["", "4194304\n", "\0\0\0\0"] {
            std::fs::write(&path, left).unwrap();
            drop(Lock::take(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        }
    }

    #[test]
    fn a_fifo_is_no_lock_and_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refusal(&path).contains("not a regular file"));
        let fifo = File::options().read(true).write(true).open(&path).unwrap();
        let held = Flock::lock(fifo, FlockArg::LockExclusiveNonblock).unwrap();
        assert!(refusal(&path).contains("not a regular file"));
        drop(held);
    }

    #[test]
    fn a_file_of_another_user_is_no_lock() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, "precious").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(refusal(&path).contains("belongs to uid 65534"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_long_text_in_a_held_lock_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _lock = Lock::take(&path).unwrap();
        std::fs::write(&path, "1".repeat(1 << 16)).unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::Held { holder: None, .. })));
    }
}

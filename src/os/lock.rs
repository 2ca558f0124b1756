//! A lock that ends with its process: a file with `flock(2)` on it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

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
    /// [`LockError::Held`], or where the file cannot be used (a symbolic link is refused).
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::File { path: path.into(), source };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
                .map_err(failed)?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    return Err(LockError::Held { path: path.into(), holder: text.trim().parse().ok() });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // Whoever held it before us may have removed the file after we had opened it.
            if !is_at(&file, path).map_err(failed)? {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Self { path: path.into(), file });
        }
    }

    /// Gives the lock up and removes its file, where that is still ours.
    ///
    /// # Errors
    /// Where the file cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        if is_at(&self.file, &self.path)? {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
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
}

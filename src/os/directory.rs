//! Directories that only we may write in.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

use super::open_directory::OpenDirectory;

/// Why a directory cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or looked at.
    #[error("{path}: {source}")]
    System {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{0}: not a directory")]
    NotADirectory(PathBuf),
    /// It belongs to another user, who could put things in our place.
    #[error("{path}: belongs to uid {owner}")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
}

/// Makes sure that `path` is a directory of this user with exactly `mode`, whatever the umask, and opens it; missing
/// parents are made with 0755. What a service manager made for us and root owns is accepted as it is.
///
/// # Errors
/// See [`DirectoryError`]. A symbolic link at `path` is not followed.
pub fn secure(path: &Path, mode: u32) -> Result<OpenDirectory, DirectoryError> {
    let failed = |source| DirectoryError::System { path: path.into(), source };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let parent = OpenDirectory::open_or_make(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    secure_in(&parent, name, mode)
}

/// The same in a directory that is open.
///
/// # Errors
/// As [`secure`].
pub fn secure_in(parent: &OpenDirectory, name: &OsStr, mode: u32) -> Result<OpenDirectory, DirectoryError> {
    let path = || parent.path().join(name);
    let failed = |source| DirectoryError::System { path: path(), source };
    parent.make_directory(name, Mode::S_IRWXU).map_err(failed)?;
    let directory = parent.directory(name).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR) => DirectoryError::NotADirectory(path()),
        _ => failed(error),
    })?;
    let found = directory.status().map_err(failed)?;
    let wanted = Mode::from_bits_truncate(libc::mode_t::try_from(mode).unwrap_or(0));
    match found.st_uid {
        owner if owner == nix::unistd::geteuid().as_raw() => {
            if Mode::from_bits_truncate(found.st_mode) != wanted {
                directory.set_mode(wanted).map_err(failed)?;
            }
            Ok(directory)
        }
        0 => Ok(directory),
        owner => Err(DirectoryError::Foreign { path: path(), owner }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_directory_is_made_with_exactly_its_mode_and_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b");
        for mode in [0o711, 0o755, 0o700] {
            secure(&path, mode).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        }
        assert!(scratch.path().join("a").is_dir());
    }

    #[test]
    fn what_is_no_directory_is_refused_and_a_link_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(secure(&file, 0o711), Err(DirectoryError::NotADirectory(_))));
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
        assert!(matches!(secure(&link, 0o711), Err(DirectoryError::NotADirectory(_))));
    }
}

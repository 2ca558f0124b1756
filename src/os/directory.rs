//! Directories that only we may write in.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

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

/// Makes sure that `path` is a directory of this user with exactly `mode`, whatever the umask; missing
/// parents are made with 0755. What a service manager made for us and root owns is accepted as it is.
///
/// # Errors
/// See [`DirectoryError`]. A symbolic link at `path` is not followed.
pub fn secure(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::System { path: path.into(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    let ours = nix::unistd::geteuid().as_raw();
    match (found.is_dir(), found.uid()) {
        (false, _) => Err(DirectoryError::NotADirectory(path.into())),
        (true, owner) if owner == ours => {
            if found.mode() & 0o7777 != mode {
                std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
            }
            Ok(())
        }
        (true, 0) => Ok(()),
        (true, owner) => Err(DirectoryError::Foreign { path: path.into(), owner }),
    }
}

#[cfg(test)]
mod tests {
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

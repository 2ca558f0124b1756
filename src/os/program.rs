//! Which file a command means.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A program that was found, and the file that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Absolute. Links in its directory are resolved, so that a release directory stays the same when the
    /// link to it moves on; the last part is as it was named, since programs look at their own name.
    pub path: PathBuf,
    /// The device of the file behind it.
    pub device: u64,
    /// The inode of the file behind it.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was last changed: seconds and nanoseconds since 1970. Inode numbers are given out
    /// again at once, and a file can be written over in place.
    pub modified: (i64, i64),
}

/// Why a command means no program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No directory of the search path has it.
    #[error("program {name:?} not found in {path:?}")]
    NotInPath {
        /// What was looked for.
        name: PathBuf,
        /// Where.
        path: String,
    },
    /// Nothing is there, or it cannot be looked at.
    #[error("program {path}: {}", super::words(.source))]
    Missing {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no file.
    #[error("program {0}: is a directory or a special file")]
    NotAFile(PathBuf),
    /// Nobody may execute it.
    #[error("program {0}: not executable\nhint: chmod +x {0}")]
    NotExecutable(PathBuf),
}

/// Finds what `name` means: with a slash in it a path, from `directory`; else the first executable file of
/// that name in the directories of `search` (as in `PATH`; entries that are not absolute are passed over).
///
/// Whether its user may execute it is only known when it is started.
///
/// # Errors
/// See [`ProgramError`].
pub fn find(name: &OsStr, search: &OsStr, directory: &Path) -> Result<Program, ProgramError> {
    if name.as_bytes().contains(&b'/') {
        return look(&directory.join(name));
    }
    let mut nearest = None;
    if !name.is_empty() {
        for candidate in std::env::split_paths(search).filter(|entry| entry.is_absolute()) {
            match look(&candidate.join(name)) {
                Ok(program) => return Ok(program),
                Err(error @ ProgramError::NotExecutable(_)) => nearest = nearest.or(Some(error)),
                Err(_) => {}
            }
        }
    }
    let path = search.to_string_lossy().into_owned();
    Err(nearest.unwrap_or(ProgramError::NotInPath { name: name.into(), path }))
}

fn look(path: &Path) -> Result<Program, ProgramError> {
    let missing = |source| ProgramError::Missing { path: path.into(), source };
    let file = std::fs::metadata(path).map_err(missing)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ProgramError::NotAFile(path.into()));
    };
    if !file.is_file() {
        return Err(ProgramError::NotAFile(path.into()));
    }
    if file.mode() & 0o111 == 0 {
        return Err(ProgramError::NotExecutable(path.into()));
    }
    let parent = std::fs::canonicalize(parent).map_err(missing)?;
    let modified = (file.mtime(), file.mtime_nsec());
    let path = parent.join(name);
    Ok(Program { path, device: file.dev(), inode: file.ino(), size: file.len(), modified })
}

impl Program {
    /// Whether the path still leads to the same file, with the same content as far as that can be told.
    pub fn is_unchanged(&self) -> bool {
        look(&self.path).is_ok_and(|now| now == *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn executable(path: &Path) {
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_release_directory_is_pinned_and_a_change_is_seen() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = std::fs::canonicalize(scratch.path()).unwrap();
        for release in ["1", "2"] {
            std::fs::create_dir(scratch.join(release)).unwrap();
            executable(&scratch.join(release).join("server"));
        }
        symlink("1", scratch.join("current")).unwrap();
        let program = find("current/server".as_ref(), "".as_ref(), &scratch).unwrap();
        assert_eq!(program.path, scratch.join("1/server"));
        std::fs::remove_file(scratch.join("current")).unwrap();
        symlink("2", scratch.join("current")).unwrap();
        assert!(program.is_unchanged());
        executable(&scratch.join("new"));
        std::fs::rename(scratch.join("new"), scratch.join("1/server")).unwrap();
        assert!(!program.is_unchanged());
    }

    #[test]
    fn a_name_is_searched_for_and_a_path_is_not() {
        let found = find("sh".as_ref(), "relative:/nonexistent:/bin".as_ref(), Path::new("/")).unwrap();
        assert!(found.path.ends_with("sh") && found.path.is_absolute());
        let error = find("no-such-program".as_ref(), "/bin".as_ref(), Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "program \"no-such-program\" not found in \"/bin\"");
        assert!(matches!(
            find("".as_ref(), "/bin".as_ref(), Path::new("/")),
            Err(ProgramError::NotInPath { .. })
        ));
        let error = find("./sh".as_ref(), "/bin".as_ref(), Path::new("/nonexistent")).unwrap_err();
        assert!(matches!(error, ProgramError::Missing { .. }));
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("text"), "").unwrap();
        let error = find("./text".as_ref(), "".as_ref(), scratch.path()).unwrap_err();
        assert!(error.to_string().contains("not executable\nhint: chmod +x"), "{error}");
        let error = find("text".as_ref(), scratch.path().as_os_str(), Path::new("/")).unwrap_err();
        assert!(matches!(error, ProgramError::NotExecutable(_)));
        assert!(matches!(find("./.".as_ref(), "".as_ref(), scratch.path()), Err(ProgramError::NotAFile(_))));
    }
}

//! Which file a pool's program is, and where it runs: remembered by a generation, looked up afresh when
//! that is gone.
//!
//! A release directory that a symbolic link points to is the usual way to deploy. So the directories on the
//! way are resolved once, when the generation is made: its workers, and those of a rollback, come from the
//! same release. The last part of a program's path is left as it is written, because programs look at it
//! (a Python in a virtual environment, a multi-call binary).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::daemon::reload::inputs::Lookup;
use crate::os::program::{self, Program, ProgramError};
use crate::os::words;

/// Where programs are looked for when nothing else says so (`systemd.exec(5)` has the same).
pub(in crate::daemon) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A directory, and what it was when it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Directory {
    pub(in crate::daemon) path: PathBuf,
    device: u64,
    inode: u64,
}

impl Directory {
    fn find(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = std::fs::metadata(&path)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path, device: metadata.dev(), inode: metadata.ino() })
    }

    fn is_unchanged(&self) -> bool {
        Self::find(&self.path).is_ok_and(|now| now == *self)
    }
}

/// A program that cannot be found, or is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(in crate::daemon) struct Missing {
    /// `directory` or `program`.
    pub(in crate::daemon) stage: &'static str,
    /// For a person, path included.
    pub(in crate::daemon) reason: String,
}

/// A program and the directory that it runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Located {
    pub(in crate::daemon) program: Program,
    pub(in crate::daemon) directory: Directory,
}

impl Located {
    /// Looks a program up. `path` is the search path for names without a slash; a relative path with a
    /// slash is taken from `directory`.
    pub(in crate::daemon) fn look_up(command: &str, directory: &str, path: &str) -> Result<Self, Missing> {
        let wanted = Path::new(directory);
        let directory = Directory::find(wanted).map_err(|error| Missing {
            stage: "directory",
            reason: format!("directory {}: {}", wanted.display(), words(&error)),
        })?;
        let program = program::find(command.as_ref(), path.as_ref(), &directory.path).map_err(|error| {
            Missing { stage: "program", reason: format!("{error}{}", hint(&error, command)) }
        })?;
        Ok(Self { program, directory })
    }

    /// How it differs from another, for a person.
    pub(in crate::daemon) fn differs_from(&self, other: &Self) -> Option<&'static str> {
        let (ours, theirs) = (&self.program, &other.program);
        if ours.path != theirs.path {
            Some("path differs")
        } else if (ours.device, ours.inode) != (theirs.device, theirs.inode) {
            Some("inode differs")
        } else if ours != theirs {
            Some("was written over")
        } else {
            (self != other).then_some("directory differs")
        }
    }

    pub(in crate::daemon) fn is_unchanged(&self) -> bool {
        self.program.is_unchanged() && self.directory.is_unchanged()
    }
}

/// What may have been meant by a command that is none.
fn hint(error: &ProgramError, command: &str) -> &'static str {
    match error {
        ProgramError::NotInPath { .. } | ProgramError::Missing { .. }
            if command.contains(char::is_whitespace) =>
        {
            "\nhint: a command is a list of words, [\"node\", \"server.js\"]; for a shell's line: [\"/bin/sh\", \"-c\", \"…\"]"
        }
        ProgramError::NotInPath { .. } => {
            "\nhint: a program that is not in PATH needs a /, as in \"./server\", taken from `directory`"
        }
        _ => "",
    }
}

/// What a generation remembers of a pool's program. The text of command and directory may differ from slot
/// to slot (`${HANDOVER_SLOT}`), so there may be several.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Memory(RefCell<BTreeMap<(String, String), Located>>);

/// How a program was found for a start.
#[derive(Debug)]
pub(in crate::daemon) struct Recalled {
    pub(in crate::daemon) located: Located,
    /// It is not the one that was remembered.
    pub(in crate::daemon) changed: bool,
}

impl Memory {
    /// What was looked up when the generation was made. What was missing then is looked up again at a start.
    pub(in crate::daemon) fn of(lookup: Lookup) -> Self {
        let Lookup { command, directory, found } = lookup;
        Self(RefCell::new(
            found.into_iter().map(|located| ((command.clone(), directory.clone()), located)).collect(),
        ))
    }

    /// What it remembers for this text of command and directory.
    pub(in crate::daemon) fn remembered(&self, command: &str, directory: &str) -> Option<Located> {
        self.0.borrow().get(&(command.to_owned(), directory.to_owned())).cloned()
    }

    /// The program as it was remembered, if it is still there; else looked up afresh. What was never looked
    /// up before is remembered from now on.
    pub(in crate::daemon) fn recall(
        &self,
        command: &str,
        directory: &str,
        path: &str,
    ) -> Result<Recalled, Missing> {
        let key = (command.to_owned(), directory.to_owned());
        let remembered = self.0.borrow().get(&key).cloned();
        if let Some(located) = remembered.as_ref().filter(|located| located.is_unchanged()) {
            return Ok(Recalled { located: located.clone(), changed: false });
        }
        let located = Located::look_up(command, directory, path)?;
        let changed = remembered.is_some_and(|remembered| remembered != located);
        if !changed {
            self.0.borrow_mut().insert(key, located.clone());
        }
        Ok(Recalled { located, changed })
    }

    /// Something that it remembers is gone or replaced.
    pub(in crate::daemon) fn has_changed(&self) -> bool {
        !self.0.borrow().values().all(Located::is_unchanged)
    }

    /// The programs that it remembers.
    pub(in crate::daemon) fn programs(&self) -> Vec<PathBuf> {
        self.0.borrow().values().map(|located| located.program.path.clone()).collect()
    }
}

/// The first value of `name` among `environment`, as text.
pub(in crate::daemon) fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<String> {
    let (_, value) = environment.iter().find(|(key, _)| key == name)?;
    Some(value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn executable(path: &Path) {
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_generation_stays_with_the_release_that_it_was_made_from() {
        let scratch = tempfile::tempdir().unwrap();
        for release in ["one", "two"] {
            std::fs::create_dir(scratch.path().join(release)).unwrap();
            executable(&scratch.path().join(release).join("app"));
        }
        let current = scratch.path().join("current");
        std::os::unix::fs::symlink("one", &current).unwrap();
        let directory = current.to_str().unwrap();
        let memory = Memory::default();
        let first = memory.recall("./app", directory, DEFAULT_PATH).unwrap();
        std::fs::remove_file(&current).unwrap();
        std::os::unix::fs::symlink("two", &current).unwrap();

        let again = memory.recall("./app", directory, DEFAULT_PATH).unwrap();
        assert_eq!((again.located.clone(), again.changed), (first.located, false));
        assert!(!memory.has_changed());

        std::fs::remove_dir_all(scratch.path().join("one")).unwrap();
        let afresh = memory.recall("./app", directory, DEFAULT_PATH).unwrap();
        assert!(afresh.changed && memory.has_changed());
        assert!(afresh.located.program.path.ends_with("two/app"));
    }
}

//! Files that are made from a configuration, in somebody else's directory: what was made from it before is replaced or
//! removed, and what was not is left alone.
//!
//! First everything is looked at, then everything is written under other names, and only then are names changed: what
//! can go wrong has gone wrong before anything is different, and a reader sees an old file or a new one, never half of
//! one.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::console;
use crate::exit;
use crate::os::{regular, words};

/// More than any file that we make has.
const FILE_MAX: u64 = 4 << 20;

/// The files of one configuration.
pub(super) struct Files<'a> {
    /// Where they are to be.
    pub(super) directory: &'a Path,
    /// Their names and texts.
    pub(super) files: Vec<(&'a str, &'a str)>,
    /// The endings of all names that such files have, with their dots.
    pub(super) suffixes: &'a [&'a str],
    /// The configuration.
    pub(super) source: &'a Path,
    /// Was a file with this text made from that?
    pub(super) is_made_from: fn(text: &str, source: &Path) -> bool,
}

impl Files<'_> {
    /// Writes them all, removes those that are no longer made, and says what it does; gives the exit code.
    pub(super) fn write(&self) -> u8 {
        match self.try_write() {
            Ok(()) => exit::DONE,
            Err(faults) => {
                faults.iter().for_each(console::complain);
                exit::FAILED
            }
        }
    }

    fn try_write(&self) -> Result<(), Vec<String>> {
        let foreign: Vec<String> = self.files.iter().filter_map(|(name, _)| self.foreign(name)).collect();
        if !foreign.is_empty() {
            return Err(foreign);
        }
        let fault = |path: &Path, error: &io::Error| vec![format!("{}: {}", path.display(), words(error))];
        let stale = self.stale().map_err(|error| fault(self.directory, &error))?;
        let mut drafts = Vec::new();
        for (name, text) in &self.files {
            let path = self.directory.join(name);
            drafts.push(Draft::write(&path, text).map_err(|error| fault(&path, &error))?);
        }
        for draft in drafts {
            let path = draft.put_in_place().map_err(|(path, error)| fault(&path, &error))?;
            console::tell(path.display());
        }
        for path in stale {
            fs::remove_file(&path).map_err(|error| fault(&path, &error))?;
            console::tell(format_args!(
                "{}: removed: no longer made from {}",
                path.display(),
                self.source.display()
            ));
        }
        Ok(())
    }

    /// Why a file may not be replaced.
    fn foreign(&self, name: &str) -> Option<String> {
        let path = self.directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && self.is_ours(&path) => None,
            Ok(_) => Some(format!(
                "{}: is there already, and was not made from {}; nothing is written\n\
                 hint: rename the one, or remove the other",
                path.display(),
                self.source.display()
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("{}: {}", path.display(), words(&error))),
        }
    }

    /// Files that were made from this configuration, and are not any more.
    fn stale(&self) -> io::Result<Vec<PathBuf>> {
        let mut stale = Vec::new();
        for entry in fs::read_dir(self.directory)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            let is_wanted = self.files.iter().any(|(wanted, _)| name == OsStr::new(wanted));
            let may_be_ours =
                || self.suffixes.iter().any(|suffix| name.as_bytes().ends_with(suffix.as_bytes()));
            if !is_wanted && may_be_ours() && entry.file_type()?.is_file() && self.is_ours(&path) {
                stale.push(path);
            }
        }
        stale.sort();
        Ok(stale)
    }

    fn is_ours(&self, path: &Path) -> bool {
        let mut text = String::new();
        let read = regular::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        read.is_ok() && (self.is_made_from)(&text, self.source)
    }
}

/// A file under another name, hidden and of a kind that nobody reads. It goes unless it is put in its place.
struct Draft {
    draft: PathBuf,
    path: PathBuf,
    is_in_place: bool,
}

impl Draft {
    fn write(path: &Path, text: &str) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        let made = Self { draft, path: path.to_owned(), is_in_place: false };
        file.write_all(text.as_bytes())?;
        // A file that is renamed and not written is an empty one after a crash.
        file.sync_all()?;
        Ok(made)
    }

    fn put_in_place(mut self) -> Result<PathBuf, (PathBuf, io::Error)> {
        fs::rename(&self.draft, &self.path).map_err(|error| (self.path.clone(), error))?;
        self.is_in_place = true;
        Ok(self.path.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_in_place {
            // Nothing more can be done about one that stays.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

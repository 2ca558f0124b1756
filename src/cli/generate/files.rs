//! Files that are made from a configuration, in somebody else's directory: what was made from it before is replaced or
//! removed, and what was not is left alone.
//!
//! First everything is looked at, then everything is written under other names, and only then are names changed: what
//! can go wrong has gone wrong before anything is different, and a reader sees an old file or a new one, never half of
//! one. The directory is opened once, and no link in it is followed: root may have been asked to write into that of
//! somebody else.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};

use crate::cli::console;
use crate::exit;
use crate::os::open_directory::OpenDirectory;
use crate::os::words;

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
        let fault = |path: &Path, error: &io::Error| vec![format!("{}: {}", path.display(), words(error))];
        let directory = OpenDirectory::open(self.directory).map_err(|error| fault(self.directory, &error))?;
        let foreign = self.files.iter().filter_map(|(name, _)| self.foreign(&directory, name.as_ref()));
        let foreign: Vec<String> = foreign.collect();
        if !foreign.is_empty() {
            return Err(foreign);
        }
        let stale = self.stale(&directory).map_err(|error| fault(self.directory, &error))?;
        let mut drafts = Vec::new();
        for (name, text) in &self.files {
            let draft = Draft::write(&directory, name.as_ref(), text);
            drafts.push(draft.map_err(|error| fault(&self.directory.join(name), &error))?);
        }
        for draft in drafts {
            let path = draft.put_in_place().map_err(|(path, error)| fault(&path, &error))?;
            console::tell(path.display());
        }
        for name in stale {
            let path = self.directory.join(&name);
            directory.remove(&name).map_err(|error| fault(&path, &error))?;
            console::tell(format_args!(
                "{}: removed: no longer made from {}",
                path.display(),
                self.source.display()
            ));
        }
        Ok(())
    }

    /// Why a file may not be replaced.
    fn foreign(&self, directory: &OpenDirectory, name: &OsStr) -> Option<String> {
        let path = self.directory.join(name);
        match directory.look(name) {
            Ok(Some(found)) if is_file(found.st_mode) && self.is_ours(directory, name) => None,
            Ok(Some(_)) => Some(format!(
                "{}: is there already, and was not made from {}; nothing is written\n\
                 hint: rename the one, or remove the other",
                path.display(),
                self.source.display()
            )),
            Ok(None) => None,
            Err(error) => Some(format!("{}: {}", path.display(), words(&error))),
        }
    }

    /// Files that were made from this configuration, and are not any more.
    fn stale(&self, directory: &OpenDirectory) -> io::Result<Vec<OsString>> {
        let mut stale = Vec::new();
        for name in directory.names()? {
            let is_wanted = self.files.iter().any(|(wanted, _)| name == OsStr::new(wanted));
            let may_be_ours =
                || self.suffixes.iter().any(|suffix| name.as_bytes().ends_with(suffix.as_bytes()));
            if is_wanted || !may_be_ours() {
                continue;
            }
            let found = directory.look(&name)?;
            if found.is_some_and(|found| is_file(found.st_mode)) && self.is_ours(directory, &name) {
                stale.push(name);
            }
        }
        stale.sort();
        Ok(stale)
    }

    fn is_ours(&self, directory: &OpenDirectory, name: &OsStr) -> bool {
        let mut text = String::new();
        let file = directory.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty());
        let read = file.and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        read.is_ok() && (self.is_made_from)(&text, self.source)
    }
}

fn is_file(mode: libc::mode_t) -> bool {
    mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}

/// A file under another name, hidden and of a kind that nobody reads. It goes unless it is put in its place.
pub(super) struct Draft<'a> {
    directory: &'a OpenDirectory,
    draft: OsString,
    name: OsString,
    is_in_place: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn write(directory: &'a OpenDirectory, name: &OsStr, text: &str) -> io::Result<Self> {
        let draft = OsString::from(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file = directory.open_file(&draft, flags, Mode::from_bits_truncate(0o644))?;
        let made = Self { directory, draft, name: name.to_owned(), is_in_place: false };
        file.write_all(text.as_bytes())?;
        // A file that is renamed and not written is an empty one after a crash.
        file.sync_all()?;
        Ok(made)
    }

    pub(super) fn put_in_place(mut self) -> Result<PathBuf, (PathBuf, io::Error)> {
        let path = self.directory.path().join(&self.name);
        match self.directory.rename(&self.draft, &self.name) {
            Ok(()) => {
                self.is_in_place = true;
                Ok(path)
            }
            Err(error) => Err((path, error)),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_in_place {
            // Nothing more can be done about one that stays.
            let _ = self.directory.remove(&self.draft);
        }
    }
}

//! Whose a unit's name is.
//!
//! systemd takes the unit of the directory that comes first, so a file of ours never replaces another's unit. But half of
//! our units beside half of another's are worse than none: `nginx.socket` of ours would start the `nginx.service` of the
//! package. So a file has all its names, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::under;
use crate::os::regular;
use crate::units::{Unit, made_from};

/// Where units are beside the directories of generators (`systemd.unit(5)`).
const DIRECTORIES: [&str; 10] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// From its scripts, systemd's own generator for them makes services; at the same time as we.
const SCRIPTS: &str = "/etc/init.d";
/// More than the first line of a unit that we made has.
const LINE_MAX: u64 = 8192;

/// The names that are given away.
pub(super) struct Claims<'a> {
    root: &'a Path,
    /// The directories of units, in no order.
    directories: BTreeSet<PathBuf>,
    /// Units, and the files that they are from.
    units: BTreeMap<String, PathBuf>,
    /// Names of daemons, and the files that they are from.
    names: BTreeMap<String, PathBuf>,
}

impl<'a> Claims<'a> {
    /// Every file has the names that it bears itself, so that mending one never takes a name from another.
    pub(super) fn new(root: &'a Path, generated: &[PathBuf], files: &[PathBuf]) -> Self {
        let usual = DIRECTORIES.iter().map(|directory| under(root, Path::new(directory)));
        let of_file = |file: &PathBuf| {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            ["service", "socket"].map(|kind| (format!("{stem}.{kind}"), file.clone()))
        };
        Self {
            root,
            directories: usual.chain(generated.iter().cloned()).collect(),
            units: files.iter().flat_map(of_file).collect(),
            names: BTreeMap::new(),
        }
    }

    /// Takes the names of a file's units, and the daemon's.
    ///
    /// # Errors
    /// Who has one of them, for a person. Then none is taken.
    pub(super) fn claim(&mut self, file: &Path, name: &str, units: &[Unit]) -> Result<(), String> {
        if let Some(other) = self.names.get(name) {
            return Err(format!("{} has the same name = {name:?}", other.display()));
        }
        for unit in units {
            if let Some(other) = self.units.get(&unit.name).filter(|other| *other != file) {
                return Err(format!("{} is a unit of {}", unit.name, other.display()));
            }
            if let Some(taken) = self.taken(&unit.name, file) {
                return Err(format!("{} is there already: {}", unit.name, taken.display()));
            }
        }
        self.names.insert(name.to_owned(), file.to_owned());
        self.units.extend(units.iter().map(|unit| (unit.name.clone(), file.to_owned())));
        Ok(())
    }

    /// Somebody else's unit of this name.
    fn taken(&self, unit: &str, file: &Path) -> Option<PathBuf> {
        let paths = self.directories.iter().map(|directory| directory.join(unit));
        let scripts = under(self.root, Path::new(SCRIPTS));
        let service = unit.strip_suffix(".service").into_iter();
        let script = service.flat_map(|stem| [scripts.join(stem), scripts.join(format!("{stem}.sh"))]);
        let foreign =
            paths.filter(|path| is_foreign(path, file)).chain(script.filter(|path| path.exists())).next();
        foreign.map(|path| Path::new("/").join(path.strip_prefix(self.root).unwrap_or(&path)))
    }
}

/// Neither absent, nor a mask, nor made from this file: `systemctl edit --full` puts a copy of ours before it.
fn is_foreign(path: &Path, file: &Path) -> bool {
    if fs::symlink_metadata(path).is_err() || fs::read_link(path).is_ok_and(|to| to == Path::new("/dev/null"))
    {
        return false;
    }
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => false,
        Ok(found) if found.is_file() => beginning(path).is_none_or(|text| made_from(&text) != Some(file)),
        _ => true,
    }
}

fn beginning(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    regular::open(path).ok()?.take(LINE_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

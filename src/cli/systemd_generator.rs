//! The generator of systemd (`systemd.generator(7)`): `/etc/handover/NAME.toml` becomes `NAME.service` and its sockets.
//!
//! systemd waits for it, at boot and at each `daemon-reload`, before it knows any unit: so it asks nobody anything, reads
//! only small files, and one that is wrong costs its own units and nothing else. It is this program under another name, a
//! link `handover-generator` to it. It writes to the *late* directory, behind all other units, and leaves a file alone
//! of which any unit is already somebody else's.

mod claims;
mod report;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::units::{self, Made};
use crate::exit;
use crate::os::words as in_words;
use crate::units::Units;
use claims::Claims;
use report::Report;

/// The name of the link that systemd executes.
const NAME: &str = "handover-generator";
/// How long systemd waits for one file. Halved each time that one does not come, so that all of them together cost no more
/// than twice this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the configurations are.
const CONFIGURATIONS: &str = "/etc/handover";

/// What systemd calls a generator with
#[derive(Debug, Args)]
pub(super) struct SystemdGenerator {
    /// The directories for units that come after, before and behind those of the administrator; or one for all
    #[arg(value_name = "DIRECTORY", required = true, num_args = 1..=3)]
    directories: Vec<PathBuf>,
    /// Where the file system begins
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,
}

/// The words of the command line; those of this command where the program was called by the link's name.
pub(super) fn words(mut words: Vec<OsString>) -> Vec<OsString> {
    let called = words.first().and_then(|word| Path::new(word).file_name());
    if called == Some(OsStr::new(NAME)) {
        words.insert(1, "__systemd-generator".into());
    }
    words
}

pub(super) fn run(args: &SystemdGenerator) -> u8 {
    let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
    // What a user's manager or an initrd starts is not in /etc/handover.
    if variable("SYSTEMD_SCOPE") == "user" || variable("SYSTEMD_IN_INITRD") == "1" {
        return exit::DONE;
    }
    let report = Report::new(&args.root, variable("SYSTEMD_SCOPE") == "system");
    let Some(late) = args.directories.last() else { return exit::USAGE };
    let files = match configurations(&args.root) {
        Ok(files) => files,
        Err(error) => {
            report.error(&format!("{CONFIGURATIONS}: {}", in_words(&error)));
            return exit::FAILED;
        }
    };
    let mut generator = Generator {
        root: &args.root,
        late,
        program: units::own_program(),
        claims: Claims::new(&args.root, &args.directories, &files),
        report,
        patience: PATIENCE,
    };
    for file in &files {
        if let Err(fault) = generator.make(file) {
            generator.report.error(&format!("{}: no units are made: {fault}", file.display()));
        }
    }
    exit::DONE
}

/// The files, by name; where there is no directory, none. Hidden ones are drafts of editors.
fn configurations(root: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(under(root, Path::new(CONFIGURATIONS))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
            files.push(Path::new(CONFIGURATIONS).join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// An absolute path, below another root.
fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

struct Generator<'a> {
    root: &'a Path,
    late: &'a Path,
    program: PathBuf,
    claims: Claims<'a>,
    report: Report,
    patience: Duration,
}

impl Generator<'_> {
    /// Makes the units of one file, all or none.
    fn make(&mut self, file: &Path) -> Result<(), String> {
        let Made { name, units } = self.read(file)?;
        self.claims.claim(file, &name, &units.units)?;
        for note in &units.notes {
            self.report.notice(&format!("{}: {note}", file.display()));
        }
        self.write(&units).map_err(|(path, error)| {
            for unit in &units.units {
                // It may not be there.
                let _ = fs::remove_file(self.late.join(&unit.name));
            }
            format!("{}: {}", path.display(), in_words(&error))
        })
    }

    /// Reads it on a thread of its own: the file may lie on a server that does not answer, or bring out a fault of ours. A
    /// thread that is stuck ends with us.
    fn read(&mut self, file: &Path) -> Result<Made, String> {
        let (at, file, program) = (under(self.root, file), file.to_owned(), self.program.clone());
        let (made, waiting) = mpsc::channel();
        let job = move || {
            // Nobody waits for it any more.
            let _ = made.send(units::make(&at, &file, &program, false, false));
        };
        let thread = thread::Builder::new().name("reading".to_owned()).spawn(job);
        thread.map_err(|error| format!("no thread to read on: {}", in_words(&error)))?;
        waiting.recv_timeout(self.patience).unwrap_or_else(|ended| match ended {
            mpsc::RecvTimeoutError::Timeout => {
                let waited = self.patience;
                self.patience /= 2;
                Err(format!("reading it takes more than {waited:?}"))
            }
            mpsc::RecvTimeoutError::Disconnected => Err("a fault of handover".to_owned()),
        })
    }

    fn write(&self, units: &Units) -> Result<(), (PathBuf, io::Error)> {
        for unit in &units.units {
            let path = self.late.join(&unit.name);
            fs::write(&path, &unit.text).map_err(|error| (path, error))?;
        }
        let Some(link) = &units.link else { return Ok(()) };
        let directory = self.late.join(format!("{}.wants", link.target));
        let path = directory.join(&link.unit);
        let made = fs::create_dir_all(&directory)
            .and_then(|()| symlink(Path::new("..").join(&link.unit), &path))
            .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) });
        made.map_err(|error| (path, error))
    }
}

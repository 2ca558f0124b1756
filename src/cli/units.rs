//! A configuration file to its units: what `generate systemd`, `generate launchd` and the generator share.

use std::path::{Path, PathBuf};

use crate::config::model::Config;
use crate::config::{self, Believing};
use crate::daemon::read_text_in_time;
use crate::os::words;
use crate::units::{self, Units};

/// The program of units where ours has no path.
const PROGRAM: &str = "/usr/bin/handover";

/// What a file comes to.
pub(super) struct Made {
    /// The daemon's name.
    pub(super) name: String,
    /// Its units.
    pub(super) units: Units,
}

/// Reads the file at `at`, which is called `file` in the units; `user` as in [`units::Source`]. Nothing else of this machine is looked at.
///
/// # Errors
/// What is wrong, for a person; several lines, in colour if that is wanted.
pub(super) fn make(at: &Path, file: &Path, program: &Path, user: bool, colour: bool) -> Result<Made, String> {
    let (config, text) = read(at, file, colour)?;
    let order = config::listener_order(&text);
    let source = units::Source { config: &config, order: &order, file, program, user };
    let units = units::systemd(&source).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Made { name: config.name, units })
}

/// The same without making units: the configuration, and its text.
///
/// # Errors
/// As [`make`].
pub(super) fn read(at: &Path, file: &Path, colour: bool) -> Result<(Config, String), String> {
    let shown = file.display().to_string();
    let text = read_text_in_time(at).map_err(|error| format!("{shown}: {}", words(&error)))?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let config = config::parse(&shown, &text, &stem, &Believing)
        .map_err(|faults| if colour { faults.render(true) } else { faults.to_string() })?;
    Ok((config, text))
}

/// The path of this program. While it is being replaced, its old file has none.
pub(super) fn own_program() -> PathBuf {
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(PROGRAM))
}

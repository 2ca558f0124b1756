//! Names of units, by the rules of `systemd.unit(5)`.

use std::fmt::Write;
use std::path::Path;

use crate::id::ListenerName;

/// The longest name of a unit in bytes, its suffix included (`UNIT_NAME_MAX` of systemd less the closing NUL).
const UNIT_NAME_MAX: usize = 255;
/// The longest suffix that we give.
const SUFFIX: &str = ".service";

/// A file's name that names no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Characters that the name of a unit cannot have.
    #[error(
        "{0:?} cannot name a unit of systemd: it has characters other than letters, digits, `:`, `_`, `.`, `-`\n\
         hint: rename the file"
    )]
    Characters(String),
    /// It would be a template, or an instance of one.
    #[error("{0:?} cannot name a unit: `@` makes a template\nhint: rename the file")]
    Template(String),
    /// Too long.
    #[error("{0:?} is too long to name a unit: systemd allows {UNIT_NAME_MAX} bytes, suffix included")]
    Long(String),
    /// It is empty, hidden, or does not end with `.toml`.
    #[error("{0:?} is not the name of a configuration: NAME.toml")]
    NotToml(String),
}

/// What the units of a configuration file are named by: its name without `.toml`.
pub(super) fn of_file(file: &Path) -> Result<&str, NameError> {
    let shown = || file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name =
        file.file_name().and_then(|name| name.to_str()).ok_or_else(|| NameError::Characters(shown()))?;
    let stem = name.strip_suffix(".toml").filter(|stem| !stem.is_empty() && !stem.starts_with('.'));
    let stem = stem.ok_or_else(|| NameError::NotToml(shown()))?;
    if stem.contains('@') {
        return Err(NameError::Template(stem.to_owned()));
    }
    // systemd allows `\` too, for its own escapes.
    if !stem.bytes().all(is_plain) {
        return Err(NameError::Characters(stem.to_owned()));
    }
    fits(stem, stem.to_owned() + SUFFIX).map(|_| stem)
}

/// The name of a listener's socket unit.
pub(super) fn of_socket(stem: &str, listener: &ListenerName, is_first: bool) -> Result<String, NameError> {
    if is_first {
        return fits(stem, format!("{stem}.socket"));
    }
    let mut name = format!("{stem}-");
    for byte in listener.as_str().bytes() {
        if is_plain(byte) {
            name.push(char::from(byte));
        } else {
            // As systemd-escape(1) writes what a name cannot have.
            let _ = write!(name, "\\x{byte:02x}");
        }
    }
    fits(stem, name + ".socket")
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'-')
}

fn fits(stem: &str, name: String) -> Result<String, NameError> {
    if name.len() > UNIT_NAME_MAX { Err(NameError::Long(stem.to_owned())) } else { Ok(name) }
}

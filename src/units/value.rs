//! Values as unit files write them: `%` is a specifier's beginning, a line's end is a value's end, and nothing can stand
//! for a control character.

use std::path::Path;

use super::UnitsError;
use crate::visible::is_hidden;

/// Whether a value reads back as it is, apart from `%`: nothing that ends the line, and nothing at its ends that the
/// parser takes away (blanks) or takes for a continuation (`\`).
pub(super) fn is_plain(text: &str) -> bool {
    let cut = |c: char| c.is_whitespace() || c == '\\';
    !text.is_empty() && !text.contains(char::is_control) && text.trim() == text && !text.ends_with(cut)
}

/// With `%` doubled: a specifier else (`systemd.unit(5)`).
pub(super) fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// A text for people, whatever is in it.
pub(super) fn text(text: &str) -> String {
    let text: String = text.chars().map(|c| if is_hidden(c) { '?' } else { c }).collect();
    percent(text.trim_end_matches(['\\', ' ']))
}

/// A path, if it can stand in a unit.
pub(super) fn path(path: &Path) -> Result<&str, UnitsError> {
    let fault = |reason| UnitsError::Path { path: path.display().to_string(), reason };
    let text = path.to_str().ok_or_else(|| fault("it is not UTF-8"))?;
    if !path.is_absolute() {
        return Err(fault("it is not absolute"));
    }
    if is_plain(text) {
        Ok(text)
    } else {
        Err(fault("it has a control character, or a blank or `\\` at its end"))
    }
}

/// A word of a command line (`systemd.service(5)`, "COMMAND LINES"), in quotes where it needs them.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:,+=@".contains(c);
    let escaped = percent(text).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$");
    if text.chars().all(plain) { escaped } else { format!("\"{escaped}\"") }
}

/// The program of a command line. `$` is not special there.
pub(super) fn program(text: &str) -> String {
    word(text).replace("$$", "$")
}

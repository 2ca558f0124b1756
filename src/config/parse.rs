//! The two stages in order: read the tree by the schema, then resolve what was read.

use super::error::Faults;
use super::facts::Facts;
use super::model::Config;
use super::walk::{Log, Place, Section};
use super::{resolve, schema, syntax};

/// Reads a configuration.
///
/// `file` is the name shown in faults, `default_name` the daemon's name where the text gives none (the
/// file's stem).
///
/// # Errors
/// All faults at once. Where the text is not TOML, only the faults of syntax: what the text means cannot be
/// judged before it can be read.
pub fn parse(file: &str, text: &str, default_name: &str, facts: &dyn Facts) -> Result<Config, Faults> {
    let tree = syntax::tree(text).map_err(|faults| Faults::new(file, text, faults))?;
    let mut log = Log::default();
    let read = schema::File::from_table(tree.get_ref(), &Place::top(), &mut log);
    let config = resolve::config(&read, default_name, facts, &mut log);
    match config {
        Some(config) if log.is_clean() => Ok(config),
        _ => Err(Faults::new(file, text, log.into_faults())),
    }
}

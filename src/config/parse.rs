//! The two stages in order: read the tree by the schema, then resolve what was read.

use super::error::Faults;
use super::facts::Facts;
use super::model::Config;
use super::walk::{Log, Place, Section};
use super::{resolve, schema, syntax};
use crate::id::ListenerName;

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

/// The listeners of a configuration in the order of its text, which a [`Config`] does not keep: nothing that the
/// daemon does depends on it. Empty where the text is not TOML.
pub fn listener_order(text: &str) -> Vec<ListenerName> {
    let Ok(tree) = syntax::tree(text) else { return Vec::new() };
    let listeners = tree.get_ref().get("listener").and_then(|value| value.get_ref().as_table());
    let mut found: Vec<_> =
        listeners.into_iter().flatten().map(|(name, _)| (name.span().start, name.get_ref())).collect();
    found.sort();
    found.into_iter().map(|(_, name)| ListenerName::new(name.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_in_the_order_of_the_text() {
        let order = |text| -> Vec<String> {
            listener_order(text).iter().map(|name| name.as_str().to_owned()).collect()
        };
        assert_eq!(order("[listener.z]\n[pool.a]\n[listener.a]\n[listener.m.x]"), ["z", "a", "m"]);
        assert_eq!(order("listener.b.address = 'x'\nlistener.a = { }"), ["b", "a"]);
        assert_eq!(order("listener = 1"), [""; 0]);
        assert_eq!(order("[[["), [""; 0]);
    }
}

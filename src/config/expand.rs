//! `${HANDOVER_…}` in `command`, `environment` and `directory`.
//!
//! Not a shell: only handover's own variables are put in, `$$` is a dollar, and every other `$` stays as it
//! is, so that a command line for a shell can be written down unchanged.

use std::collections::BTreeMap;

use super::nearest::nearest;

/// The variables, all of which a worker also finds in its environment.
pub const VARIABLES: &[&str] =
    &["HANDOVER_GENERATION", "HANDOVER_NAME", "HANDOVER_POOL", "HANDOVER_SLOT", "HANDOVER_WORKER"];

const OPENING: &str = "${HANDOVER_";

/// A text that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// There is no such variable.
    #[error("${{{0}}} is not one of handover's variables")]
    Unknown(String),
    /// A `${HANDOVER_…` without its `}`.
    #[error("{0:?} has no closing brace")]
    Unclosed(String),
}

impl ExpandError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown(name) => match nearest(name, VARIABLES.iter().copied()) {
                Some(known) => format!("did you mean ${{{known}}}?"),
                None => format!("there are {}; $$ is a dollar", VARIABLES.join(", ")),
            },
            Self::Unclosed(_) => "write ${HANDOVER_SLOT}; $$ is a dollar".to_owned(),
        }
    }
}

/// Puts the values of handover's variables into a text.
///
/// # Errors
/// A `${HANDOVER_…}` that `values` does not have, or one that is not closed. A text of a
/// [`Config`](super::model::Config) has neither when all of [`VARIABLES`] have values.
pub fn expand(text: &str, values: &BTreeMap<&str, String>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$$") {
            expanded.push('$');
            rest = after;
        } else if rest.starts_with(OPENING) {
            let (name, after) =
                rest[2..].split_once('}').ok_or_else(|| ExpandError::Unclosed(rest.to_owned()))?;
            let value = values.get(name).ok_or_else(|| ExpandError::Unknown(name.to_owned()))?;
            expanded.push_str(value);
            rest = after;
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Checks that a text can be expanded when a worker is started.
pub(super) fn check(text: &str) -> Result<(), ExpandError> {
    let values = VARIABLES.iter().map(|name| (*name, String::new())).collect();
    expand(text, &values).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, ExpandError> {
        let values =
            BTreeMap::from([("HANDOVER_SLOT", "3".to_owned()), ("HANDOVER_NAME", "$app".to_owned())]);
        expand(text, &values)
    }

    #[test]
    fn our_variables_are_put_in_and_all_else_stays() {
        for (text, expected) in [
            ("", ""),
            ("--slot=${HANDOVER_SLOT}", "--slot=3"),
            ("${HANDOVER_NAME}${HANDOVER_SLOT}", "$app3"),
            ("$$", "$"),
            ("$${HANDOVER_SLOT}", "${HANDOVER_SLOT}"),
            ("$$$", "$$"),
            ("$HOME ${HOME} $HANDOVER_SLOT $", "$HOME ${HOME} $HANDOVER_SLOT $"),
            ("ü$ü", "ü$ü"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_an_error_with_a_hint() {
        assert_eq!(expanded("${HANDOVER_SLOTT}").unwrap_err().hint(), "did you mean ${HANDOVER_SLOT}?");
        assert_eq!(expanded("a ${HANDOVER_SLOT"), Err(ExpandError::Unclosed("${HANDOVER_SLOT".into())));
        assert_eq!(check("${HANDOVER_GENERATION}/${HANDOVER_WORKER}/${HANDOVER_POOL}"), Ok(()));
    }
}

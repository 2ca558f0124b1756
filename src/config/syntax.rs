//! Text to a tree in which everything knows its place; TOML's own errors in words that help.
//!
//! The parser recovers from errors and reports what it stumbles over next, so only the first error of each
//! line is told: the others follow from it.

use toml::Spanned;
use toml::de::DeTable;

use super::error::{Fault, Span, Wrong};

/// The tree, or every line that is not TOML.
pub(super) fn tree(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<Fault>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() { Ok(tree) } else { Err(first_of_each_line(text, &errors)) }
}

fn first_of_each_line(text: &str, errors: &[toml::de::Error]) -> Vec<Fault> {
    let mut found: Vec<(Span, &str)> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error.message()))
        .collect();
    found.sort_by_key(|(span, _)| span.start);
    found.dedup_by_key(|(span, _)| line_number(text, span.start));
    found.into_iter().map(|(span, message)| fault(text, span, message)).collect()
}

fn line_number(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn fault(text: &str, span: Span, message: &str) -> Fault {
    let marked = text.get(span.clone()).unwrap_or_default();
    let wrong = match message.split(", expected").next().unwrap_or(message) {
        "string values must be quoted" if marked.is_empty() => {
            Wrong::new("there is no value").hint("write one, or leave the key out to have its default")
        }
        "string values must be quoted" | "invalid boolean" => {
            Wrong::new("text must be quoted").hint(format!("write \"{marked}\""))
        }
        "unexpected leading zero" => {
            Wrong::new("a number cannot begin with 0").hint("a file mode is written \"0660\" or 0o660")
        }
        "duplicate key" => Wrong::new("this key was given before").hint("keep one of the two"),
        "invalid unquoted key" => {
            Wrong::new(message).hint("`key = value`; a key with other characters is quoted")
        }
        "key with no value" => Wrong::new("a key without a value").hint("write `key = value`"),
        "unexpected key or value" => {
            Wrong::new("something follows the value").hint("one key a line; a comment begins with #")
        }
        _ => Wrong::new(message),
    };
    Fault::new(span, "", wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_is_not_toml_is_one_fault() {
        let faults = tree("a = 30s\nb = 0660\nc =\nd: 1\n").unwrap_err();
        let reasons: Vec<&str> = faults.iter().map(|fault| fault.reason.as_str()).collect();
        assert_eq!(reasons.len(), 4, "{reasons:?}");
        assert_eq!(
            reasons[..3],
            ["text must be quoted", "a number cannot begin with 0", "there is no value"]
        );
        assert_eq!(faults[0].hint.as_deref(), Some("write \"30s\""));
        assert_eq!(tree("[x]\n[x]\n").unwrap_err()[0].reason, "this key was given before");
    }
}

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
    if let Some(fault) = not_toml(text) {
        return vec![fault];
    }
    let mut found: Vec<(Span, &str)> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error.message()))
        .collect();
    found.sort_by_key(|(span, _)| span.start);
    found.dedup_by_key(|(span, _)| line_number(text, span.start));
    found.into_iter().map(|(span, message)| fault(text, span, message)).collect()
}

/// Another language altogether, of which every line would be a fault.
fn not_toml(text: &str) -> Option<Fault> {
    let lines = || {
        text.split_inclusive('\n').scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some((start..start + line.trim_end().len(), line.trim()))
        })
    };
    let (span, line) = lines().find(|(_, line)| !line.is_empty() && !line.starts_with('#'))?;
    let wrong = if line.starts_with('{') {
        Wrong::new("this is JSON, and a configuration is TOML")
    } else if line == "---" || (line.ends_with(':') && !line.contains(['=', '"', '\'', '['])) {
        Wrong::new("this looks like YAML, and a configuration is TOML")
    } else if ["[Unit]", "[Service]", "[Socket]", "[Install]"].contains(&line) {
        Wrong::new("this looks like a unit of systemd, and a configuration is TOML")
    } else {
        return None;
    };
    Some(Fault::new(
        span,
        "",
        wrong.hint("a section is written [pool.web], a key name = \"value\"; one each line"),
    ))
}

fn line_number(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The line in which `offset` is.
fn line_of(text: &str, offset: usize) -> &str {
    text.lines().nth(line_number(text, offset)).unwrap_or_default()
}

fn fault(text: &str, span: Span, message: &str) -> Fault {
    let marked = text.get(span.clone()).unwrap_or_default();
    let line = line_of(text, span.start);
    let wrong = match message.split(", expected").next().unwrap_or(message) {
        "string values must be quoted" if marked.is_empty() => {
            Wrong::new("there is no value").hint("write one, or leave the key out to have its default")
        }
        "string values must be quoted" | "invalid boolean" => unquoted(marked),
        "unexpected leading zero" => {
            Wrong::new("a number cannot begin with 0").hint("a file mode is written \"0660\" or 0o660")
        }
        "duplicate key" if line.trim_start().starts_with('[') => {
            Wrong::new("this section was given before").hint("put all its keys under one heading")
        }
        "duplicate key" => Wrong::new("this key was given before").hint("keep one of the two"),
        "invalid unquoted key" if marked.starts_with(':') => {
            Wrong::new("a colon where TOML has =").hint("write `key = value`")
        }
        "invalid unquoted key" => {
            Wrong::new(message).hint("`key = value`; a key with other characters is quoted")
        }
        "key with no value" => Wrong::new("a key without a value").hint("write `key = value`"),
        "unexpected key or value" => {
            Wrong::new("something follows the value").hint("one key a line; a comment begins with #")
        }
        "missing escaped value" => Wrong::new("a \\ in \"…\" must be doubled")
            .hint("write \\\\, or take single quotes, in which it stands for itself"),
        "carriage return must be followed by newline" => {
            Wrong::new("a line ends with a lone carriage return")
                .hint("save the file with the line ends of Unix or Windows")
        }
        _ if !line.contains('#') && line.matches('"').count() % 2 == 1 => {
            Wrong::new("a text has no closing quote").hint("a text begins and ends with \" in the same line")
        }
        _ => Wrong::new(message),
    };
    Fault::new(span, "", wrong)
}

/// Words without quotes, or with such as a word processor makes.
fn unquoted(marked: &str) -> Wrong {
    let typographic = ['“', '”', '„', '‘', '’', '«', '»'];
    let boolean = match marked.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some("true"),
        "false" | "no" | "off" => Some("false"),
        _ => None,
    };
    match boolean {
        Some(boolean) => {
            Wrong::new(format!("{marked} is not how TOML writes it")).hint(format!("write {boolean}"))
        }
        None if marked.contains(typographic) => Wrong::new("these quotes are not those of a keyboard")
            .hint(format!("write \"{}\"", marked.replace(typographic, ""))),
        None => Wrong::new("text must be quoted").hint(format!("write \"{marked}\"")),
    }
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
        assert_eq!(tree("[x]\n[x]\n").unwrap_err()[0].reason, "this section was given before");
        assert_eq!(tree("a = 1\na = 2\n").unwrap_err()[0].reason, "this key was given before");
    }
}

//! Text as people can see it: what steers a terminal, reorders a line or takes no room in it is written out.
//!
//! Whoever writes a text, a worker above all, must not be able to make the one who reads it see another: control characters
//! move the cursor, bidirectional ones turn `exe.txt` around, and two names that differ in a zero-width space look the
//! same. All of that is one set of characters, and it stands here alone.
//!
//! Texts for programs keep every character: in JSON they are escaped, so that the line is harmless where it is looked at and
//! still says the same. What is passed on as it is (messages, records for the journal, the output of workers under
//! `log.workers = "inherit"`) is not touched.

use std::fmt::Write as _;

/// Nobody would see it, or see what it does: control characters, bidirectional and zero-width ones, other separators of
/// lines, tags. (A family of emoji is joined by zero-width joiners, and comes apart.)
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Adds a line of text for people; tabs stay, and all else that is hidden is escaped as in Rust: `\u{202e}`.
pub fn push_line(text: &mut String, raw: &str) {
    for c in raw.chars() {
        match c {
            '\t' => text.push(c),
            c if is_hidden(c) => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
}

/// A line of text for people.
pub fn line(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    push_line(&mut text, raw);
    text
}

/// The same of a text of several lines; without the newline at its end.
pub fn lines(raw: &str) -> String {
    raw.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// JSON that says the same, and in which nothing is hidden. What JSON itself has outside of its strings is never hidden, and
/// it escapes the control characters below U+0020, so that only its newline between lines is left as it is.
pub fn json(json: String) -> String {
    if !may_hide(json.as_bytes()) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            c if c.is_ascii_control() && c != '\x7f' => text.push(c),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text
}

/// The same of bytes.
pub fn json_bytes(json_text: Vec<u8>) -> Vec<u8> {
    if !may_hide(&json_text) {
        return json_text;
    }
    match String::from_utf8(json_text) {
        Ok(text) => json(text).into_bytes(),
        // That is no JSON.
        Err(error) => error.into_bytes(),
    }
}

/// False for most: only DEL, and what is not ASCII, may be hidden in JSON.
fn may_hide(json: &[u8]) -> bool {
    json.iter().any(|byte| *byte >= 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = "\u{7f}\u{80}\u{9b}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{2028}\u{202e}\u{2060}\u{2066}\u{2069}\
                          \u{feff}\u{fffb}\u{e0001}\u{e007f}";

    #[test]
    fn what_nobody_would_see_is_written_out_and_all_else_is_left() {
        assert_eq!(line("a\u{202e}b\u{7f}\u{9b}2J\te\r"), "a\\u{202e}b\\u{7f}\\u{9b}2J\te\\r");
        assert_eq!(lines("a\n\u{200b}\n"), "a\n\\u{200b}");
        assert!(!line(HIDDEN).chars().any(is_hidden));
        let seen = "naïve שלום سلام 日本 葛\u{e0100} 🦀 ❤\u{fe0f} e\u{301}";
        assert_eq!(line(seen), seen);
    }

    #[test]
    fn json_says_the_same_with_nothing_hidden_in_it() {
        let value = serde_json::json!({ HIDDEN: [HIDDEN, "\u{1b}\n", "שלום", 1] });
        let shown = json(value.to_string() + "\n");
        assert!(!shown.trim_end().chars().any(is_hidden), "{shown}");
        assert_eq!(shown.matches('\n').count(), 1);
        assert!(shown.contains("\\u007f\\u0080\\u009b") && shown.contains("\\udb40\\udc01"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(json_bytes(value.to_string().into_bytes()), json(value.to_string()).into_bytes());
        assert_eq!(json_bytes(vec![0xff]), [0xff]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_the_same_after_json(text: String) {
            let shown = json(serde_json::Value::from(text.as_str()).to_string());
            proptest::prop_assert!(!shown.chars().any(is_hidden));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}

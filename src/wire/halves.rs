//! Escapes of half a surrogate pair, which JSON's grammar allows and most languages cannot hold.
//!
//! A program that cuts a text between the two halves of a character writes such an escape without noticing. Some parsers take it,
//! some refuse the whole line. So each is read as U+FFFD, wherever it stands: a slip of one worker is then nobody else's, and no
//! line that leaves here has one. The length stays the same.

use std::borrow::Cow;

const REPLACEMENT: &str = "\\ufffd";

/// `text` with each escape of half a pair replaced. Says nothing about whether it is JSON.
pub(super) fn whole(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut fixed, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        let escape = at + found;
        let next = escape + REPLACEMENT.len();
        at = match unit(bytes, escape) {
            None => escape + 2,
            Some(0xd800..=0xdbff) if matches!(unit(bytes, next), Some(0xdc00..=0xdfff)) => {
                next + REPLACEMENT.len()
            }
            Some(0xd800..=0xdfff) => {
                fixed.push_str(&text[kept..escape]);
                fixed.push_str(REPLACEMENT);
                kept = next;
                next
            }
            Some(_) => next,
        };
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    fixed.push_str(&text[kept..]);
    Cow::Owned(fixed)
}

/// The UTF-16 unit of an escape with four digits; `None` where another one stands, or none.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + REPLACEMENT.len())?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    // A sign is no digit, though it parses.
    u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_a_pair_is_replaced_and_whole_ones_stay() {
        let table = [
            (r#""\ud83d\ude00 \u00e9 \n \\ud800""#, r#""\ud83d\ude00 \u00e9 \n \\ud800""#),
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\uDFFFx\\\uD83D\ud83d\uDE00""#, r#""\ufffdx\\\ufffd\ud83d\uDE00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\u00e9ü""#, r#""\ufffd\u00e9ü""#),
        ];
        for (text, expected) in table {
            assert_eq!(whole(text), expected);
            assert!(serde_json::from_str::<String>(&whole(text)).is_ok(), "{text}");
        }
        for garbage in ["", "\\", "\\u", "\\ud80", "\\ud80ü", "\\u+800", "x\\ud83d\\"] {
            assert_eq!(whole(garbage).len(), garbage.len(), "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_json_is_readable_afterwards(units in proptest::collection::vec(0xd700..=0xe000_u16, 0..20)) {
            let text: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let text = format!("\"{text}\"");
            let expected = String::from_utf16_lossy(&units);
            prop_assert_eq!(serde_json::from_str::<String>(&whole(&text)).expect("readable"), expected);
        }
    }
}

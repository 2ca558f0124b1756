//! The text of a property list as it grows: `plist(5)`, the XML form.

/// The lines before the first element of the list.
pub(super) const HEAD_LINES: usize = 4;

/// Whether XML can have a text. It has no place for control characters; lines and tabs would be allowed, and are not
/// what anybody means.
pub(super) fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// A comment, whatever is in the text: two hyphens, or one at the end, would end it.
pub(super) fn comment(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if is_plain(c.encode_utf8(&mut [0; 4])) { c } else { '?' }).collect();
    let mut parted = String::new();
    for c in text.chars() {
        if c == '-' && parted.ends_with('-') {
            parted.push(' ');
        }
        parted.push(c);
    }
    format!("<!-- {parted} -->")
}

/// See the module. The texts that it is given are [plain](is_plain).
#[derive(Default)]
pub(super) struct List {
    text: String,
    depth: usize,
}

impl List {
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(&"\t".repeat(self.depth + 1));
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn open(&mut self, element: &str) {
        self.line(&format!("<{element}>"));
        self.depth += 1;
    }

    pub(super) fn close(&mut self, element: &str) {
        self.depth -= 1;
        self.line(&format!("</{element}>"));
    }

    pub(super) fn entry(&mut self, key: &str) {
        self.line(&format!("<key>{}</key>", escaped(key)));
    }

    pub(super) fn string(&mut self, text: &str) {
        self.line(&format!("<string>{}</string>", escaped(text)));
    }

    pub(super) fn integer(&mut self, number: u64) {
        self.line(&format!("<integer>{number}</integer>"));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.line(&comment(text));
    }

    /// The whole, with a comment before its dictionary.
    pub(super) fn document(self, mark: &str) -> String {
        let body = self.text;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
             \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             {mark}\n<plist version=\"1.0\">\n<dict>\n{body}</dict>\n</plist>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

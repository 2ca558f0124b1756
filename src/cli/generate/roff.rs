//! Text to the language of manual pages (`groff_man(7)`).
//!
//! The texts are in the small part of Markdown that this reads: paragraphs, `##` headings, lists, fenced blocks,
//! `` `code` `` and `**strong**`. An item that begins with code and a colon becomes a tagged paragraph.

use std::fmt::Write;

/// A page that grows.
#[derive(Debug)]
pub(super) struct Roff(String);

impl Roff {
    /// A page with its title: `NAME(SECTION)`, the date of its text, and what it belongs to.
    pub(super) fn new(name: &str, section: u8, date: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self(format!(".TH {name} {section} {date} \"handover {version}\"\n.nh\n.ad l\n"))
    }

    pub(super) fn text(self) -> String {
        self.0
    }

    pub(super) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", escape(title)));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", escape(title)));
    }

    /// A paragraph under a tag, as options have it.
    pub(super) fn item(&mut self, tag: &str, text: &str) {
        self.line(".TP");
        self.line(&guarded(&marked(tag)));
        self.words(text);
    }

    /// A paragraph.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.open_paragraph();
        self.words(text);
    }

    /// A heading begins a paragraph itself.
    fn open_paragraph(&mut self) {
        let last = self.0.lines().last().unwrap_or_default();
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.line(".PP");
        }
    }

    /// Lines as they are.
    pub(super) fn block(&mut self, text: &str) {
        self.open_paragraph();
        self.line(".RS 4\n.nf");
        text.lines().for_each(|line| self.line(&guarded(&escape(line))));
        self.line(".fi\n.RE");
    }

    /// Markdown.
    pub(super) fn markdown(&mut self, text: &str) {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(title) = line.strip_prefix("## ") {
                self.section(&title.to_uppercase());
            } else if line.starts_with("```") {
                let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
                self.block(&block.join("\n"));
            } else if !line.trim().is_empty() {
                let mut text = line.to_owned();
                let ends = |next: &str| {
                    ["- ", "## ", "```"].iter().any(|mark| next.starts_with(mark)) || next.trim().is_empty()
                };
                while let Some(next) = lines.next_if(|next| next.starts_with(' ') || !ends(next)) {
                    let _ = write!(text, " {}", next.trim());
                }
                self.flowing(&text);
            }
        }
    }

    fn flowing(&mut self, text: &str) {
        match text.strip_prefix("- ") {
            None => self.paragraph(text),
            Some(item) => match item.split_once(": ").filter(|(tag, _)| is_tag(tag)) {
                Some((tag, text)) => self.item(tag, text),
                None => {
                    self.line(".IP \\(bu 2");
                    self.words(item);
                }
            },
        }
    }

    /// Flowing text with marks, in lines of a length that every reader takes.
    fn words(&mut self, text: &str) {
        let text = marked(text);
        let mut line = String::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if line.len() + word.len() > 100 {
                self.line(&guarded(&std::mem::take(&mut line)));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&guarded(&line));
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// Code all through: `` `A`, `B` ``.
fn is_tag(text: &str) -> bool {
    let outside: String = text.split('`').step_by(2).collect();
    text.starts_with('`') && outside.chars().all(|c| matches!(c, ',' | ' '))
}

/// A line must not be taken for a request.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// `` `code` `` and `**strong**` in bold, the rest escaped.
fn marked(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fR", escape(part));
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            match index % 2 {
                1 => drop(write!(out, "\\fB{}\\fR", escape(part))),
                _ => out.push_str(&escape(part)),
            }
        }
    }
    out
}

/// Characters that mean something to roff, or that not every terminal can show.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '…' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => drop(write!(out, "\\[u{:04X}]", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(markdown: &str) -> String {
        let mut roff = Roff(String::new());
        roff.markdown(markdown);
        roff.text()
    }

    #[test]
    fn what_means_something_to_roff_is_text() {
        assert_eq!(page(".so /etc/passwd\n"), ".PP\n\\&.so /etc/passwd\n");
        assert_eq!(page("'a' \\fB --x ü"), ".PP\n\\(aqa\\(aq \\efB \\-\\-x \\[u00FC]\n");
    }

    #[test]
    fn each_form_has_its_request() {
        assert_eq!(page("## Exit status\nIt is\n`0`."), ".SH EXIT STATUS\nIt is \\fB0\\fR.\n");
        assert_eq!(
            page("- `A`, `B`: both\n  of them\n- one"),
            ".TP\n\\fBA\\fR, \\fBB\\fR\nboth of them\n.IP \\(bu 2\none\n"
        );
        assert_eq!(page("```toml\n.a = 1\n```"), ".PP\n.RS 4\n.nf\n\\&.a = 1\n.fi\n.RE\n");
    }
}

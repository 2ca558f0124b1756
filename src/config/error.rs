//! Faults: what is wrong with a configuration, and where.
//!
//! A file is judged to its end and all its faults are shown at once, because a fault a minute is how a
//! deploy becomes an evening. Each carries its place, so that two renderings come from the same facts: plain
//! lines for logs and replies ([`Display`](fmt::Display)), and the line itself with the place marked for
//! people ([`Faults::render`]).

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::visible;

/// Byte offsets into the text of the configuration.
pub(super) type Span = Range<usize>;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its column in characters, counted from 1.
    pub column: usize,
    /// The key, as a path: `pool.web.workers`. Empty for a fault of syntax.
    pub key: String,
    /// What is wrong: a lower-case fragment that follows the key.
    pub reason: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
    span: Span,
    also: Option<(Span, String)>,
}

impl Fault {
    pub(super) fn new(span: Span, key: impl Into<String>, wrong: Wrong) -> Self {
        let (key, Wrong { reason, hint }) = (key.into(), wrong);
        Self { line: 1, column: 1, key, reason, hint, span, also: None }
    }

    /// Shows a second place, with a word on why it matters.
    pub(super) fn with_also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub reason: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        self.hint.iter().try_for_each(|hint| write!(f, " (hint: {hint})"))
    }
}

/// All that is wrong with a configuration: at least one fault, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    file: String,
    text: String,
    faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &str, text: &str, mut faults: Vec<Fault>) -> Self {
        debug_assert!(!faults.is_empty(), "a refusal names its reason");
        faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        for fault in &mut faults {
            let place = Line::of(text, fault.span.start);
            (fault.line, fault.column) = (place.number, place.column(fault.span.start));
        }
        Self { file: file.to_owned(), text: text.to_owned(), faults }
    }

    /// The faults, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// Every fault with its place, the line itself with the place marked, what is wrong, and a hint; an empty
    /// line between them. With `colour`, in the escape sequences of terminals. Ends with a newline.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let reports: Vec<String> =
            self.faults.iter().map(|fault| renderer.render(&[self.report(fault)]) + "\n").collect();
        reports.join("\n")
    }

    fn report<'a>(&'a self, fault: &'a Fault) -> Group<'a> {
        let mut group = Level::ERROR.primary_title(visible::line(&fault.to_string())).element(self.snippet(
            &fault.span,
            AnnotationKind::Primary,
            None,
        ));
        if let Some((span, label)) = &fault.also {
            group = group.element(self.snippet(span, AnnotationKind::Context, Some(label)));
        }
        if let Some(hint) = &fault.hint {
            group = group.element(Level::HELP.with_name("hint").message(visible::lines(hint)));
        }
        group
    }

    /// Shows one line, however far the span reaches: the beginning of a value tells which it is.
    fn snippet<'a>(
        &'a self,
        span: &Span,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let line = Line::of(&self.text, span.start);
        let start = line.offset(span.start);
        let end = line.offset(span.end).max(start);
        let marked = shown(&line.text[..start]).len()..shown(&line.text[..end]).len();
        Snippet::source(shown(line.text))
            .path(visible::line(&self.file))
            .line_start(line.number)
            .annotation(kind.span(marked).label(label))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let (file, said) = (visible::line(&self.file), visible::lines(&fault.to_string()));
            write!(f, "{newline}{file}:{}:{}: {said}", fault.line, fault.column)?;
            if let Some(hint) = &fault.hint {
                write!(f, "\n  hint: {}", visible::lines(hint))?;
            }
        }
        Ok(())
    }
}

/// A line of the file as it is shown: each hidden character is one that is seen, so that columns are the file's. (Tabs and
/// control characters below U+0020 are the renderer's.)
fn shown(line: &str) -> String {
    let seen =
        |c: char| if visible::is_hidden(c) && !c.is_ascii_control() || c == '\x7f' { '\u{fffd}' } else { c };
    line.chars().map(seen).collect()
}

/// The line in which an offset lies, without its end.
struct Line<'a> {
    number: usize,
    start: usize,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn of(text: &'a str, offset: usize) -> Self {
        let offset = floor(text, offset);
        let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let number = text[..start].matches('\n').count() + 1;
        let rest = &text[start..];
        let line = rest.split('\n').next().unwrap_or(rest);
        Self { number, start, text: line.strip_suffix('\r').unwrap_or(line) }
    }

    /// Where an offset into the whole text lies in this line; its end where it lies beyond.
    fn offset(&self, offset: usize) -> usize {
        floor(self.text, offset.saturating_sub(self.start))
    }

    fn column(&self, offset: usize) -> usize {
        self.text[..self.offset(offset)].chars().count() + 1
    }
}

/// The nearest character boundary at or before `offset`.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str, span: Span) -> Faults {
        Faults::new("a.toml", text, vec![Fault::new(span, "name", Wrong::new("is odd").hint("be even"))])
    }

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let faults = faults("a = 1\r\n\tb = 'ü' # ü x\r\n", 22..23);
        let fault = faults.iter().next().unwrap();
        assert_eq!((fault.line, fault.column), (2, 14));
        assert_eq!(faults.to_string(), "a.toml:2:14: name: is odd\n  hint: be even");
        assert!(faults.render(false).contains("--> a.toml:2:14"), "{}", faults.render(false));
    }

    #[test]
    fn every_span_can_be_shown() {
        let text = "ä = 'x\ny'\r\n\n";
        for start in 0..text.len() + 2 {
            for end in start..text.len() + 2 {
                let faults = faults(text, start..end);
                assert!(faults.render(true).contains("is odd"));
                assert!(faults.render(false).contains("hint: be even"));
            }
        }
    }

    #[test]
    fn nothing_hidden_is_shown_of_a_file() {
        let text = "a = 'x\u{202e}\u{200b}\u{7f}\u{9b}\u{e0041}\u{2028}y' # z";
        let at = text.find('y').unwrap();
        let wrong = Wrong::new("is \u{2066}odd").hint("be\u{feff} even\n\u{85}so");
        let faults = Faults::new("a\u{202e}.toml", text, vec![Fault::new(at..at + 1, "k\u{ad}", wrong)]);
        for shown in [faults.render(false), faults.to_string()] {
            assert!(!shown.chars().any(|c| visible::is_hidden(c) && c != '\n'), "{shown:?}");
            assert!(shown.contains("a\\u{202e}.toml:1:13"), "{shown}");
            assert!(shown.contains("is \\u{2066}odd") && shown.contains("be\\u{feff} even"), "{shown}");
        }
        let marked = faults.render(false);
        let mark = marked.lines().find(|line| line.contains('^')).unwrap();
        let line = marked.lines().find(|line| line.contains("a = ")).unwrap();
        let column = |line: &str, c| line.chars().position(|each| each == c).unwrap();
        assert_eq!(column(mark, '^'), column(line, 'y'), "{marked}");
    }

    #[test]
    fn only_the_coloured_form_has_escape_sequences() {
        assert!(faults("a", 0..1).render(true).contains('\x1b'));
        assert!(!faults("a", 0..1).render(false).contains('\x1b'));
    }
}

//! A worker's standard output and error: bytes to lines, and the last lines kept.
//!
//! Pure and incremental. A worker may write anything: a line is cut at a limit and goes on as further pieces (so
//! a line of ten megabytes costs the memory of one piece), bytes that are not UTF-8 are written as `\xNN`, and the
//! last line needs no newline. A level prefix as in `sd-daemon(3)` (`<3>`) is taken off.

use std::collections::VecDeque;

use serde_json::Value;

/// The longest piece of a line, in bytes, where nothing else is said.
pub const LINE_MAX: usize = 16 * 1024;
/// Lines of a worker that are kept for `status`.
pub const TAIL_LINES: usize = 20;
/// Bytes of a worker's lines that are kept for `status`, all together.
pub const TAIL_BYTES: usize = 4 * 1024;

/// A line, or a piece of one that was too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it says, without its end and its level prefix. May hold control characters, NUL among them: a
    /// format that goes to a terminal escapes them.
    pub text: String,
    /// The level from the prefix, 0 (emergency) to 7 (debug), as in `syslog(3)`.
    pub priority: Option<u8>,
    /// It was cut here; the next piece goes on.
    pub truncated: bool,
    /// It goes on where the last piece was cut.
    pub continuation: bool,
    /// What else a record of its channel says; `None` for what came through a pipe.
    pub said: Option<Box<Said>>,
}

/// What a record of a worker has beside its text and its level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The part of the program that says so.
    pub target: Option<String>,
    /// What belongs to it: strings, numbers, booleans and nulls, by name, in their order.
    pub fields: Vec<(String, Value)>,
}

impl Line {
    /// The bytes of its texts, about.
    pub fn bytes(&self) -> usize {
        let said = self.said.iter().flat_map(|said| {
            let fields =
                said.fields.iter().map(|(name, value)| name.len() + 16 + value.as_str().map_or(8, str::len));
            fields.chain(said.target.as_ref().map(String::len))
        });
        self.text.len() + said.sum::<usize>()
    }
}

/// Cuts what comes from one pipe into lines.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    partial: Vec<u8>,
    /// The piece in `partial` continues a line; with the level of that line.
    continues: Option<Option<u8>>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(LINE_MAX)
    }
}

impl Splitter {
    /// Cuts lines longer than `max` bytes; at least 16.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(16), partial: Vec::new(), continues: None }
    }

    /// Takes bytes as they came and gives the lines that they complete.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            let room = self.max - self.partial.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(&bytes[..end]);
                bytes = &bytes[end + 1..];
                lines.push(self.end_of_line());
            } else if bytes.len() > room {
                self.partial.extend_from_slice(&bytes[..room]);
                bytes = &bytes[room..];
                lines.push(self.cut());
            } else {
                self.partial.extend_from_slice(bytes);
                break;
            }
        }
        lines
    }

    /// The pipe ended: what is left is the last line.
    pub fn finish(&mut self) -> Option<Line> {
        if self.partial.is_empty() && self.continues.is_none() { None } else { Some(self.end_of_line()) }
    }

    fn end_of_line(&mut self) -> Line {
        let mut bytes = std::mem::take(&mut self.partial);
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let continues = self.continues.take();
        piece(&bytes, continues, false)
    }

    fn cut(&mut self) -> Line {
        let rest = self.partial.split_off(boundary(&self.partial));
        let bytes = std::mem::replace(&mut self.partial, rest);
        let line = piece(&bytes, self.continues, true);
        self.continues = Some(line.priority);
        line
    }
}

fn piece(bytes: &[u8], continues: Option<Option<u8>>, truncated: bool) -> Line {
    let (priority, bytes) = match continues {
        Some(priority) => (priority, bytes),
        None => level_prefix(bytes),
    };
    Line { text: printable(bytes), priority, truncated, continuation: continues.is_some(), said: None }
}

/// Where to cut so that a character is not torn apart: at most three bytes before the end.
fn boundary(bytes: &[u8]) -> usize {
    let end = bytes.len();
    for back in 1..=end.min(3) {
        let byte = bytes[end - back];
        let width = match byte {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => return end,
        };
        return if width > back { end - back } else { end };
    }
    end
}

/// `<N>` at the start of a line; what is not exactly that belongs to the text.
fn level_prefix(bytes: &[u8]) -> (Option<u8>, &[u8]) {
    match bytes {
        [b'<', level @ b'0'..=b'7', b'>', rest @ ..] => (Some(level - b'0'), rest),
        _ => (None, bytes),
    }
}

/// Text as it is, and bytes that are no text as `\xNN`.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The last lines of a worker.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Keeps a line and forgets what is too much: at most [`TAIL_LINES`] and [`TAIL_BYTES`]. A line that alone is
    /// too long is cut.
    pub fn push(&mut self, line: &str) {
        let mut end = line.len().min(TAIL_BYTES / 4);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes += end;
        self.lines.push_back(line[..end].to_owned());
        while self.lines.len() > TAIL_LINES || self.bytes > TAIL_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(splitter: &mut Splitter, bytes: &[u8]) -> Vec<String> {
        splitter.push(bytes).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_come_out_whole_however_the_bytes_came_in() {
        let mut splitter = Splitter::default();
        assert!(texts(&mut splitter, b"on").is_empty());
        assert_eq!(texts(&mut splitter, b"e\r\n\ntwo\nthr"), ["one", "", "two"]);
        assert_eq!(splitter.finish().unwrap().text, "thr");
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn a_long_line_is_cut_and_marked_and_keeps_its_level() {
        let mut splitter = Splitter::new(16);
        let mut lines = splitter.push(b"<3>0123456789abcdefghijklmnopqrstuvwxyz\n<4>next\n");
        let last = lines.pop().unwrap();
        assert_eq!((last.text.as_str(), last.priority, last.continuation), ("next", Some(4), false));
        let marks: Vec<_> =
            lines.iter().map(|l| (l.text.as_str(), l.priority, l.truncated, l.continuation)).collect();
        assert_eq!(
            marks,
            [
                ("0123456789abc", Some(3), true, false),
                ("defghijklmnopqrs", Some(3), true, true),
                ("tuvwxyz", Some(3), false, true)
            ]
        );
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_cut() {
        let mut splitter = Splitter::new(16);
        let lines = splitter.push(b"0123456789abcdef\nx\n");
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| !line.truncated && !line.continuation));
    }

    #[test]
    fn a_line_of_ten_megabytes_never_holds_more_than_one_piece() {
        let mut splitter = Splitter::default();
        let chunk = vec![b'x'; 64 * 1024];
        let mut seen = 0;
        for _ in 0..160 {
            seen += splitter.push(&chunk).iter().map(|line| line.text.len()).sum::<usize>();
            assert!(splitter.partial.capacity() <= 2 * LINE_MAX);
        }
        seen += splitter.finish().unwrap().text.len();
        assert_eq!(seen, 160 * 64 * 1024);
    }

    #[test]
    fn a_character_is_not_torn_apart_by_the_cut() {
        let mut splitter = Splitter::new(16);
        let text = "0123456789abcd€fgh🙂€€€€";
        let mut whole: String = texts(&mut splitter, text.as_bytes()).concat();
        whole.push_str(&splitter.finish().unwrap().text);
        assert_eq!(whole, text);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_and_nul_is_kept() {
        let mut splitter = Splitter::default();
        assert_eq!(texts(&mut splitter, b"a\xffb\0c\n"), ["a\\xffb\0c"]);
        assert_eq!(texts(&mut splitter, b"<8>a\n< 3>b\n<3\n"), ["<8>a", "< 3>b", "<3"]);
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes() {
        let mut tail = Tail::default();
        for number in 0..100 {
            tail.push(&number.to_string());
        }
        assert_eq!(tail.lines().next(), Some("80"));
        assert_eq!(tail.lines().count(), TAIL_LINES);
        for _ in 0..10 {
            tail.push(&"é".repeat(5000));
        }
        assert!(tail.lines().map(str::len).sum::<usize>() <= TAIL_BYTES);
        assert_eq!(tail.lines().count(), 4);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_wherever_the_bytes_are_cut(
            text in "[a-z€🙂\\n]{0,200}", cuts in proptest::collection::vec(1usize..20, 0..60)
        ) {
            let mut splitter = Splitter::new(16);
            let mut rest = text.as_bytes();
            let mut lines = Vec::new();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                lines.extend(splitter.push(head));
                rest = tail;
            }
            lines.extend(splitter.finish());
            let mut joined = String::new();
            for line in &lines {
                prop_assert!(line.text.len() <= 16);
                joined.push_str(&line.text);
                if !line.truncated {
                    joined.push('\n');
                }
            }
            let expected = if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
            prop_assert_eq!(joined, expected);
        }

        #[test]
        fn no_bytes_can_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut splitter = Splitter::new(16);
            splitter.push(&bytes);
            splitter.finish();
            prop_assert!(splitter.partial.is_empty());
        }
    }
}

//! Files of environment variables, in the syntax of systemd's `EnvironmentFile=` (`systemd.exec(5)`).
//!
//! The states are those of systemd's reader (`src/basic/env-file.c`, since 254), so that a file means here
//! what it means there. The one difference: a line that systemd would skip (no `=`, not a name, an open
//! quote at the end) is an error here, because a variable that is silently missing is found out much later.

use super::names::{check_variable, is_reserved_variable};

/// What is wrong with a file of environment variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct EnvironmentFileError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong, for a person.
    pub reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeName,
    Name,
    BeforeValue,
    Value,
    Escape,
    SingleQuoted,
    DoubleQuoted,
    DoubleQuotedEscape,
    Comment,
    CommentEscape,
}

/// Reads the variables of a file, in its order. A name that occurs again is there again: the last one counts.
///
/// Comments begin with `#` or `;`. A value may be bare (a backslash takes the next character as it is, or
/// joins the next line), in single quotes (as it is) or in double quotes (a backslash before `"`, `\`, `` ` ``
/// and `$` is taken away, before a newline it joins). White space around bare values and names is dropped.
///
/// # Errors
/// The first line that sets nothing: without `=`, with a bad name or one that handover sets itself, with a
/// NUL, or with a quote that the file never closes.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvironmentFileError> {
    let mut reader = Reader::default();
    for c in text.chars() {
        if c == '\0' {
            return Err(reader.error(reader.line, "a NUL"));
        }
        reader.take(c)?;
        reader.line += usize::from(c == '\n');
    }
    reader.finish()
}

struct Reader {
    state: State,
    line: usize,
    /// The line on which the assignment began.
    begun: usize,
    name: String,
    value: String,
    /// The length of `value` up to its last character that is not bare white space.
    kept: usize,
    found: Vec<(String, String)>,
}

impl Default for Reader {
    fn default() -> Self {
        let (name, value) = (String::new(), String::new());
        Self { state: State::BeforeName, line: 1, begun: 1, name, value, kept: 0, found: Vec::new() }
    }
}

impl Reader {
    fn take(&mut self, c: char) -> Result<(), EnvironmentFileError> {
        let newline = matches!(c, '\n' | '\r');
        let space = newline || matches!(c, ' ' | '\t');
        self.state = match self.state {
            State::BeforeName => match c {
                '#' | ';' => State::Comment,
                _ if space => State::BeforeName,
                _ => self.begin(c),
            },
            State::Name if newline => return Err(self.error(self.begun, "no `=`")),
            State::Name if c == '=' => State::BeforeValue,
            State::Name => {
                self.name.push(c);
                State::Name
            }
            State::BeforeValue | State::Value if newline => self.assign()?,
            State::BeforeValue => match c {
                '\'' => State::SingleQuoted,
                '"' => State::DoubleQuoted,
                '\\' => State::Escape,
                _ if space => State::BeforeValue,
                _ => self.keep(c, State::Value),
            },
            State::Value if c == '\\' => {
                self.kept = self.value.len();
                State::Escape
            }
            State::Value if space => {
                self.value.push(c);
                State::Value
            }
            State::Escape if newline => State::Value,
            State::Value | State::Escape => self.keep(c, State::Value),
            State::SingleQuoted if c == '\'' => State::BeforeValue,
            State::SingleQuoted => self.keep(c, State::SingleQuoted),
            State::DoubleQuoted | State::DoubleQuotedEscape => self.double_quoted(c),
            State::Comment if c == '\\' => State::CommentEscape,
            State::Comment | State::CommentEscape if newline => State::BeforeName,
            State::Comment | State::CommentEscape => State::Comment,
        };
        Ok(())
    }

    fn double_quoted(&mut self, c: char) -> State {
        let escaped = self.state == State::DoubleQuotedEscape;
        match c {
            '"' if !escaped => return State::BeforeValue,
            '\\' if !escaped => return State::DoubleQuotedEscape,
            '\n' if escaped => return State::DoubleQuoted,
            '"' | '\\' | '`' | '$' => {}
            _ if escaped => self.value.push('\\'),
            _ => {}
        }
        self.keep(c, State::DoubleQuoted)
    }

    fn begin(&mut self, c: char) -> State {
        self.begun = self.line;
        self.name.push(c);
        State::Name
    }

    fn keep(&mut self, c: char, state: State) -> State {
        self.value.push(c);
        self.kept = self.value.len();
        state
    }

    fn assign(&mut self) -> Result<State, EnvironmentFileError> {
        self.value.truncate(self.kept);
        let name = std::mem::take(&mut self.name).trim_end_matches([' ', '\t']).to_owned();
        if is_reserved_variable(&name) {
            return Err(self.error(self.begun, &format!("{name}: handover sets this variable itself")));
        }
        check_variable(&name).map_err(|wrong| self.error(self.begun, &wrong.reason))?;
        self.found.push((name, std::mem::take(&mut self.value)));
        self.kept = 0;
        Ok(State::BeforeName)
    }

    fn finish(mut self) -> Result<Vec<(String, String)>, EnvironmentFileError> {
        match self.state {
            State::BeforeName | State::Comment | State::CommentEscape => {}
            State::Name => return Err(self.error(self.begun, "no `=`")),
            State::SingleQuoted | State::DoubleQuoted | State::DoubleQuotedEscape => {
                return Err(self.error(self.begun, "a quote is never closed"));
            }
            State::BeforeValue | State::Value | State::Escape => {
                self.assign()?;
            }
        }
        Ok(self.found)
    }

    fn error(&self, line: usize, reason: &str) -> EnvironmentFileError {
        EnvironmentFileError { line, reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        let found = parse(text).unwrap();
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert_eq!(found[0].0, "A", "{text:?}");
        found[0].1.clone()
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, expected) in [
            ("A=b", "b"),
            ("  A = b c \t\n", "b c"),
            ("A=", ""),
            ("A=\n", ""),
            ("A=b\r\n", "b"),
            ("A=b#c ;d", "b#c ;d"),
            ("A='b  \\ \"c'", "b  \\ \"c"),
            ("A=\"b \\\"c\\\" \\$d \\n\"", "b \"c\" $d \\n"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=\"b\nc\"", "b\nc"),
            ("A=b\\\nc", "bc"),
            ("A=b\\ \\\\c\\", "b \\c"),
            ("A='b'\"c\"d", "bcd"),
            ("A='b' c", "bc"),
            ("A=b'c'", "b'c'"),
            ("A=x=y", "x=y"),
            ("A=ü", "ü"),
            ("# c\n; d \\\nA=b\n\n", "b"),
        ] {
            assert_eq!(one(text), expected, "{text:?}");
        }
    }

    #[test]
    fn every_assignment_counts_in_its_order() {
        let pairs = parse("A=1\nB=2\nA=3").unwrap();
        assert_eq!(pairs, [("A", "1"), ("B", "2"), ("A", "3")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn a_line_that_sets_nothing_is_an_error() {
        for (text, line, reason) in [
            ("A=1\nif true; then\n", 2, "no `=`"),
            ("A", 1, "no `=`"),
            ("export A=b", 1, "not a name"),
            ("A=1\n\nB='x\ny", 3, "never closed"),
            ("A=\"x\\", 1, "never closed"),
            ("LISTEN_FDS=3", 1, "handover sets this variable itself"),
            ("A=\0", 1, "NUL"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.reason.contains(reason), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(text in "[A-B=\\\\'\"\n\r #;ü]{0,40}") {
            let _ = parse(&text);
        }
    }
}

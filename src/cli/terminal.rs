//! A terminal to draw on: one that can be told where text goes. A dumb one (`TERM`) gets lines, like a file.
//!
//! What steers it is written as it is. Styles are taken out where they are not wanted, which `anstream` decides here as
//! for all that is printed (`NO_COLOR`, `CLICOLOR`).

use std::io;

use anstream::{AutoStream, ColorChoice};
use console::{Term, is_dumb, truncate_str};

pub(super) struct Terminal {
    term: Term,
    styled: bool,
}

impl Terminal {
    /// `None`: standard output is no terminal to draw on.
    pub(super) fn stdout() -> Option<Self> {
        Self::of(Term::stdout(), AutoStream::choice(&io::stdout()))
    }

    /// `None`: standard error is no terminal to draw on.
    pub(super) fn stderr() -> Option<Self> {
        Self::of(Term::stderr(), AutoStream::choice(&io::stderr()))
    }

    fn of(term: Term, choice: ColorChoice) -> Option<Self> {
        let can_be_steered = term.is_term() && !is_dumb();
        can_be_steered.then_some(Self { term, styled: choice != ColorChoice::Never })
    }

    /// Lines and columns that it has now.
    pub(super) fn size(&self) -> (usize, usize) {
        let (height, width) = self.term.size();
        (height.into(), width.into())
    }

    /// A line as it is shown here, cut to so many columns.
    pub(super) fn fit(&self, line: &str, width: usize) -> String {
        let line = truncate_str(line, width, "…");
        if self.styled { line.into_owned() } else { anstream::adapter::strip_str(&line).to_string() }
    }

    /// Writes all of it in one go.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        self.term.write_str(text)
    }
}

//! Long work as it goes, on a terminal: a few lines at the bottom that change in place, and above them what stays.
//!
//! They are drawn from the status document, so they are true for whoever comes late, and say of each slot in motion which worker
//! is there, what it is doing and since when. Where there is no terminal to draw on there is none of this: lines follow
//! each other.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::AnsiColor;

use super::table;
use super::terminal::Terminal;
use crate::control::document::{Rollout, StatusDocument};

/// The times that are shown have a second's precision.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// After an event, others are likely to follow at once.
pub(super) const SOON: Duration = Duration::from_millis(100);
/// Lines of the screen that are left to what stays.
const LINES_KEPT: usize = 4;
/// Letters of the bar.
const BAR: u32 = 20;

/// The lines that change.
pub(super) struct Live {
    terminal: Terminal,
    /// As many as stand there now, the cursor below them.
    lines: Vec<String>,
}

impl Live {
    /// `None`: standard error is no terminal to draw on.
    pub(super) fn on_terminal() -> Option<Self> {
        Some(Self { terminal: Terminal::stderr()?, lines: Vec::new() })
    }

    /// A line that stays.
    pub(super) fn tell(&mut self, line: &str) {
        let lines = std::mem::take(&mut self.lines);
        self.replace(lines.len(), &[line.to_owned()]);
        self.replace(0, &lines);
        self.lines = lines;
    }

    /// Draws how things are.
    pub(super) fn show(&mut self, document: &StatusDocument) {
        let lines =
            document.rollout.as_ref().map(|rollout| self.frame(rollout, document)).unwrap_or_default();
        if lines != self.lines {
            self.replace(self.lines.len(), &lines);
            self.lines = lines;
        }
    }

    /// What is shown, cut to the size that the terminal has now.
    fn frame(&self, rollout: &Rollout, document: &StatusDocument) -> Vec<String> {
        let (height, width) = self.terminal.size();
        let room = height.saturating_sub(LINES_KEPT).max(2);
        let mut lines = vec![head(rollout)];
        lines.extend(table::in_motion(document));
        if lines.len() > room {
            let more = lines.len() - (room - 1);
            lines.truncate(room - 1);
            lines.push(format!("  and {more} more"));
        }
        lines.iter().map(|line| self.terminal.fit(line, width)).collect()
    }

    /// Writes lines in place of as many as stand above the cursor, in one go. A terminal that is gone has no reader.
    fn replace(&self, standing: usize, lines: &[String]) {
        let mut text = String::new();
        if standing > 0 {
            // `console_codes(4)`: up so many lines, to the first column; clear to the end of the screen.
            let _ = write!(text, "\u{1b}[{standing}F\u{1b}[J");
        }
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        let _ = self.terminal.write(&text);
    }
}

impl Drop for Live {
    /// Removes what changes; what stays, stays.
    fn drop(&mut self) {
        self.replace(self.lines.len(), &[]);
    }
}

fn head(rollout: &Rollout) -> String {
    let Rollout { generation, moved, slots, .. } = rollout;
    let (verb, colour) = match &rollout.rolling_back {
        Some(_) => ("rolling back", AnsiColor::Red),
        None => ("rolling out", AnsiColor::Green),
    };
    let done = (moved * BAR).checked_div(*slots).unwrap_or(BAR);
    let bar: String = (0..BAR).map(|at| if at < done { '=' } else { ' ' }).collect();
    let (style, since) = (colour.on_default(), table::span(rollout.started.seconds_ago));
    format!("{verb} generation {generation} [{style}{bar}{style:#}] {moved} of {slots} slots, {since}")
}

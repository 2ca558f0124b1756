//! Long work as it goes, on a terminal: a few lines at the bottom that change in place, and above them what stays.
//!
//! They are drawn from the status document, so they are true for whoever comes late, and say of each slot in motion which worker
//! is there, what it is doing and since when. Elsewhere than on a terminal there is none of this: lines follow each other.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table;
use crate::control::document::{Rollout, StatusDocument};

/// The times that are shown have a second's precision.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// After an event, others are likely to follow at once.
pub(super) const SOON: Duration = Duration::from_millis(100);
/// Lines of the screen that are left to what stays.
const LINES_KEPT: usize = 4;
/// Times a second that the terminal is written to, at most.
const HERTZ: u8 = 20;

/// The lines that change.
pub(super) struct Live {
    area: MultiProgress,
    head: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Live {
    /// `None`: standard error is no terminal.
    pub(super) fn on_terminal() -> Option<Self> {
        let area = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(HERTZ));
        if area.is_hidden() {
            return None;
        }
        let head = area.add(ProgressBar::hidden());
        Some(Self { area, head, lines: Vec::new() })
    }

    /// A line that stays.
    pub(super) fn tell(&self, line: &str) {
        // The terminal is gone: nobody reads it.
        let _ = self.area.println(line);
    }

    /// Draws how things are.
    pub(super) fn show(&mut self, document: &StatusDocument) {
        let Some(rollout) = &document.rollout else { return self.clear() };
        self.draw_head(rollout);
        let height = usize::from(console::Term::stderr().size().0);
        let mut lines = table::in_motion(document);
        let room = height.saturating_sub(LINES_KEPT).max(2);
        if lines.len() > room {
            let more = lines.len() - (room - 1);
            lines.truncate(room - 1);
            lines.push(format!("  and {more} more"));
        }
        while self.lines.len() < lines.len() {
            let style =
                ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            self.lines.push(self.area.add(ProgressBar::new(1).with_style(style)));
        }
        for line in self.lines.drain(lines.len()..) {
            line.finish_and_clear();
        }
        for (shown, line) in self.lines.iter().zip(lines) {
            shown.set_message(line);
        }
    }

    fn draw_head(&mut self, rollout: &Rollout) {
        if self.head.is_hidden() {
            self.head = self.area.insert(0, ProgressBar::new(u64::from(rollout.slots)));
        }
        let verb = if rollout.rolling_back.is_some() { "rolling back" } else { "rolling out" };
        let bar = if rollout.rolling_back.is_some() { "red" } else { "green" };
        let template = format!(
            "{verb} generation {} [{{bar:20.{bar}}}] {{pos}} of {{len}} slots, {{wide_msg}}",
            rollout.generation
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.head.set_style(style.progress_chars("=> "));
        }
        self.head.set_length(u64::from(rollout.slots));
        self.head.set_position(u64::from(rollout.moved));
        self.head.set_message(table::span(rollout.started.seconds_ago));
    }

    /// Removes what changes; what stays, stays.
    pub(super) fn clear(&mut self) {
        for line in self.lines.drain(..) {
            line.finish_and_clear();
        }
        self.head.finish_and_clear();
        self.head = self.area.add(ProgressBar::hidden());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

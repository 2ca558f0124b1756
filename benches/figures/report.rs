//! What a figure says, and the forms in which it is said: tables for the terminal, the page `docs/performance.md`, and JSON.
//!
//! The page is written whole by the generator; only its head and its tail are written by hand, in `head.md` and
//! `tail.md` beside this file.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::machine::Machine;

/// A table.
pub struct Table {
    /// The heads of its columns.
    pub head: Vec<&'static str>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn plain(&self) -> String {
        let heads: Vec<String> = self.head.iter().map(|&head| head.to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&heads).chain(&self.rows).collect();
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}", width = *width))
                .collect();
            let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.head.join(" | "), "---|".repeat(self.head.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }

    fn json(&self) -> Value {
        json!({ "columns": self.head, "rows": self.rows })
    }
}

/// One number beside what it is compared with.
pub struct Line {
    /// What is measured.
    pub what: String,
    /// The number.
    pub value: String,
    /// The same of the baseline.
    pub baseline: String,
    /// One through the other, with its spread.
    pub ratio: String,
    /// What was wanted; empty where nothing was.
    pub aim: String,
    /// Whether that was reached.
    pub met: Option<bool>,
}

impl Line {
    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "value": self.value, "baseline": self.baseline, "ratio": self.ratio,
            "aim": self.aim, "met": self.met,
        })
    }
}

/// What a figure says.
#[derive(Default)]
pub struct Report {
    /// Its heading.
    pub title: &'static str,
    /// How it is measured.
    pub how: String,
    /// What it does not show.
    pub not: &'static str,
    /// All numbers.
    pub tables: Vec<Table>,
    /// Those that count.
    pub lines: Vec<Line>,
    /// What could not be measured here, and why.
    pub skipped: Vec<String>,
}

impl Report {
    /// Notes what could not be measured, at once and in the report.
    pub fn skip(&mut self, what: &str, why: &str) {
        let text = format!("skipped: {what} ({why})");
        println!("{text}");
        self.skipped.push(text);
    }

    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.how);
        for table in &self.tables {
            let _ = writeln!(text, "{}", table.markdown());
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "- {skipped}");
        }
        if !self.skipped.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "What it does not show: {}\n", self.not);
        text
    }
}

fn glance<'a>(lines: impl Iterator<Item = &'a Line>) -> Table {
    let mut table = Table::new(&["figure", "measured", "baseline", "ratio (spread)", "aim", "reached"]);
    for line in lines {
        let cells = [&line.what, &line.value, &line.baseline, &line.ratio, &line.aim, line.verdict()];
        table.row(cells.map(str::to_owned));
    }
    table
}

/// For the terminal.
pub fn plain(report: &Report) -> String {
    let mut text = format!("\n== {}\n", report.title);
    for table in &report.tables {
        let _ = writeln!(text, "{}", table.plain());
    }
    text.push_str(&glance(report.lines.iter()).plain());
    text
}

/// `docs/performance.md`.
pub fn page(machine: &Machine, command: &str, reports: &[Report]) -> String {
    let mut text = include_str!("head.md").to_owned();
    let mut facts = Table::new(&["", ""]);
    facts.row(["command", &format!("`{command}`")]);
    machine.facts().into_iter().for_each(|(name, fact)| facts.row([name.to_owned(), fact]));
    let _ = writeln!(text, "\n## This run\n\n{}", facts.markdown());
    let _ = writeln!(
        text,
        "## At a glance\n\n{}",
        glance(reports.iter().flat_map(|report| &report.lines)).markdown()
    );
    for report in reports {
        text.push_str(&report.markdown());
    }
    text.push_str(include_str!("tail.md"));
    text
}

/// The same as JSON, for comparing runs.
pub fn json(machine: &Machine, command: &str, reports: &[Report]) -> Value {
    let each = |report: &Report| {
        json!({
            "title": report.title,
            "lines": report.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "tables": report.tables.iter().map(Table::json).collect::<Vec<_>>(),
            "skipped": report.skipped,
        })
    };
    let facts: Value =
        machine.facts().into_iter().map(|(name, fact)| (name.to_owned(), Value::from(fact))).collect();
    json!({ "command": command, "machine": facts, "figures": reports.iter().map(each).collect::<Vec<_>>() })
}

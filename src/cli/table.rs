//! The status document as text for people. Pure.
//!
//! The first line answers "is it fine, and if not, why"; what follows is the evidence.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::console::printable;
use super::rows;
use crate::control::document::{Daemon, Failure, Listener, Pool, Rollout, StatusDocument};

/// Lines of a failed worker's output that are shown.
pub(super) const OUTPUT_LINES: usize = 5;
/// Of a row that needs attention.
pub(super) const BAD: Style = AnsiColor::Red.on_default();

/// The whole status; lines end in newlines. Where a pool has many slots with nothing particular, they share a row, unless
/// `every_slot` is wanted.
pub(super) fn status(document: &StatusDocument, every_slot: bool) -> String {
    let mut text = head(&document.daemon);
    let mut section = |body: String| {
        if !body.is_empty() {
            text.push('\n');
            text.push_str(&body);
        }
    };
    section(document.rollout.as_ref().map(rollout).unwrap_or_default());
    section(workers(&document.pools, every_slot));
    section(listeners(&document.listeners));
    section(failures(document));
    section(notes(document));
    text
}

/// Is it fine, and if not, why; with its newline.
pub(super) fn first_line(daemon: &Daemon) -> String {
    let Daemon { name, summary, fine, healthy, .. } = daemon;
    let style =
        if *fine && *healthy { AnsiColor::Green.on_default() } else { AnsiColor::Yellow.on_default().bold() };
    format!("{style}{name}: {}{style:#}\n", printable(summary))
}

fn head(daemon: &Daemon) -> String {
    let Daemon { pid, version, phase, .. } = daemon;
    let ready = if daemon.ready { "" } else { ", not yet ready" };
    let config = daemon.config.as_deref().map_or_else(|| "command line".to_owned(), printable);
    format!(
        "{}{phase}{ready} for {}, pid {pid}, version {version}, {config}\n",
        first_line(daemon),
        span(daemon.started.seconds_ago),
    )
}

fn rollout(rollout: &Rollout) -> String {
    let Rollout { generation, moved, slots, .. } = rollout;
    let mut text = format!("rollout to generation {generation}: {moved} of {slots} slots moved, for {}\n", {
        span(rollout.started.seconds_ago)
    });
    if let Some(failure) = &rollout.rolling_back {
        push(&mut text, format_args!("  rolling back: {}\n", printable(&failure.text)));
    }
    if !rollout.waiting_for.is_empty() {
        let waiting = printable(&rollout.waiting_for);
        push(&mut text, format_args!("  waiting for {waiting}, for {}\n", span(rollout.waiting_seconds)));
    }
    text
}

fn workers(pools: &[Pool], every_slot: bool) -> String {
    let mut table = table(&["POOL", "SLOT", "WORKER", "PID", "GEN", "STATE", "FOR", "FAILED", "STATUS"]);
    let mut styles = Vec::new();
    for row in pools.iter().flat_map(|pool| rows::of(pool, every_slot)) {
        table.add_row(row.cells);
        styles.push(row.style);
    }
    let mut text = render(&table, &styles);
    for pool in pools {
        // Workers of a pool mostly lack the same.
        let workers = pool.slots.iter().flat_map(|slot| &slot.workers);
        let hints: BTreeSet<&str> = workers.filter_map(|worker| worker.hint.as_deref()).collect();
        for hint in hints {
            push(&mut text, format_args!("pool {}: hint: {}\n", pool.name, printable(hint)));
        }
    }
    for pool in pools.iter().filter(|pool| pool.scaled) {
        push(&mut text, format_args!("pool {} has {} slots by `handover scale`\n", pool.name, pool.wanted));
    }
    text
}

/// What a rollout waits for, and the slots in which something happens: a line each, without newlines.
pub(super) fn in_motion(document: &StatusDocument) -> Vec<String> {
    let waiting = document.rollout.as_ref().filter(|rollout| !rollout.waiting_for.is_empty());
    let waiting = waiting.map(|rollout| {
        format!("  waiting for {}, for {}", printable(&rollout.waiting_for), span(rollout.waiting_seconds))
    });
    let mut table = headless();
    let mut styles = Vec::new();
    for row in document.pools.iter().flat_map(rows::in_motion) {
        table.add_row(row.cells);
        styles.push(row.style);
    }
    let rows = lines(&table, &styles).into_iter().map(|line| format!("  {line}"));
    waiting.into_iter().chain(rows).collect()
}

fn listeners(listeners: &[Listener]) -> String {
    let mut table = table(&["LISTENER", "ADDRESS", "FROM", "QUEUE", "POOLS", "NOTE"]);
    let mut styles = Vec::new();
    for listener in listeners {
        let number = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let queue = match (listener.queue, listener.queue_max) {
            (None, None) => "-".to_owned(),
            (queue, max) => format!("{}/{}", number(queue), number(max)),
        };
        table.add_row(vec![
            listener.name.clone(),
            printable(&listener.address),
            listener.origin.clone(),
            queue,
            listener.pools.join(","),
            printable(&listener.drift.join("; ")),
        ]);
        styles.push(if listener.harmed { BAD } else { Style::new() });
    }
    render(&table, &styles)
}

/// How slots and the last rollout failed, with the last lines of the worker that did.
fn failures(document: &StatusDocument) -> String {
    let mut text = String::new();
    let rollout = document.last_failed_rollout.as_ref();
    if let Some(failed) = rollout {
        let heading = format!("the rollout to generation {} was rolled back", failed.generation);
        push_failure(&mut text, &heading, &failed.failure);
        for place in &failed.kept {
            let (pool, slot) = (place.pool.as_deref().unwrap_or("?"), place.slot.unwrap_or_default());
            push(&mut text, format_args!("  pool {pool}, slot {slot} still runs it\n"));
        }
    }
    let told = rollout.and_then(|failed| failed.failure.worker);
    for pool in &document.pools {
        for slot in &pool.slots {
            let Some(last) = slot.last_failure.as_ref().filter(|last| last.failure.worker != told) else {
                continue;
            };
            let worker = last.failure.worker.map_or_else(String::new, |worker| format!(", worker {worker}"));
            let ago = span(last.at.seconds_ago);
            let heading = format!("pool {}, slot {}{worker}, {ago} ago", pool.name, slot.slot);
            push_failure(&mut text, &heading, &last.failure);
        }
    }
    text
}

fn push_failure(text: &mut String, heading: &str, failure: &Failure) {
    push(text, format_args!("{heading}: {}\n", printable(&failure.text)));
    push_evidence(text, failure);
}

/// What else is known of a failure, a line each: the last that the worker wrote, and what to do.
pub(super) fn push_evidence(text: &mut String, failure: &Failure) {
    let output = failure.output.as_deref().unwrap_or_default();
    for line in &output[output.len().saturating_sub(OUTPUT_LINES)..] {
        push(text, format_args!("  | {}\n", printable(line)));
    }
    if let Some(hint) = &failure.hint {
        push(text, format_args!("  hint: {}\n", printable(hint)));
    }
}

/// What should be known and is nobody's row.
fn notes(document: &StatusDocument) -> String {
    let mut text = String::new();
    for generation in &document.generations {
        for program in generation.programs.iter().filter(|program| program.changed) {
            let (pool, path, number) = (&program.pool, printable(&program.path), generation.generation);
            push(&mut text, format_args!("pool {pool}: {path}: program changed since generation {number}\n"));
        }
    }
    let counters = &document.counters;
    for (number, what) in [
        (counters.notifications_dropped, "notifications dropped: their senders were not to be believed"),
        (
            counters.log_lines_dropped,
            "log lines dropped: neither standard error nor the journal took them in time",
        ),
        (counters.lines_lost, "lines lost: standard error is closed, or nobody reads it"),
        (counters.manager_texts_lost, "texts that the service manager did not take"),
        (counters.seconds_lost, "seconds in which nobody ran: deadlines were moved by that"),
        (counters.control_refused, "control connections refused: there were too many"),
        (
            counters.messages_refused,
            "messages that their receivers did not get: they did not take them, or take none such",
        ),
        (
            counters.closers_stuck,
            "closer processes stuck: fds that a worker or a stranger sent cannot be closed",
        ),
        (counters.fds_to_close, "fds not closed yet: see the closer processes"),
    ] {
        if number > 0 {
            push(&mut text, format_args!("{number} {what}\n"));
        }
    }
    text
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = headless();
    table.set_header(header.to_vec());
    table
}

fn headless() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Without the spaces around the whole; nothing where there is no row. Each row is one line, in its style;
/// rows beyond `styles` have none.
pub(super) fn render(table: &Table, styles: &[Style]) -> String {
    if table.is_empty() {
        return String::new();
    }
    let styles: Vec<Style> = std::iter::once(Style::new().bold()).chain(styles.iter().copied()).collect();
    lines(table, &styles).iter().map(|line| format!("{line}\n")).collect()
}

fn lines(table: &Table, styles: &[Style]) -> Vec<String> {
    let styles = styles.iter().copied().chain(std::iter::repeat(Style::new()));
    let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.zip(styles).map(|(line, style)| format!("{style}{line}{style:#}")).collect()
}

/// Adds to a text.
pub(super) fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(what);
}

/// A span of time in its two largest units: `3h 4min`.
pub(super) fn span(seconds: f64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    // Negative, NaN and endless become 0 and the largest number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as it should")]
    let whole = seconds.round() as u64;
    let Some(first) = UNITS.iter().position(|(length, _)| whole >= *length) else { return "0s".to_owned() };
    let (length, name) = UNITS[first];
    let large = format!("{}{name}", whole / length);
    match UNITS.get(first + 1) {
        Some((next, unit)) if whole % length / next > 0 => format!("{large} {}{unit}", whole % length / next),
        _ => large,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_units() {
        for (seconds, text) in [
            (0.2, "0s"),
            (59.6, "1min"),
            (61.0, "1min 1s"),
            (3600.0, "1h"),
            (3661.0, "1h 1min"),
            (200_000.0, "2d 7h"),
            (-1.0, "0s"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn nothing_that_a_worker_says_reaches_the_terminal_as_a_command() {
        let page = include_str!("../../docs/control.md");
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut document: StatusDocument = serde_json::from_str(example).unwrap();
        let colours = |document: &StatusDocument| status(document, false).matches('\u{1b}').count();
        let ours = colours(&document);
        let evil = "\u{1b}[2J\u{9b}x\r\n".to_owned();
        let slot = &mut document.pools[0].slots[0];
        slot.workers[0].status = Some(evil.clone());
        slot.last_failure.as_mut().unwrap().failure.output = Some(vec![evil.clone()]);
        document.listeners[0].address.push_str(&evil);
        document.daemon.config = Some(evil.clone());
        document.last_failed_rollout.as_mut().unwrap().failure.output = Some(vec![evil]);
        let shown = anstream::adapter::strip_str(&status(&document, false)).to_string();
        assert_eq!(colours(&document), ours);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    }
}

//! The status document as text for people. Pure.
//!
//! The first line answers "is it fine, and if not, why"; what follows is the evidence.

use std::fmt::Write as _;

use anstyle::AnsiColor;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::work::printable;
use crate::control::document::{
    Daemon, Failure, Listener, Pool, Rollout, Slot, StatusDocument, Worker, WorkerState,
};

/// Lines of a failed worker's output that are shown.
const OUTPUT_LINES: usize = 5;

/// The whole status; lines end in newlines.
pub(super) fn status(document: &StatusDocument) -> String {
    let mut text = head(&document.daemon);
    let mut section = |body: String| {
        if !body.is_empty() {
            text.push('\n');
            text.push_str(&body);
        }
    };
    section(document.rollout.as_ref().map(rollout).unwrap_or_default());
    section(workers(&document.pools));
    section(listeners(&document.listeners));
    section(failures(document));
    section(notes(document));
    text
}

fn head(daemon: &Daemon) -> String {
    let style =
        if daemon.fine { AnsiColor::Green.on_default() } else { AnsiColor::Yellow.on_default().bold() };
    let Daemon { name, summary, pid, version, phase, .. } = daemon;
    let ready = if daemon.ready { "" } else { ", not yet ready" };
    let config = daemon.config.as_deref().unwrap_or("command line");
    format!(
        "{style}{name}: {}{style:#}\n{phase}{ready} for {}, pid {pid}, version {version}, {config}\n",
        printable(summary),
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

fn workers(pools: &[Pool]) -> String {
    let mut table = table(&["POOL", "SLOT", "WORKER", "PID", "GEN", "STATE", "FOR", "FAILED", "STATUS"]);
    for pool in pools {
        for slot in &pool.slots {
            if slot.workers.is_empty() {
                table.add_row(empty_row(pool, slot));
            }
            for worker in &slot.workers {
                table.add_row(worker_row(pool, slot, worker));
            }
        }
    }
    let mut text = render(&table);
    for pool in pools.iter().filter(|pool| pool.scaled) {
        push(&mut text, format_args!("pool {} has {} slots by `handover scale`\n", pool.name, pool.wanted));
    }
    text
}

fn worker_row(pool: &Pool, slot: &Slot, worker: &Worker) -> Vec<String> {
    let (state, since) = match worker.state {
        WorkerState::Starting => ("starting", Some(&worker.started)),
        WorkerState::Ready => ("ready", worker.ready.as_ref()),
        WorkerState::Draining => ("draining", worker.asked.as_ref()),
        WorkerState::Killed => ("killed", worker.asked.as_ref()),
        WorkerState::Ending => ("ending", worker.asked.as_ref()),
    };
    let mut notes = Vec::new();
    if worker.leftovers > 0 {
        notes.push(format!("{} processes left in its group", worker.leftovers));
    }
    if slot.kept {
        notes.push("kept: the old program is gone".to_owned());
    }
    notes.extend(worker.status.as_deref().filter(|status| !status.is_empty()).map(printable));
    vec![
        pool.name.clone(),
        slot.slot.to_string(),
        worker.worker.to_string(),
        worker.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        worker.generation.to_string(),
        state.to_owned(),
        since.map_or_else(|| "-".to_owned(), |moment| span(moment.seconds_ago)),
        slot.restarts.to_string(),
        notes.join("; "),
    ]
}

fn empty_row(pool: &Pool, slot: &Slot) -> Vec<String> {
    let state = if slot.crash_loop { "crash loop" } else { "empty" };
    let next = slot.restart_in_seconds.map(|seconds| format!("next start in {}", span(seconds)));
    let dash = || "-".to_owned();
    vec![
        pool.name.clone(),
        slot.slot.to_string(),
        dash(),
        dash(),
        dash(),
        state.to_owned(),
        dash(),
        slot.restarts.to_string(),
        next.unwrap_or_default(),
    ]
}

fn listeners(listeners: &[Listener]) -> String {
    let mut table = table(&["LISTENER", "ADDRESS", "KIND", "FROM", "QUEUE", "INODE", "POOLS", "NOTE"]);
    for listener in listeners {
        let number = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let queue = match (listener.queue, listener.queue_max) {
            (None, None) => "-".to_owned(),
            (queue, max) => format!("{}/{}", number(queue), number(max)),
        };
        table.add_row(vec![
            listener.name.clone(),
            listener.address.clone(),
            listener.kind.clone(),
            listener.origin.clone(),
            queue,
            listener.inode.map_or_else(|| "-".to_owned(), |inode| inode.to_string()),
            listener.pools.join(","),
            listener.drift.join("; "),
        ]);
    }
    render(&table)
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
        (counters.log_lines_dropped, "log lines dropped: standard error did not take them"),
        (counters.lines_lost, "lines lost: standard error is closed, or nobody reads it"),
        (counters.manager_texts_lost, "texts that the service manager did not take"),
        (counters.control_refused, "control connections refused: there were too many"),
    ] {
        if number > 0 {
            push(&mut text, format_args!("{number} {what}\n"));
        }
    }
    text
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    table
}

/// Without the spaces around the whole; nothing where there is no row.
fn render(table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for line in table.lines() {
        push(&mut text, format_args!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end()));
    }
    text
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(what);
}

/// A span of time in its two largest units: `3h 4min`.
fn span(seconds: f64) -> String {
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
        let colours = |document: &StatusDocument| status(document).matches('\u{1b}').count();
        let ours = colours(&document);
        let evil = "\u{1b}[2J\u{9b}x\r\n".to_owned();
        let slot = &mut document.pools[0].slots[0];
        slot.workers[0].status = Some(evil.clone());
        slot.last_failure.as_mut().unwrap().failure.output = Some(vec![evil.clone()]);
        document.last_failed_rollout.as_mut().unwrap().failure.output = Some(vec![evil]);
        let shown = anstream::adapter::strip_str(&status(&document)).to_string();
        assert_eq!(colours(&document), ours);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    }
}

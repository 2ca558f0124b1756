//! The rows of the table of workers. Pure.
//!
//! A screen has some forty lines, a pool may have a thousand slots, and what matters is which of them is unlike the
//! others. So in a pool of many slots those with nothing particular share one row.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};

use super::console::printable;
use super::table::{BAD, span};
use crate::control::document::{Channel, Pool, Slot, Worker, WorkerState};

/// A pool of more slots than this has its quiet ones in one row.
const SLOTS_SHOWN: usize = 8;

/// One line of the table.
pub(super) struct Row {
    /// Pool, slot, worker, pid, generation, state, since when, failures, what it says.
    pub(super) cells: Vec<String>,
    /// How it is shown on a terminal.
    pub(super) style: Style,
}

impl Row {
    /// For people who look at it for seconds: without pids and failures, and without a header that says what is what.
    fn in_short(self) -> Self {
        let [pool, slot, worker, _pid, generation, state, since, _failed, says] = &self.cells[..] else {
            return self;
        };
        let cells = vec![
            format!("{pool} {slot}"),
            format!("worker {worker}"),
            format!("generation {generation}"),
            state.clone(),
            format!("for {since}"),
            says.clone(),
        ];
        Self { cells, ..self }
    }
}

/// The rows of a pool; those with nothing particular in one, where there are many and not `every_slot` is wanted.
pub(super) fn of(pool: &Pool, every_slot: bool) -> Vec<Row> {
    let folds = !every_slot && pool.slots.len() > SLOTS_SHOWN;
    let mut quiet: BTreeMap<u64, Vec<(&Slot, &Worker)>> = BTreeMap::new();
    let mut rows = Vec::new();
    for slot in &pool.slots {
        match quiet_worker(slot).filter(|_| folds) {
            Some(worker) => quiet.entry(worker.generation).or_default().push((slot, worker)),
            None => rows.extend(of_slot(pool, slot)),
        }
    }
    let folded = quiet.iter().map(|(generation, slots)| of_quiet(pool, *generation, slots));
    folded.chain(rows).collect()
}

/// The rows of the slots in which something happens.
pub(super) fn in_motion(pool: &Pool) -> Vec<Row> {
    let moving = pool.slots.iter().filter(|slot| quiet_worker(slot).is_none());
    moving.flat_map(|slot| of_slot(pool, slot)).map(Row::in_short).collect()
}

/// The one worker of a slot of which there is nothing particular to say.
fn quiet_worker(slot: &Slot) -> Option<&Worker> {
    let [worker] = &slot.workers[..] else { return None };
    let is_stuck = worker.channel.as_ref().is_some_and(Channel::is_stuck);
    let is_well = worker.leftovers == 0 && !worker.worn && !is_stuck && worker.readiness.is_none();
    let is_quiet = worker.state == WorkerState::Ready && is_well && !slot.kept;
    is_quiet.then_some(worker)
}

fn of_slot(pool: &Pool, slot: &Slot) -> Vec<Row> {
    if slot.workers.is_empty() {
        return vec![empty(pool, slot)];
    }
    slot.workers.iter().map(|worker| of_worker(pool, slot, worker)).collect()
}

fn of_quiet(pool: &Pool, generation: u64, slots: &[(&Slot, &Worker)]) -> Row {
    let youngest =
        slots.iter().filter_map(|(_, worker)| worker.ready.as_ref()).map(|ready| ready.seconds_ago);
    let youngest = youngest.min_by(f64::total_cmp).map_or_else(dash, |seconds| format!("{}+", span(seconds)));
    let failed: u64 = slots.iter().map(|(slot, _)| slot.restarts).sum();
    let numbers: Vec<u32> = slots.iter().map(|(slot, _)| slot.slot).collect();
    let cells = vec![
        pool.name.clone(),
        ranges(&numbers),
        dash(),
        dash(),
        generation.to_string(),
        format!("{} ready", slots.len()),
        youngest,
        failed.to_string(),
        String::new(),
    ];
    Row { cells, style: Style::new() }
}

fn of_worker(pool: &Pool, slot: &Slot, worker: &Worker) -> Row {
    let (state, since, style) = match worker.state {
        WorkerState::Starting => ("starting", Some(&worker.started), AnsiColor::Yellow.on_default()),
        WorkerState::Ready => ("ready", worker.ready.as_ref(), Style::new()),
        WorkerState::Draining => ("draining", worker.asked.as_ref(), AnsiColor::Cyan.on_default()),
        WorkerState::Killed => ("killed", worker.asked.as_ref(), BAD),
        WorkerState::LetGo => ("not killed", worker.asked.as_ref(), BAD),
        WorkerState::Ending => ("ending", worker.asked.as_ref(), AnsiColor::Cyan.on_default()),
    };
    let mut notes = Vec::new();
    if worker.leftovers > 0 {
        notes.push(format!("{} processes left in its group", worker.leftovers));
    }
    if let Some(channel) = worker.channel.as_ref().filter(|channel| channel.is_stuck()) {
        notes.push(format!(
            "does not take its messages: {} wait, {} refused",
            channel.waiting, channel.refused
        ));
    }
    if slot.workers.last().is_some_and(|last| last.worker == worker.worker) {
        notes.extend(stored(slot));
    }
    if slot.kept {
        notes.push("kept: the old program is gone".to_owned());
    }
    notes.extend(worker.waiting_for.as_deref().map(|what| format!("waiting for {}", printable(what))));
    notes.extend(worker.readiness.as_deref().map(printable));
    notes.extend(worker.status.as_deref().filter(|status| !status.is_empty()).map(printable));
    let cells = vec![
        pool.name.clone(),
        slot.slot.to_string(),
        worker.worker.to_string(),
        worker.pid.map_or_else(dash, |pid| pid.to_string()),
        worker.generation.to_string(),
        if worker.worn { format!("{state}, to be replaced") } else { state.to_owned() },
        since.map_or_else(dash, |moment| span(moment.seconds_ago)),
        slot.restarts.to_string(),
        notes.join("; "),
    ];
    Row { cells, style }
}

/// What is stored for its next worker.
fn stored(slot: &Slot) -> Option<String> {
    let (kept, refused) = (slot.stored_fds.len(), slot.stored_fds_refused);
    match refused {
        0 => (kept > 0).then(|| format!("{kept} stored fds")),
        _ => Some(format!("{kept} stored fds, {refused} refused")),
    }
}

fn empty(pool: &Pool, slot: &Slot) -> Row {
    let state = if slot.crash_loop { "crash loop" } else { "empty" };
    let next = slot.restart_in_seconds.map(|seconds| format!("next start in {}", span(seconds)));
    let notes: Vec<String> = next.into_iter().chain(stored(slot)).collect();
    let cells = vec![
        pool.name.clone(),
        slot.slot.to_string(),
        dash(),
        dash(),
        dash(),
        state.to_owned(),
        dash(),
        slot.restarts.to_string(),
        notes.join("; "),
    ];
    Row { cells, style: BAD }
}

fn dash() -> String {
    "-".to_owned()
}

/// Ascending numbers, as `0-3,5,7-9`.
fn ranges(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(slots: u32) -> Pool {
        let ready = |slot| json!({"time": "", "seconds_ago": 60 + slot});
        let worker = |slot| {
            json!({
                "worker": slot + 1, "pid": 100 + slot, "generation": 3, "state": "ready",
                "started": ready(slot), "ready": ready(slot), "leftovers": 0, "output": [],
            })
        };
        let slot = |slot| json!({"slot": slot, "workers": [worker(slot)], "restarts": 1, "crash_loop": false, "kept": false});
        let slots: Vec<_> = (0..slots).map(slot).collect();
        let pool = json!({
            "name": "web", "generation": 3, "wanted": 9, "scaled": false, "ready": 9, "draining": 0, "slots": slots,
        });
        serde_json::from_value(pool).expect("a pool of a status document")
    }

    fn text(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.cells.join(" ").trim_end().to_owned()).collect()
    }

    #[test]
    fn few_slots_have_a_row_each() {
        assert_eq!(of(&pool(8), false).len(), 8);
        assert_eq!(of(&pool(9), true).len(), 9);
    }

    #[test]
    fn many_slots_share_a_row_and_those_unlike_them_have_their_own() {
        let mut pool = pool(1000);
        pool.slots[4].workers[0].state = WorkerState::Draining;
        pool.slots[5].workers[0].worn = true;
        pool.slots[7].workers.clear();
        pool.slots[7].crash_loop = true;
        pool.slots[7].stored_fds = vec!["sessions".into()];
        pool.slots[4].stored_fds_refused = 2;
        pool.slots[9].workers[0].generation = 4;
        pool.slots[11].workers[0].channel = Some(Channel { client: None, waiting: 3, refused: 0 });
        pool.slots[12].workers[0].channel = Some(Channel { client: None, waiting: 0, refused: 9 });
        pool.slots[13].workers[0].channel = Some(Channel { client: None, waiting: 256, refused: 9 });
        let rows = text(&of(&pool, false));
        assert_eq!(
            rows,
            [
                "web 0-3,6,8,10-12,14-999 - - 3 995 ready 1min+ 995",
                "web 9 - - 4 1 ready 1min 9s+ 1",
                "web 4 5 104 3 draining - 1 0 stored fds, 2 refused",
                "web 5 6 105 3 ready, to be replaced 1min 5s 1",
                "web 7 - - - crash loop - 1 1 stored fds",
                "web 13 14 113 3 ready 1min 13s 1 does not take its messages: 256 wait, 9 refused",
            ]
        );
    }

    #[test]
    fn numbers_become_ranges() {
        for (numbers, text) in [(&[][..], ""), (&[0], "0"), (&[0, 1], "0-1"), (&[0, 2, 3, 4, 9], "0,2-4,9")] {
            assert_eq!(ranges(numbers), text);
        }
    }
}

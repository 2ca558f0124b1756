//! What was seen, as tables: for each state and event the next states and the orders that came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Row (state) and column (event) to what was seen there.
pub(crate) type Cells = BTreeMap<(String, String), BTreeSet<String>>;

/// All that the walk has seen.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) workers: Cells,
    pub(crate) daemon: Cells,
}

impl Tables {
    pub(crate) fn merge(&mut self, other: Self) {
        for (mine, theirs) in [(&mut self.workers, other.workers), (&mut self.daemon, other.daemon)] {
            for (key, seen) in theirs {
                mine.entry(key).or_default().extend(seen);
            }
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n### A worker\n")?;
        writeln!(
            f,
            "What is left out changes nothing. Several lines: it depends, and all of them were seen.\n"
        )?;
        write_table(f, &self.workers, "The worker is")?;
        writeln!(f, "\n### The daemon\n")?;
        write_table(f, &self.daemon, "The daemon is")?;
        writeln!(f)
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, cells: &Cells, state: &str) -> fmt::Result {
    writeln!(f, "| {state} | and then | it becomes, and these orders are given |")?;
    writeln!(f, "|---|---|---|")?;
    for ((state, event), seen) in cells {
        let unchanged = seen.len() == 1 && seen.contains(state);
        if !unchanged {
            let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
            writeln!(f, "| {state} | {event} | {} |", seen.join("<br>"))?;
        }
    }
    Ok(())
}

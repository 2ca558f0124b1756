//! The script: a list of steps, each `name` or `name=value`, optionally for one worker only: `[slot=1] exit=3`.

use std::time::Duration;

use crate::identity;

/// One step.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Step {
    /// The value as a number; 0 where there is none.
    pub(crate) fn number(&self) -> u64 {
        let (digits, unit) = match self.value.char_indices().last() {
            Some((at, 'M')) => (&self.value[..at], 1 << 20),
            Some((at, 'K')) => (&self.value[..at], 1 << 10),
            _ => (self.value.as_str(), 1),
        };
        digits.parse::<u64>().unwrap_or(0) * unit
    }

    /// The value as a time: `50ms` or `2s`.
    pub(crate) fn duration(&self) -> Duration {
        let number = |text: &str| text.parse().unwrap_or(0);
        match self.value.strip_suffix("ms") {
            Some(milliseconds) => Duration::from_millis(number(milliseconds)),
            None => Duration::from_secs(number(self.value.trim_end_matches('s'))),
        }
    }
}

/// The steps of the arguments and of `$WORKER_SCRIPT`, less those that are for another worker.
pub(crate) fn read(arguments: Vec<String>) -> Result<Vec<Step>, String> {
    let mut lines = arguments;
    if let Some(path) = std::env::var_os("WORKER_SCRIPT") {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.to_string_lossy()))?;
        lines.extend(text.lines().map(str::to_owned));
    }
    let mut steps = Vec::new();
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let step = match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((condition, _)) if !holds(condition)? => continue,
            Some((_, step)) => step.trim(),
            None => line,
        };
        let (name, value) = step.split_once('=').unwrap_or((step, ""));
        steps.push(Step { name: name.to_owned(), value: value.to_owned() });
    }
    if steps.iter().all(|step| step.name == "version" || step.name == "report") {
        steps.extend(["serve", "ready"].map(|name| Step { name: name.to_owned(), value: String::new() }));
    }
    Ok(steps)
}

fn holds(condition: &str) -> Result<bool, String> {
    let (key, wanted) = condition.split_once('=').ok_or_else(|| format!("bad condition: [{condition}]"))?;
    Ok(identity::variable(key) == wanted)
}

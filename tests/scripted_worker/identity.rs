//! Who this worker is, and what it was given: for answers, reports and dumps.

use std::fmt::Write as _;
use std::sync::OnceLock;

static FDS_AT_START: OnceLock<Vec<(u32, String)>> = OnceLock::new();

/// Writes down which fds this process was given. Comes before anything is opened.
pub(crate) fn remember_fds() {
    let _ = FDS_AT_START.set(fds());
}

/// `HANDOVER_<KEY>`, or `-` where it is not set.
pub(crate) fn variable(key: &str) -> String {
    std::env::var(format!("HANDOVER_{}", key.to_uppercase())).unwrap_or_else(|_| "-".to_owned())
}

/// `slot=0 generation=1 worker=4 pid=4711`.
pub(crate) fn line() -> String {
    format!(
        "slot={} generation={} worker={} pid={}",
        variable("slot"),
        variable("generation"),
        variable("worker"),
        std::process::id()
    )
}

/// All that this process was given, in sections that start with `[NAME]`: its fds (when it started) with what they are, its
/// environment (unreadable variables escaped), arguments, directory, and `/proc/self/status`.
pub(crate) fn dump() -> String {
    let mut text = String::from("[fds]\n");
    for (number, target) in FDS_AT_START.get().into_iter().flatten() {
        let _ = writeln!(text, "{number} {target}");
    }
    text.push_str("[environment]\n");
    for (key, value) in std::env::vars_os() {
        let _ = writeln!(text, "{}={}", key.to_string_lossy(), value.to_string_lossy().escape_debug());
    }
    text.push_str("[arguments]\n");
    for argument in std::env::args_os() {
        let _ = writeln!(text, "{}", argument.to_string_lossy());
    }
    let directory = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let _ = writeln!(text, "[directory]\n{directory}");
    let (pid, group) = (std::process::id(), process_group());
    let _ = writeln!(text, "[process]\npid {pid}\ngroup {group}\nnice {}", niceness());
    for (section, path) in [("status", "/proc/self/status"), ("limits", "/proc/self/limits")] {
        let _ = writeln!(text, "[{section}]\n{}", std::fs::read_to_string(path).unwrap_or_default());
    }
    text
}

/// The open fds but the one that reads the list.
fn fds() -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let mut fds: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_string_lossy().parse().ok()?;
            let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some((number, target))
        })
        .filter(|(_, target)| !target.starts_with("/proc/") || !target.ends_with("/fd"))
        .collect();
    fds.sort();
    fds
}

fn process_group() -> i32 {
    // SAFETY: takes no pointer.
    unsafe { libc::getpgrp() }
}

fn niceness() -> i32 {
    // SAFETY: takes no pointer.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

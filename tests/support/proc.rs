//! What `/proc` says of processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::child::Handle;

/// The variable that marks all processes of a test; workers get it with handover's own environment. (Those that begin with
/// `HANDOVER_` they would not get.)
pub const MARK: &str = "TEST_OF_HANDOVER";

/// The pids of all living processes that bear `mark`; a zombie has no environment, so none is among them.
pub fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    pids()
        .into_iter()
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .collect()
}

/// Ends all processes that bear `mark`, until there are none.
pub fn end_marked(mark: &str) {
    for _ in 0..100 {
        let pids = marked(mark);
        if pids.is_empty() {
            return;
        }
        // The handle first, the mark again then: so the handle is that of a marked process.
        let handles: Vec<Handle> = pids.into_iter().filter_map(Handle::open).collect();
        if marked(mark).is_empty() {
            return;
        }
        for handle in handles {
            handle.signal(libc::SIGKILL);
            handle.wait(super::deadline());
        }
    }
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    pids().into_iter().filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid)).collect()
}

/// Whether this process lives: neither gone nor a zombie.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// The open fds of a process and what they are.
pub fn fds(pid: u32) -> BTreeMap<u32, String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let target: PathBuf = std::fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.display().to_string()))
        })
        .collect()
}

/// The memory that a process has for itself, in KiB: its proportional set size without the pages of files. Those are shared
/// with every other process of the same program, so their share changes when another test ends.
pub fn own_memory_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// How often a process has gone to wait since it began: its number of voluntary context switches.
pub fn waits(pid: u32) -> u64 {
    field(pid, "voluntary_ctxt_switches:").and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The CPU time that a process has used, in milliseconds.
pub fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
    let ticks = |index: usize| fields.as_ref()?.get(index)?.parse::<u64>().ok();
    // A tick is 10 ms for whoever asks, on all machines that this runs on (`USER_HZ`).
    (ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0)) * 10
}

/// A field of `/proc/PID/status`, with its colon.
pub fn field(pid: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// State and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

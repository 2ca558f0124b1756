//! What a process is doing, as far as the system shows it: for those who wait for it.

use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its control group is frozen (`docker pause`, `systemctl freeze`), which looks like sleep otherwise.
    Frozen,
    /// The letter of `proc_pid_stat(5)`.
    Letter(char),
}

impl State {
    /// It does nothing until somebody lets it go on.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Frozen | Self::Letter('T' | 't'))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Letter(letter) = self else { return f.write_str("frozen control group") };
        let word = match letter {
            'R' => "running",
            'S' | 'I' => "sleeping",
            'D' => "waiting in the kernel",
            'T' => "stopped",
            't' => "stopped by a tracer",
            'Z' | 'X' => "ended",
            _ => "unknown",
        };
        write!(f, "{letter} ({word})")
    }
}

/// Of the process with this pid; `None` where the system does not show it.
#[cfg(target_os = "linux")]
pub fn state(pid: u32) -> Option<State> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, which comes before, may hold anything.
    let letter = stat.rsplit_once(") ")?.1.chars().next()?;
    Some(if is_frozen(pid) { State::Frozen } else { State::Letter(letter) })
}

/// Not shown without asking another program.
#[cfg(target_os = "macos")]
pub fn state(_pid: u32) -> Option<State> {
    None
}

/// Of cgroups version 2; those of version 1 show it as state D.
#[cfg(target_os = "linux")]
fn is_frozen(pid: u32) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let events = group.map(|group| format!("/sys/fs/cgroup{group}/cgroup.events"));
    let events = events.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_stopped_says_so() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let signal = |signal| {
            // SAFETY: a signal to our own child.
            assert_eq!(unsafe { libc::kill(libc::pid_t::try_from(pid).unwrap(), signal) }, 0);
        };
        assert!(!state(std::process::id()).unwrap().is_held());
        signal(libc::SIGSTOP);
        while state(pid) != Some(State::Letter('T')) {
            std::thread::yield_now();
        }
        assert!(state(pid).unwrap().is_held());
        assert_eq!(state(pid).unwrap().to_string(), "T (stopped)");
        signal(libc::SIGKILL);
        child.wait().unwrap();
        assert_eq!(state(pid), None);
    }
}

//! Stopping a daemon and all that it starts, as `docker pause` or a stopped machine does: in a frozen cgroup, or with
//! `SIGSTOP` where a test wants that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::{Daemon, Setup};
use super::machine::skipped;
use super::{eventually, proc};

/// A cgroup of our own.
pub struct Freezer {
    directory: PathBuf,
}

impl Freezer {
    /// `None` where this machine gives us no cgroup (version 2) to freeze; says so.
    #[track_caller]
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("handover-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = mount().map(|mount| mount.join(name));
        let made = directory.filter(|directory| {
            fs::create_dir(directory).is_ok() && directory.join("cgroup.freeze").exists()
        });
        if skipped("a cgroup of version 2 to freeze", made.is_none()) {
            return None;
        }
        made.map(|directory| Self { directory })
    }

    /// The daemon that this starts is born in it, and so is all that the daemon starts.
    pub fn hold(&self, setup: Setup) -> Setup {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.directory.display());
        setup.under(["sh", "-c", &enter, "sh"])
    }

    /// Nobody in it runs from now on, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.set(true);
    }

    /// They go on.
    pub fn thaw(&self) {
        self.set(false);
    }

    /// Nobody in it runs for so long.
    pub fn pause(&self, time: Duration) {
        self.freeze();
        elapse(time);
        self.thaw();
    }

    fn set(&self, frozen: bool) {
        let value = u8::from(frozen).to_string();
        fs::write(self.directory.join("cgroup.freeze"), &value).expect("our cgroup");
        let wanted = format!("frozen {value}");
        eventually("the freezer", || {
            let events = fs::read_to_string(self.directory.join("cgroup.events")).expect("our cgroup");
            events.contains(&wanted).then_some(())
        });
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("cgroup.freeze"), "0");
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
        for _ in 0..200 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            elapse(Duration::from_millis(10));
        }
    }
}

fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut of_version_2 = fields.filter(|fields| fields.get(2) == Some(&"cgroup2"));
    of_version_2.next().map(|fields| Path::new(fields[1]).to_owned())
}

/// Lets time pass, where time is what is tested and no event tells of it.
pub fn elapse(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// The daemon and its workers run no further for so long: `SIGSTOP` to each.
pub fn stop_all(daemon: &Daemon, time: Duration) {
    let all: Vec<u32> = std::iter::once(daemon.pid()).chain(proc::children(daemon.pid())).collect();
    // The daemon is our child, and reaps none of its children while it is stopped.
    let send = |signal: Signal| {
        for pid in &all {
            let _ = kill(Pid::from_raw(i32::try_from(*pid).expect("a pid")), signal);
        }
    };
    send(Signal::SIGSTOP);
    elapse(time);
    send(Signal::SIGCONT);
}

//! A machine with a systemd of its own: booted in a container from a root directory that is only read, with a network of its own,
//! and gone with its last process when it is dropped. What it writes is in memory, and stays when it is booted anew.
//!
//! Its commands are carried out inside. Its files are reached through `/proc/LEADER/root`, its network by a thread that enters the
//! network namespace: so the load clients of the other tests can be used as they are.

#![allow(unsafe_code, reason = "no safe call enters a namespace")]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ability;
use crate::package::Packages;
use crate::support::child::{Handle, OwnedChild};
use crate::support::daemon::{Output, Running};
use crate::support::scratch::Scratch;
use crate::support::{deadline, eventually, proc, scripted_worker};

/// Where packages and the scripted worker are inside.
pub const PACKAGES: &str = "/opt/packages";
const PROGRAMS: &str = "/opt/programs";
/// The scripted worker inside.
pub const WORKER: &str = "/opt/programs/scripted_worker";

/// Boots again and again, until it is not asked to: the directory for what is written, the root directory, the cgroup, and the command.
/// Each boot has a cgroup of its own, because what is left in that of the last one would stand in its way.
const BOOTS: &str = "\
mount -t tmpfs -o mode=755 none \"$1\" && mkdir \"$1/upper\" \"$1/work\" \"$1/root\" &&
mount -t overlay -o \"lowerdir=$2,upperdir=$1/upper,workdir=$1/work\" none \"$1/root\" || exit
cgroup=$3 boot=0
shift 3
while
    boot=$((boot + 1)); mkdir \"$cgroup/$boot\" || exit
    sh -c 'echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"' sh \"$cgroup/$boot\" \"$@\"
    [ $? = 133 ]
do :; done";

/// A booted machine.
pub struct Machine {
    /// The version of its systemd.
    pub systemd: u32,
    leader: Mutex<Leader>,
    outer: OwnedChild,
    cgroup: PathBuf,
    scratch: Scratch,
}

/// Its first process; another one after each boot.
struct Leader {
    pid: u32,
    handle: Handle,
}

impl Machine {
    /// Boots `root` and waits until all that belongs to a boot is done.
    pub fn boot(name: &str, root: &Path, packages: &Packages) -> Self {
        let scratch = Scratch::new();
        let cgroup = ability::cgroup()
            .expect("looked for before")
            .join(format!("handover-lab-{name}-{}", std::process::id()));
        fs::create_dir(&cgroup).expect("our cgroup");
        fs::create_dir(scratch.join("written")).expect("our directory");
        let mut outer = OwnedChild::spawn(&mut nspawn(name, root, packages, &cgroup, &scratch));
        let leader = Mutex::new(booted(&mut outer, 0, &scratch));
        let mut machine = Self { systemd: 0, leader, outer, cgroup, scratch };
        machine.wait_for_boot();
        let version = machine.run(&["systemctl", "--version"]).stdout;
        machine.systemd =
            version.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        machine
    }

    /// Boots it anew. Threads that use its network have to enter that of the new boot.
    pub fn reboot(&self) {
        let old = self.leader().pid;
        // It may be ended before it has an answer.
        self.run(&["systemctl", "--no-block", "reboot"]);
        let ended = self.leader().handle.wait(deadline());
        assert!(ended, "the machine did not go down: {}", self.console());
        let new = eventually("it is booted anew", || find_leader(self.outer.pid(), old));
        *self.leader() = new;
        self.wait_for_boot();
    }

    fn wait_for_boot(&self) {
        eventually("systemd listens", || self.path("/run/systemd/private").exists().then_some(()));
        eventually("the boot is over", || {
            let state = self.run(&["systemctl", "is-system-running", "--wait"]).stdout;
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
    }

    fn leader(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file inside, as seen from here. Not through absolute links: those would lead to our own root.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader().pid))
    }

    /// Writes a file inside, at once.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a file in a directory")).expect("its directory");
        let draft = self.path(&format!("{inside}.draft"));
        fs::write(&draft, text).expect("a file inside");
        fs::rename(draft, path).expect("a file inside");
    }

    /// Begins a command inside.
    pub fn begin(&self, words: &[&str]) -> Running {
        Running::start(&mut self.command(words))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.leader().pid.to_string()).arg("--all").args(words);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8").env("SYSTEMD_PAGER", "").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Carries out a command inside.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        self.begin(words).finish()
    }

    /// Carries out a line of shell inside; what it said, on both streams in their order.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        self.run(&["bash", "-c", &format!("exec 2>&1; {line}")]).stdout
    }

    /// Carries out a command that must succeed, and gives its standard output without the end of its last line.
    ///
    /// # Panics
    ///
    /// Where it fails.
    #[track_caller]
    pub fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        output.assert_code(0);
        output.stdout.trim_end().to_owned()
    }

    /// Installs one of the packages.
    #[track_caller]
    pub fn install(&self, package: &str) -> String {
        self.succeed(&["dpkg", "--install", &format!("{PACKAGES}/{package}")])
    }

    /// Lets this thread, and those that it starts from now on, use the machine's network instead of ours.
    pub fn enter_network(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.leader().pid)).expect("it lives");
        // SAFETY: an open fd of a namespace; it concerns this thread only.
        let entered = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "setns: {}", std::io::Error::last_os_error());
    }

    /// What the journal has of a unit, the messages only.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "-o", "cat", "-u", unit]).stdout
    }

    /// What it wrote to its console.
    pub fn console(&self) -> String {
        fs::read_to_string(self.scratch.join("console")).unwrap_or_default()
    }
}

/// Executes what is added to it in `cgroup`. Two containers of one cgroup would take each other's processes for their own.
pub fn in_cgroup(cgroup: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(cgroup);
    // A test program that is killed drops nothing; systemd-nspawn ends its container when it is asked to end.
    command.args(["setpriv", "--pdeathsig", "TERM", "--"]);
    command
}

/// The systemd that a process has booted through a systemd-nspawn, if it is not that of the boot before.
fn find_leader(outer: u32, before: u32) -> Option<Leader> {
    let is_systemd = |pid: &u32| {
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        *pid != before && program.is_ok_and(|program| program.ends_with("usr/lib/systemd/systemd"))
    };
    let shell = proc::children(outer).into_iter();
    let pid = shell.flat_map(proc::children).flat_map(proc::children).find(is_systemd)?;
    Some(Leader { pid, handle: Handle::open(pid)? })
}

fn booted(outer: &mut OwnedChild, before: u32, scratch: &Scratch) -> Leader {
    eventually("systemd-nspawn starts a systemd", || {
        let leader = find_leader(outer.pid(), before);
        let said = || fs::read_to_string(scratch.join("console")).unwrap_or_default();
        assert!(leader.is_some() || outer.is_running(), "no boot: {}", said());
        leader
    })
}

fn nspawn(name: &str, root: &Path, packages: &Packages, cgroup: &Path, scratch: &Scratch) -> Command {
    let console = File::create(scratch.join("console")).expect("our file");
    let worker = scripted_worker();
    let programs = worker.parent().expect("it lies in a directory");
    // A test program that is killed drops nothing: the namespace of all these processes ends with its first one, and that with us. (To
    // be asked to end is not heard by a container that begins to boot, and nobody asks it where systemd-nspawn is killed.)
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.args([
        "unshare",
        "--mount",
        "--mount-proc",
        "--pid",
        "--fork",
        "--kill-child",
        "--",
        "sh",
        "-c",
        BOOTS,
        "sh",
    ]);
    command.args([&scratch.join("written"), root, cgroup]);
    command.args(["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"]);
    command.args(["--private-network", "--console=pipe", "--directory"]).arg(scratch.join("written/root"));
    command.arg(format!("--machine={name}"));
    command.arg(format!("--bind-ro={}:{PACKAGES}", packages.directory().display()));
    command.arg(format!("--bind-ro={}:{PROGRAMS}", programs.display()));
    command.arg("systemd.unit=multi-user.target");
    command.env("UNIFIED_CGROUP_HIERARCHY", "1").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stderr(console.try_clone().expect("a free fd")).stdout(console);
    command
}

impl Drop for Machine {
    fn drop(&mut self) {
        // PID 1 of its namespace: nothing in there outlives it.
        self.leader().handle.signal(libc::SIGKILL);
        if self.outer.wait(deadline()).is_none() {
            self.outer.signal(libc::SIGKILL);
        }
        remove_cgroup(&self.cgroup);
    }
}

/// Removes a cgroup and those in it; what is left of them goes with the machine.
pub fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

//! A terminal that closes, and signals that whoever starts the daemon has it ignore.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use handover::exit::DONE;

use crate::support::client::Failure;
use crate::support::daemon::{Daemon, Setup};
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::service::Plan;

/// A daemon on a terminal, executed by these words.
struct Stage {
    plan: Plan,
    daemon: Daemon,
    terminal: OwnedFd,
}

impl Stage {
    fn new(wrapper: &[&str]) -> Self {
        Self::with(Plan::new(), |setup| setup.under(wrapper.iter().copied()))
    }

    fn with(plan: Plan, change: impl FnOnce(Setup) -> Setup) -> Self {
        // Closed in whatever other tests start: else the terminal would stay open.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours");
        let path = ptsname_r(&master).expect("it has a name");
        let slave = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path);
        let daemon = change(plan.setup().terminal(slave.expect("the other side").into())).start();
        plan.manager.wait_for("READY=1");
        Self { plan, daemon, terminal: master.into() }
    }

    /// The daemon itself, which a shell may have started.
    fn pid(&self) -> u32 {
        self.daemon.status().0["daemon"]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .expect("its pid")
    }

    fn signal(&self, signal: i32) {
        crate::support::child::Handle::open(self.pid()).expect("it lives").signal(signal);
    }

    /// It ends in good order, and nothing was rolled.
    fn ends_well(self) {
        let Self { plan, daemon, terminal } = self;
        drop(terminal);
        plan.manager.wait_for("STOPPING=1");
        daemon.assert_nothing_left();
        assert_eq!(plan.reports.count("started"), 1, "no generation was made");
        assert_eq!(plan.reports.count("ended"), 1, "its worker was asked to end");
        assert!(!daemon.socket().exists(), "it has cleared up");
    }
}

/// What `sh` runs is its child, and not the first process of the session.
const IN_A_SHELL: [&str; 4] = ["sh", "-c", "\"$@\"; exit $?", "sh"];
const IN_THE_BACKGROUND: [&str; 4] = ["sh", "-c", "\"$@\" & wait; exit $?", "sh"];

#[test]
fn a_terminal_that_closes_ends_the_daemon_and_deploys_nothing() {
    Stage::new(&[]).ends_well();
    Stage::new(&IN_A_SHELL).ends_well();
    Stage::new(&IN_THE_BACKGROUND).ends_well();
}

/// A minute of it: `HANDOVER_TEST_TERMINAL=60`.
#[test]
fn terminals_that_close_under_load_cut_no_answer() {
    let seconds =
        std::env::var("HANDOVER_TEST_TERMINAL").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (mut closed, mut answered, mut refused, mut cut) = (0, 0, 0, 0);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(seconds) {
        let stage = Stage::new(&[]);
        let load = Load::closed(&stage.plan.address, 4).path("/slow/30").start();
        load.wait_for(8);
        stage.ends_well();
        let tally = load.stop();
        let is_cut = |failure: &Failure| matches!(failure, Failure::Cut | Failure::TimedOut);
        cut += tally.lost.iter().filter(|lost| is_cut(&lost.failure)).count();
        refused += tally.lost.len();
        answered += tally.ok;
        closed += 1;
    }
    println!(
        "terminal: {closed} closed under load, {answered} answers, {refused} not accepted any more, {cut} cut"
    );
    assert_eq!(cut, 0);
}

#[test]
fn while_the_terminal_is_there_sighup_is_a_reload() {
    let stage = Stage::new(&[]);
    stage.signal(libc::SIGHUP);
    stage.plan.reports.wait("the canary", |report| report.what == "ready" && report.generation == 2);
    stage.plan.manager.wait_for("READY=1");
    let mut daemon = stage.daemon;
    daemon.stop();
}

#[test]
fn a_daemon_that_was_started_without_a_terminal_reloads_whatever_closes() {
    let stage = Stage::new(&["setsid", "-w"]);
    let Stage { plan, daemon, terminal } = stage;
    let pid = daemon.status().0["daemon"]["pid"].as_u64().expect("its pid");
    let handle = crate::support::child::Handle::open(u32::try_from(pid).expect("a pid")).expect("it lives");
    drop(terminal);
    handle.signal(libc::SIGHUP);
    plan.reports.wait("the canary", |report| report.what == "ready" && report.generation == 2);
    daemon.cli(&["stop"]).assert_code(DONE);
    daemon.assert_nothing_left();
}

#[test]
fn under_nohup_the_daemon_outlives_its_terminal_and_writes_to_nobody() {
    let stage = Stage::new(&["nohup"]);
    let pid = stage.pid();
    let Stage { plan, daemon, terminal } = stage;
    drop(terminal);
    crate::support::child::Handle::open(pid).expect("it lives").signal(libc::SIGHUP);
    // What it writes has no way out any more; it neither ends nor spins for that.
    daemon.cli(&["reload"]).assert_code(DONE);
    eventually("it rests", || {
        let before = proc_time(pid);
        std::thread::park_timeout(std::time::Duration::from_millis(200));
        (proc_time(pid) == before).then_some(())
    });
    let status = daemon.cli(&["status"]);
    status.assert_code(DONE).assert_says("fine: 1 of 1 workers ready");
    assert!(daemon.status().mentions("\"generation\":2") && !daemon.status().mentions("\"generation\":3"));
    assert_eq!(plan.reports.count("started"), 2, "SIGHUP was ignored");
    daemon.cli(&["stop"]).assert_code(DONE);
    daemon.assert_nothing_left();
}

/// Clock ticks that a process has run.
fn proc_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    [11, 12].iter().map(|field| fields[*field].parse::<u64>().expect("a number")).sum()
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let plan = Plan::new();
    let mut daemon = plan.setup().under(["sh", "-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh"]).start();
    plan.manager.wait_for("READY=1");
    daemon.log.wait_for("what is ignored", |line| {
        line.text("signals").as_deref() == Some("SIGHUP, SIGINT, SIGQUIT")
    });
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        daemon.signal(signal);
    }
    // It answers after them, so it has outlived them; its workers have the default of all.
    daemon.cli(&["status", "--check"]).assert_code(DONE);
    let worker = daemon.status().ready("web").remove(0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid)).expect("it lives");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("a mask");
    let ignored = u64::from_str_radix(ignored, 16).expect("a number");
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        assert_eq!(ignored & (1 << (signal - 1)), 0, "{signal}");
    }
    daemon.stop();
    assert_eq!(plan.reports.count("started"), 1);
}

#[test]
fn what_the_terminal_sends_does_not_reach_the_workers() {
    let stage = Stage::new(&[]);
    let worker = stage.daemon.status().ready("web").remove(0);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.pid)).expect("it lives");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let (group, in_front) = (fields[2], fields[5]);
    assert_eq!(group, worker.pid.to_string());
    assert_ne!(group, in_front, "keys and hang-ups go to the group in front");
    // And the daemon shows what it does on its terminal.
    let mut shown = String::new();
    let mut terminal = File::from(stage.terminal.try_clone().expect("an fd"));
    eventually("a line of its log", || {
        let mut bytes = [0; 4096];
        let length = terminal.read(&mut bytes).expect("it is open");
        shown.push_str(&String::from_utf8_lossy(&bytes[..length]));
        shown.contains("worker started").then_some(())
    });
    drop(terminal);
    stage.ends_well();
}

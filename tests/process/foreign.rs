//! Fds that keep waiting whoever closes them, from everybody who can send some: the daemon answers, rolls and ends all the same.
//! They are made by `tests/real/foreign.py`: connections that linger, and files of a FUSE file system whose server is stopped.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::channel::{printed, speaker};
use crate::stored::keeper;
use crate::support::child::{Handle, OwnedChild};
use crate::support::load::Load;
use crate::support::machine::{find, skipped};
use crate::support::scratch::{Address, Scratch};
use crate::support::service::{Plan, Service};
use crate::support::{deadline, eventually, proc};

const FOREIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/foreign.py");
const FUSE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/fuse.py");

/// Python, and the right to be another user.
#[track_caller]
fn python() -> Option<String> {
    let is_root = nix::unistd::geteuid().is_root();
    if skipped("python3", find("python3").is_none()) || skipped("root", !is_root) {
        return None;
    }
    find("python3")
}

/// A FUSE file system; it is gone with this.
struct Fuse {
    server: OwnedChild,
    mounted: PathBuf,
    /// Removed when nothing is mounted there any more.
    _scratch: Scratch,
}

impl Fuse {
    #[track_caller]
    fn mount() -> Option<Self> {
        let scratch = Scratch::new();
        let mounted = scratch.join("fuse");
        std::fs::create_dir(&mounted).expect("our directory");
        let mut command = Command::new(python()?);
        let mut server =
            OwnedChild::spawn(command.arg(FUSE).arg(&mounted).arg("trouble").stdout(Stdio::piped()));
        let mut line = String::new();
        let out = server.inner().stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let fuse = Self { server, mounted, _scratch: scratch };
        (!skipped("FUSE", line.is_empty())).then_some(fuse)
    }

    /// Its file, whose server is stopped when it is open.
    fn kind(&self) -> String {
        format!("{}/x+{}", self.mounted.display(), self.server.pid())
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Whoever hangs goes on: the connection ends with its last server.
        self.server.signal(libc::SIGKILL);
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).stderr(Stdio::null()).status();
    }
}

/// Somebody without rights, who sends: see `foreign.py`.
struct Stranger {
    child: OwnedChild,
    /// The server of its file; stopped, it would keep this from ending.
    server: Option<Handle>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.child.signal(libc::SIGKILL);
        // Another one may stop the server again.
        while let Some(server) = &self.server
            && self.child.is_running()
        {
            server.signal(libc::SIGCONT);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

impl Stranger {
    fn send(what: &str, to: &str, kind: &str, count: u32) -> Self {
        let mut command = Command::new(find("python3").expect("looked for before"));
        command.args([FOREIGN, what, to, kind, &count.to_string()]);
        let server = kind.rsplit_once('+').and_then(|(_, pid)| Handle::open(pid.parse().ok()?));
        Self { child: OwnedChild::spawn(command.stdout(Stdio::piped())), server }
    }

    /// Until all is sent; what it says of that.
    fn done(&mut self) -> String {
        let out = self.child.inner().stdout.take().expect("it is piped, and read once");
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        let mut all = String::new();
        for line in lines {
            all.push_str(&line);
            if line.starts_with("sent ") {
                return all;
            }
        }
        panic!("it ended: {all}");
    }
}

/// The path of a worker's notify socket.
fn notify_path(pid: u32) -> String {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it lives");
    let mut variables = environment.split(|byte| *byte == 0);
    let path = variables.find_map(|variable| variable.strip_prefix(b"NOTIFY_SOCKET="));
    String::from_utf8_lossy(path.expect("each worker has one")).into_owned()
}

fn closers(service: &Service) -> usize {
    let is_one = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0__exec\0"))
    };
    proc::children(service.daemon.pid()).iter().filter(|pid| is_one(pid)).count()
}

/// It answers, rolls and ends.
#[track_caller]
fn lives_on(service: Service) {
    service.daemon.status();
    service.reload_and_settle();
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn a_stranger_who_sends_fds_that_cannot_be_closed_stops_nobody() {
    if python().is_none() {
        return;
    }
    let plan = Plan::new().workers(2);
    plan.open_to_all();
    let Some(fuse) = Fuse::mount() else { return };
    let service = plan.start();
    let before = proc::fds(service.daemon.pid()).len();
    let path = notify_path(service.ready()[0].pid);
    let mut stranger = Stranger::send("datagrams", &path, "linger", 5);
    assert!(stranger.done().contains("sent 5"));
    let mut other = Stranger::send("datagrams", &path, &fuse.kind(), 5);
    assert!(other.done().contains("sent 5"));
    eventually("all are dropped", || {
        (service.daemon.status().counter("notifications_dropped") == 10).then_some(())
    });
    assert_eq!(service.daemon.status().counter("closers_stuck"), 0, "nobody had them open to close them");
    eventually("the fds of before", || (proc::fds(service.daemon.pid()).len() <= before + 2).then_some(()));
    lives_on(service);
}

#[test]
fn a_stopped_file_with_a_lock_costs_a_process_and_not_the_daemon() {
    if python().is_none() {
        return;
    }
    let plan = Plan::new();
    plan.open_to_all();
    let Some(fuse) = Fuse::mount() else { return };
    let service = plan.start();
    let path = notify_path(service.ready()[0].pid);
    // The kernel unlocks it at the last close, and asks the server.
    let kind = fuse.kind().replace("/x+", "/x!+");
    let mut stranger = Stranger::send("datagrams", &path, &kind, 1);
    stranger.done();
    // Then ours is the last copy.
    stranger.child.signal(libc::SIGKILL);
    service.daemon.status();
    service.reload_and_settle();
    service.get("/").expect("an answer");
    drop(fuse);
    lives_on(service);
}

#[test]
fn fds_that_a_worker_stores_and_removes_stop_nobody() {
    if python().is_none() {
        return;
    }
    let steps = [
        "store=a,linger",
        "store=a,linger",
        "notify=READY=1",
        "notify=FDSTOREREMOVE=1\\nFDNAME=a",
        "barrier",
        "store=b,linger",
    ];
    let Some(plan) = keeper(&steps) else { return };
    let service = plan.start();
    printed(&service, 1, "barrier passed");
    printed(&service, 1, "stores b=");
    eventually("one is kept", || service.daemon.status().mentions("\"stored_fds\":[\"b\"]").then_some(()));
    service.reload_and_settle();
    let started = Instant::now();
    service.stop();
    assert!(started.elapsed() < Duration::from_secs(15), "nothing lingers at the end");
}

#[test]
fn a_file_that_may_never_close_is_not_stored_and_the_worker_is_told_so() {
    if python().is_none() {
        return;
    }
    let plan = Plan::new();
    let Some(fuse) = Fuse::mount() else { return };
    let kind = fuse.kind();
    let store = format!("[slot=0] store=a,{kind}");
    let steps = [store.as_str(), "[slot=1] store=b,memory", "notify=READY=1"];
    let Some(plan) = crate::stored::keeper_with(plan.workers(2), &steps) else { return };
    let service = plan.start();
    service.daemon.log.wait_for("why", |line| line.text.contains("fds were not stored: files of FUSE"));
    eventually("the other is kept", || {
        service.daemon.status().mentions("\"stored_fds\":[\"b\"]").then_some(())
    });
    let status = service.daemon.cli(&["status"]).text();
    eventually("a process hangs in its place", || {
        (service.daemon.status().counter("closers_stuck") == 1).then_some(())
    });
    service.daemon.log.wait_for("a note", |line| line.text.contains("closer process stuck"));
    assert!(service.daemon.cli(&["status"]).text().contains("1 closer processes stuck"), "{status}");
    // The worker cannot end before its own copy can be closed.
    drop(fuse);
    eventually("it ends", || (service.daemon.status().counter("closers_stuck") == 0).then_some(()));
    service.stop();
}

#[test]
fn channel_lines_with_fds_that_linger_stop_nobody() {
    let said = |line: &str| format!("attach=linger {line}");
    let steps = [
        "hello",
        &said(r#"{"type":"novelty","fds":1}"#),
        &said(r#"{"type":"message","id":1,"to":{"worker":99},"data":1,"fds":1}"#),
        &said(r#"{"type":"message","id":2,"to":"handover","data":1,"fds":1}"#),
        r#"say={"type":"ready"}"#,
        "expect=refused",
        "drain",
    ];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.start();
    printed(&service, 1, r#""type":"refused","#);
    service.daemon.status();
    service.reload_and_settle();
    service.stop();
}

#[test]
fn a_message_with_a_file_that_may_never_close_costs_the_worker_its_own_line() {
    if python().is_none() {
        return;
    }
    let plan = Plan::new();
    let Some(fuse) = Fuse::mount() else { return };
    let attach = format!(
        r#"[worker=1] attach={} {{"type":"message","id":1,"to":{{"worker":1}},"data":1,"fds":1}}"#,
        fuse.kind()
    );
    let steps = ["hello", r#"say={"type":"ready"}"#, &attach, "expect=refused", "drain"];
    let Some(plan) = crate::channel::speaker_with(plan, &steps) else { return };
    let service = plan.start();
    printed(&service, 1, r#"got {"type":"refused""#);
    service.daemon.status();
    drop(fuse);
    service.reload_and_settle();
    service.stop();
}

#[test]
fn the_control_socket_takes_no_fds_and_a_client_that_sends_some_stops_nobody() {
    if python().is_none() {
        return;
    }
    let plan = Plan::new().top("control_group", "\"nogroup\"");
    plan.open_to_all();
    let service = plan.start();
    let socket = service.daemon.socket().display().to_string();
    let mut stranger = Stranger::send("connections", &socket, "linger", 5);
    let said = stranger.done();
    // Linux 6.16 can refuse them.
    assert!(said.contains("refused Operation not permitted") || said.contains("sent 5"), "{said}");
    lives_on(service);
}

#[test]
fn fds_in_connections_that_nobody_accepted_stop_nobody() {
    if python().is_none() {
        return;
    }
    let plan = Plan::on(|scratch| Address::unix(scratch, "http")).script("ready");
    plan.open_to_all();
    let mut service = plan.start();
    let Address::Unix(path) = service.address().clone() else { panic!("a Unix socket") };
    let mut stranger = Stranger::send("connections", &path.display().to_string(), "linger", 5);
    assert!(stranger.done().contains("sent 5"));
    service.configure("listener.http", "address", Some(&format!("\"unix:{}2\"", path.display())));
    service.reload_and_settle();
    service.daemon.status();
    let other = format!("{}2", path.display());
    let mut stranger = Stranger::send("connections", &other, "linger", 5);
    assert!(stranger.done().contains("sent 5"));
    let started = Instant::now();
    service.stop();
    assert!(started.elapsed() < Duration::from_secs(15), "nothing lingers at the end");
}

#[test]
fn nobody_can_read_under_which_path_a_worker_reports() {
    let service = Plan::new().start();
    let path = notify_path(service.ready()[0].pid);
    assert_eq!(std::fs::metadata(&path).expect("it is there").mode() & 0o7777, 0o666);
    let bound = std::fs::read_to_string("/proc/net/unix").expect("Linux");
    let directory = std::path::Path::new(&path).parent().expect("one").display().to_string();
    assert!(bound.contains(&directory) && !bound.contains(&path), "{bound}");
    service.stop();
}

#[test]
fn a_strangers_flood_is_not_read_without_end_and_the_workers_deadlines_wait_meanwhile() {
    if python().is_none() {
        return;
    }
    let plan = Plan::new().workers(1).pool("watchdog", "\"400ms\"");
    plan.open_to_all();
    let service = plan.start();
    let worker = service.ready()[0].pid;
    let _strangers: Vec<Stranger> =
        (0..3).map(|_| Stranger::send("datagrams", &notify_path(worker), "none", 0)).collect();
    let dropped = || service.daemon.status().counter("notifications_dropped");
    eventually("it is flooded", || (dropped() > 64).then_some(()));
    let (from, used, since) = (dropped(), proc::cpu_ms(service.daemon.pid()), Instant::now());
    let load = Load::open(service.address(), 100).start();
    load.wait_for(300);
    load.stop().assert_nothing_lost();
    let took = since.elapsed().as_millis();
    let (read, used) = (dropped() - from, proc::cpu_ms(service.daemon.pid()) - used);
    println!("flood: {read} datagrams read and {used} ms of CPU in {took} ms");
    assert!(u128::from(read) <= took / 2, "{read} in {took} ms");
    assert_eq!(service.ready()[0].pid, worker, "its watchdog did not run out");
    lives_on(service);
}

#[test]
fn no_process_is_kept_for_what_nobody_sends() {
    let service = Plan::new().workers(2).start();
    service.reload_and_settle();
    service.kill(&service.ready()[0]);
    service.daemon.settle();
    assert_eq!(closers(&service), 0);
    service.stop();
}

/// A minute of it: `HANDOVER_TEST_FOREIGN=60`.
#[test]
fn strangers_that_flood_with_all_there_is_cost_a_service_under_load_nothing() {
    if python().is_none() {
        return;
    }
    let seconds = std::env::var("HANDOVER_TEST_FOREIGN").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let plan = Plan::new().workers(2).pool("watchdog", "\"2s\"");
    plan.open_to_all();
    let Some(fuse) = Fuse::mount() else { return };
    let service = plan.start();
    let pid = service.daemon.pid();
    let seen = || (proc::fds(pid).len(), proc::own_memory_kib(pid), proc::cpu_ms(pid));
    let (before, since) = (seen(), Instant::now());
    let load = Load::open(service.address(), 100).start();
    let mut rollouts = 0;
    while since.elapsed() < Duration::from_secs(seconds) {
        let mut strangers = Vec::new();
        for worker in service.ready() {
            let path = notify_path(worker.pid);
            for kind in ["none", "linger", fuse.kind().as_str()] {
                strangers.push(Stranger::send("datagrams", &path, kind, 0));
            }
        }
        load.wait_for(50);
        service.daemon.status();
        service.reload_well();
        load.wait_for(50);
        rollouts += 1;
    }
    let after = seen();
    println!(
        "foreign: {rollouts} rollouts in {:?}, fds {} then {}, KiB {} then {}, {} ms of CPU, {} stuck",
        since.elapsed(),
        before.0,
        after.0,
        before.1,
        after.1,
        after.2 - before.2,
        service.daemon.status().counter("closers_stuck")
    );
    load.stop().assert_nothing_lost();
    service.daemon.settle();
    assert!(deadline() > Instant::now());
    lives_on(service);
}

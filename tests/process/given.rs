//! What a worker is given: exactly its fds, its environment, its place in the system (design: what a worker sees).

use std::collections::BTreeMap;

use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};

/// What a scripted worker writes down with `dump`, by section.
pub struct Dump(BTreeMap<String, Vec<String>>);

impl Dump {
    /// Of the worker that answers.
    pub fn of(service: &Service) -> Self {
        let text = service.get("/dump").expect("an answer").body;
        let mut sections = BTreeMap::<String, Vec<String>>::new();
        let mut name = String::new();
        for line in text.lines() {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(section) => section.clone_into(&mut name),
                None => sections.entry(name.clone()).or_default().push(line.to_owned()),
            }
        }
        Self(sections)
    }

    fn section(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of `key` in lines `key=value`.
    /// A variable of its environment.
    pub fn variable(&self, key: &str) -> Option<&str> {
        let lines = self.section("environment").iter();
        lines.filter_map(|line| line.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value of `key` in lines `key value`, blanks around it left out.
    fn value(&self, section: &str, key: &str) -> &str {
        let lines = self.section(section).iter();
        lines.filter_map(|line| line.strip_prefix(key)).next().unwrap_or("").trim()
    }
}

fn two_listeners() -> Plan {
    Plan::new()
        .set("listener.admin", "address", &quoted(&Address::tcp().to_string()))
        .pool("listeners", "[\"http\", \"admin\"]")
}

#[test]
fn a_worker_has_its_streams_and_its_sockets_and_no_other_fd() {
    let plan = two_listeners();
    // The daemon itself is started with fds that it knows nothing of.
    let stray = "exec 4</dev/null 7</dev/null 9</dev/null; exec \"$@\"";
    let setup = plan.setup().under(["sh", "-c", stray, "sh"]);
    let service = plan.start_with(setup);
    for _ in 0..2 {
        let dump = Dump::of(&service);
        let fds = dump.section("fds");
        let kinds: Vec<&str> = fds.iter().map(|fd| fd.split('[').next().unwrap_or("")).collect();
        assert_eq!(
            kinds,
            ["0 /dev/null", "1 pipe:", "2 pipe:", "3 socket:", "4 socket:", "5 socket:"],
            "{fds:?}"
        );
        assert_eq!(dump.variable("HANDOVER_CHANNEL"), Some("5"));
        service.reload_and_settle();
    }
    service.stop();
}

#[test]
fn the_sockets_come_in_the_order_of_the_pool_and_by_name() {
    let plan = two_listeners().pool("listeners", "[\"admin\", \"http\"]");
    let service = plan.start();
    let dump = Dump::of(&service);
    assert_eq!(dump.variable("LISTEN_FDS"), Some("2"));
    assert_eq!(dump.variable("LISTEN_FDNAMES"), Some("admin:http"));
    assert_eq!(dump.variable("LISTEN_PID"), Some(dump.value("process", "pid ")));
    service.stop();
}

#[test]
fn a_worker_is_told_who_it_is() {
    let service = Plan::new().workers(2).start();
    let workers = service.ready();
    assert_eq!(workers.len(), 2);
    let dump = Dump::of(&service);
    let pid: u32 = dump.value("process", "pid ").parse().expect("a number");
    let worker = workers.iter().find(|worker| worker.pid == pid).expect("status knows its pid");
    assert_eq!(dump.variable("HANDOVER_NAME"), Some("test"));
    assert_eq!(dump.variable("HANDOVER_POOL"), Some("web"));
    assert_eq!(dump.variable("HANDOVER_SLOT"), Some(worker.slot.to_string().as_str()));
    assert_eq!(dump.variable("HANDOVER_GENERATION"), Some("1"));
    assert_eq!(dump.variable("HANDOVER_WORKER"), Some(worker.worker.to_string().as_str()));
    assert_eq!(dump.variable("HANDOVER_CHANNEL"), Some("4"));
    service.stop();
}

#[test]
fn a_worker_of_a_pool_without_a_channel_has_none() {
    let service = Plan::new().pool("channel", "\"none\"").start();
    let dump = Dump::of(&service);
    assert_eq!(dump.section("fds").len(), 4, "{:?}", dump.section("fds"));
    assert_eq!(dump.variable("HANDOVER_CHANNEL"), None);
    service.stop();
}

#[test]
fn the_channel_makes_room_for_the_ready_fd_and_node_finds_it_by_its_own_name() {
    let plan = Plan::new().pool("ready", "\"fd\"").pool("ready_fd", "4").pool("channel", "\"node\"");
    let setup = plan.setup().env("NODE_CHANNEL_FD", "99").env("NODE_UNIQUE_ID", "7");
    let service = plan.script("serve\nready-fd=4").start_with(setup);
    let dump = Dump::of(&service);
    assert_eq!(dump.variable("NODE_CHANNEL_FD"), Some("5"));
    assert_eq!(dump.variable("NODE_CHANNEL_SERIALIZATION_MODE"), Some("json"));
    assert_eq!((dump.variable("HANDOVER_CHANNEL"), dump.variable("NODE_UNIQUE_ID")), (None, None));
    service.stop();
}

#[test]
fn what_is_handovers_own_business_does_not_reach_a_worker() {
    let gone = [
        "MAINPID",
        "MANAGERPID",
        "FDSTORE",
        "SYSTEMD_EXEC_PID",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LISTEN_PIDFDID",
    ];
    let plan = Plan::new();
    let mut setup = plan.setup().env("CREDENTIALS_DIRECTORY", "/run/credentials/x").env("OURS", "yes");
    for key in gone {
        setup = setup.env(key, "1:1");
    }
    let service = plan.start_with(setup);
    let dump = Dump::of(&service);
    for key in gone.iter().filter(|key| **key != "LISTEN_PIDFDID") {
        assert_eq!(dump.variable(key), None, "{key}");
    }
    assert_ne!(dump.variable("LISTEN_PIDFDID"), Some("1:1"));
    assert_eq!(dump.variable("RUNTIME_DIRECTORY"), None);
    assert_eq!(dump.variable("WATCHDOG_USEC"), None);
    assert_eq!(dump.variable("CREDENTIALS_DIRECTORY"), Some("/run/credentials/x"));
    assert_eq!(dump.variable("OURS"), Some("yes"));
    let notify = dump.variable("NOTIFY_SOCKET").expect("ready = notify needs one");
    assert_ne!(
        notify,
        service.manager().path().display().to_string(),
        "systemd's own socket is not passed on"
    );
    service.stop();
}

#[test]
fn each_worker_has_a_notify_socket_of_its_own_that_any_user_can_write_to() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let service = Plan::new().start();
    let first = Dump::of(&service).variable("NOTIFY_SOCKET").expect("a path").to_owned();
    let socket = std::fs::metadata(&first).expect("a socket");
    assert_eq!(socket.permissions().mode() & 0o777, 0o666);
    let directory = std::path::Path::new(&first).parent().expect("a directory");
    assert_eq!(directory.metadata().expect("a directory").mode() & 0o777, 0o711);
    service.reload_and_settle();
    let second = Dump::of(&service).variable("NOTIFY_SOCKET").expect("a path").to_owned();
    assert_ne!(first, second);
    crate::support::eventually("the old worker's socket is gone", || {
        (!std::path::Path::new(&first).exists()).then_some(())
    });
    service.stop();
}

#[test]
fn the_pools_environment_and_files_are_added_and_variables_are_put_in() {
    let plan =
        Plan::new().variable("PORT", "90${HANDOVER_SLOT}").variable("PRICE", "$$5").variable("BOTH", "pool");
    let file = plan.scratch.write("env", "# comment\nFROM_FILE=\"a b\"\nBOTH=file\n");
    let files = format!("[{}, \"-/nonexistent\"]", quoted(&file.display().to_string()));
    let service = plan.pool("environment_files", &files).start();
    let dump = Dump::of(&service);
    assert_eq!(dump.variable("PORT"), Some("900"));
    assert_eq!(dump.variable("PRICE"), Some("$5"));
    assert_eq!(dump.variable("FROM_FILE"), Some("a b"));
    service.stop();
}

#[test]
fn the_environment_files_of_a_generation_are_those_of_its_making() {
    let plan = Plan::new();
    let file = plan.scratch.write("env", "COLOUR=red\n");
    let service =
        plan.pool("environment_files", &format!("[{}]", quoted(&file.display().to_string()))).start();
    service.plan.scratch.write("env", "COLOUR=blue\n");
    let old = service.ready()[0].pid;
    crate::support::child::Handle::open(old).expect("it lives").signal(libc::SIGKILL);
    service.reports().wait("the successor", |report| report.what == "ready" && report.pid != old);
    assert_eq!(
        Dump::of(&service).variable("COLOUR"),
        Some("red"),
        "a restarted worker of the same generation"
    );
    service.reload_and_settle();
    assert_eq!(Dump::of(&service).variable("COLOUR"), Some("blue"), "the next generation");
    service.stop();
}

#[test]
fn a_worker_is_the_user_that_the_pool_names() {
    let service = Plan::new()
        .pool("user", "\"nobody\"")
        .pool("umask", "\"0027\"")
        .pool("nice", "5")
        .pool("no_new_privileges", "true")
        .pool("limits", "{ nofile = 512 }")
        .pool("directory", "\"/usr\"")
        .start();
    let dump = Dump::of(&service);
    assert_eq!(dump.value("status", "Uid:").split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(dump.value("status", "Gid:").split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(dump.value("status", "Umask:"), "0027");
    assert_eq!(dump.value("status", "NoNewPrivs:"), "1");
    assert_eq!(dump.value("process", "nice "), "5");
    assert!(dump.value("limits", "Max open files").starts_with("512 "));
    assert_eq!(dump.section("directory"), ["/usr"]);
    assert_eq!(dump.variable("USER"), Some("nobody"));
    assert_eq!(dump.variable("LOGNAME"), Some("nobody"));
    assert_eq!(dump.variable("HOME"), Some("/nonexistent"));
    assert_eq!(dump.variable("SHELL"), Some("/usr/sbin/nologin"));
    service.stop();
}

#[test]
fn a_worker_leads_a_process_group_of_its_own() {
    let service = Plan::new().start();
    let dump = Dump::of(&service);
    assert_eq!(dump.value("process", "group "), dump.value("process", "pid "));
    service.stop();
}

#[test]
fn a_worker_starts_with_default_signals_whatever_handover_was_started_with() {
    let plan = Plan::new().without_script().pool("ready", "\"exec\"");
    // No Rust program, which would ignore SIGPIPE itself, and no shell, which handles SIGCHLD.
    let plan = plan
        .command(&["/usr/bin/tail", "-n", "+1", "-F", "/proc/self/status"])
        .pool("stop_timeout", "\"2s\"");
    let setup = plan.setup().under(["sh", "-c", "trap '' HUP PIPE QUIT USR1; exec \"$@\"", "sh"]);
    let service = plan.start_with(setup);
    let pid = service.ready()[0].pid;
    for field in ["SigBlk:", "SigIgn:"] {
        let mask = crate::support::proc::field(pid, field).expect("a field of status");
        assert_eq!(mask.trim_start_matches('0'), "", "{field} {mask}");
    }
    service.stop();
}

#[test]
fn wrappers_that_fork_can_be_spared_the_pid_variables() {
    let service = Plan::new()
        .variable("LISTEN_PID_MAY_BE_ABSENT", "1")
        .pool("listen_pid", "false")
        .pool("watchdog_pid", "false")
        .pool("watchdog", "\"10s\"")
        .start();
    let dump = Dump::of(&service);
    assert_eq!(dump.variable("LISTEN_PID"), None);
    assert_eq!(dump.variable("WATCHDOG_PID"), None);
    assert_eq!(dump.variable("LISTEN_FDS"), Some("1"));
    assert_eq!(dump.variable("WATCHDOG_USEC"), Some("10000000"));
    service.stop();
}

#[test]
fn the_slot_stands_for_itself_in_the_command_and_the_directory() {
    let plan = Plan::new().workers(2);
    for slot in ["0", "1"] {
        std::fs::create_dir(plan.scratch.join(&format!("slot{slot}"))).expect("our directory");
    }
    let worker = crate::support::scripted_worker().display().to_string();
    let directory = format!("{}/slot${{HANDOVER_SLOT}}", plan.scratch.path().display());
    let plan = plan.command(&[&worker, "version=${HANDOVER_POOL}-${HANDOVER_SLOT}-$$"]);
    let service = plan.pool("directory", &quoted(&directory)).start();
    for worker in service.ready() {
        let directory = std::fs::read_link(format!("/proc/{}/cwd", worker.pid)).expect("it lives");
        assert_eq!(directory, service.plan.scratch.join(&format!("slot{}", worker.slot)));
        let words = std::fs::read_to_string(format!("/proc/{}/cmdline", worker.pid)).expect("it lives");
        assert!(words.contains(&format!("\0version=web-{}-$\0", worker.slot)), "{words:?}");
    }
    service.stop();
}

#[test]
fn a_release_is_switched_by_a_link_and_each_generation_stays_with_its_own() {
    use std::os::unix::fs::symlink;
    let plan = Plan::new().workers(2);
    let current = plan.scratch.join("current");
    for release in ["1", "2"] {
        let directory = plan.scratch.join(release);
        std::fs::create_dir(&directory).expect("our directory");
        symlink(crate::support::scripted_worker(), directory.join("program")).expect("a free path");
    }
    let switch = |scratch: &crate::support::scratch::Scratch, release: &str| {
        symlink(scratch.join(release), scratch.join("next")).expect("a free path");
        std::fs::rename(scratch.join("next"), scratch.join("current")).expect("our link");
    };
    switch(&plan.scratch, "1");
    let service =
        plan.command(&["./program"]).pool("directory", &quoted(&current.display().to_string())).start();
    let releases = |service: &Service| -> Vec<String> {
        let directory = |pid| std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it lives");
        let name =
            |path: std::path::PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        service.ready().iter().map(|worker| name(directory(worker.pid))).collect()
    };
    assert_eq!(releases(&service), ["1", "1"]);
    switch(&service.plan.scratch, "2");
    service.kill(&service.ready()[0]);
    service.daemon.settle();
    assert_eq!(releases(&service), ["1", "1"], "a worker of the old generation runs the old release");
    service.reload_and_settle();
    assert_eq!(releases(&service), ["2", "2"]);
    assert!(service.ready().iter().all(|worker| worker.generation == 2));
    // The old release is removed, as deploy scripts do: what runs is not touched by that, and neither is its successor.
    std::fs::remove_dir_all(service.plan.scratch.join("1")).expect("our directory");
    service.kill(&service.ready()[0]);
    service.daemon.settle();
    assert_eq!(releases(&service), ["2", "2"]);
    service.stop();
}

//! Starts of real programs through the real helper. The test executable is the helper, and a program that
//! reports what it was started with: a constructor that runs before the test harness looks at `argv[1]`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use super::*;
use crate::os::limits::{Limit, Resource};
use crate::os::process::Exit;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let code = match std::env::args().nth(1).as_deref() {
        Some("__report") => report(),
        _ if helper_main().is_some() => 1,
        _ => return,
    };
    // SAFETY: ends this process, which has done nothing but what it was started for.
    unsafe { libc::_exit(code) }
}

/// What a program finds.
#[derive(Serialize, Deserialize)]
struct Report {
    fds: BTreeMap<i32, String>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    directory: String,
    status: BTreeMap<String, String>,
    pid: u32,
    group: i32,
    pidfd_inode: Option<u64>,
    open_files: (u64, u64),
    nice: String,
    death_signal: i32,
}

fn report() -> i32 {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap);
    let fds = entries
        .map(|entry| (entry.file_name(), std::fs::read_link(entry.path()).unwrap()))
        .filter(|(_, target)| !target.ends_with("fd"))
        .map(|(name, target)| (name.to_str().unwrap().parse().unwrap(), target.display().to_string()))
        .collect();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let status = status.lines().filter_map(|line| line.split_once(":\t"));
    let limit = Limit::of_this_process(Resource::NoFile).unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let pid = std::process::id();
    let mut death_signal = 0;
    // SAFETY: a place for one number, as PR_GET_PDEATHSIG wants it.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut death_signal) };
    let report = Report {
        fds,
        arguments: std::env::args().collect(),
        environment: std::env::vars_os().map(|(name, value)| (lossless(name), lossless(value))).collect(),
        directory: std::env::current_dir().unwrap().display().to_string(),
        status: status.map(|(name, value)| (name.into(), value.into())).collect(),
        pid,
        group: nix::unistd::getpgrp().as_raw(),
        pidfd_inode: crate::os::linux::pidfd_open(pid)
            .ok()
            .and_then(|fd| crate::os::linux::pidfd_inode(fd.as_fd())),
        open_files: (limit.soft.unwrap(), limit.hard.unwrap()),
        nice: stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(16).unwrap().into(),
        death_signal,
    };
    println!("{}", serde_json::to_string(&report).unwrap());
    7
}

fn lossless(text: OsString) -> String {
    text.into_vec().escape_ascii().to_string()
}

fn spec(program: &str, arguments: &[&str]) -> StartSpec {
    StartSpec {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: Vec::new(),
        directory: "/".into(),
        listen_pid: false,
        watchdog_pid: false,
        identity: None,
        umask: None,
        nice: None,
        limits: Vec::new(),
        no_new_privileges: false,
        parent_death_signal: None,
    }
}

fn reporter() -> StartSpec {
    spec(std::env::current_exe().unwrap().to_str().unwrap(), &["worker", "__report"])
}

fn helper() -> Helper {
    Helper::this_executable().unwrap()
}

fn quiet() -> Streams {
    Streams { stdout: Stdio::null(), stderr: Stdio::inherit() }
}

/// Starts the reporting program and waits for its report.
async fn report_of(spec: &StartSpec, fds: &[(std::os::fd::BorrowedFd<'_>, i32)]) -> Report {
    let (mut read, write) = std::io::pipe().unwrap();
    let streams = Streams { stdout: write.into(), stderr: Stdio::inherit() };
    let mut starting = spawn(&helper(), spec, fds, streams).unwrap();
    starting.handshake.finished().await.unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    starting.pidfd.exited().await.unwrap();
    assert_eq!(starting.pidfd.reap().unwrap(), Some(Exit::Code(7)));
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(report.pid, starting.pid);
    report
}

async fn fault_of(spec: &StartSpec) -> StartFault {
    let mut starting = spawn(&helper(), spec, &[], quiet()).unwrap();
    let fault = starting.handshake.finished().await.unwrap_err();
    starting.pidfd.exited().await.unwrap();
    assert_eq!(starting.pidfd.reap().unwrap(), Some(Exit::Code(1)));
    fault
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_finds_exactly_the_fds_it_was_given() {
    let (http, admin) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let fds = [(http.as_file().as_fd(), 3), (admin.as_file().as_fd(), 4), (http.as_file().as_fd(), 9)];
    let report = report_of(&reporter(), &fds).await;
    let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    assert_eq!(report.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 9]);
    assert_eq!(report.fds[&0], "/dev/null");
    assert_eq!(report.fds[&3], path(&http));
    assert_eq!(report.fds[&4], path(&admin));
    assert_eq!(report.fds[&9], path(&http));
}

#[tokio::test(flavor = "current_thread")]
async fn fds_may_be_placed_in_any_order_over_each_other() {
    let files: Vec<_> = (0..8).map(|_| tempfile::NamedTempFile::new().unwrap()).collect();
    // The helper receives them as 3, 4, … in this order, so that each is in the way of another.
    let targets = [10, 9, 8, 7, 6, 5, 4, 3];
    let fds: Vec<_> = files.iter().map(|file| file.as_file().as_fd()).zip(targets).collect();
    let report = report_of(&reporter(), &fds).await;
    for (file, target) in files.iter().zip(targets) {
        assert_eq!(report.fds[&target], file.path().display().to_string());
    }
    assert_eq!(report.fds.len(), 3 + 8);
}

#[tokio::test(flavor = "current_thread")]
async fn a_thousand_fds_and_a_large_environment_block_nobody() {
    let before = crate::os::limits::raise_open_files().unwrap();
    assert!(before.hard.is_none_or(|hard| hard > 2048), "the limit of open files is too low for this test");
    let null = null();
    let fds: Vec<_> = (3..1003).map(|target| (null.as_fd(), target)).collect();
    let mut spec = reporter();
    // More than any socket buffer takes at once, so that the rest must wait for the helper.
    let large = "x".repeat(100_000);
    spec.environment = (0..15).map(|n| (format!("LARGE_{n}").into(), large.clone().into())).collect();
    let report = report_of(&spec, &fds).await;
    assert_eq!(report.fds.len(), 1003);
    assert_eq!(report.environment.len(), 15);
    assert!(report.environment.values().all(|value| *value == large));
}

#[tokio::test(flavor = "current_thread")]
async fn an_environment_and_arguments_are_exact_even_if_they_are_not_text() {
    let mut spec = reporter();
    spec.arguments.push("a b\n$HOME \"".into());
    spec.environment = vec![
        ("LISTEN_PID".into(), "1".into()),
        ("LISTEN_PIDFDID".into(), "1".into()),
        ("NAME".into(), OsString::from_vec(b"\xff=x".to_vec())),
    ];
    spec.directory = "/usr".into();
    let report = report_of(&spec, &[]).await;
    assert_eq!(report.arguments, ["worker", "__report", "a b\n$HOME \""]);
    assert_eq!(report.environment, BTreeMap::from([("NAME".into(), "\\xff=x".into())]));
    assert_eq!(report.directory, "/usr");
}

#[tokio::test(flavor = "current_thread")]
async fn the_variables_that_only_the_program_itself_can_know_are_its_own() {
    let mut spec = reporter();
    spec.listen_pid = true;
    spec.watchdog_pid = true;
    let report = report_of(&spec, &[]).await;
    assert_eq!(report.environment["LISTEN_PID"], report.pid.to_string());
    assert_eq!(report.environment["WATCHDOG_PID"], report.pid.to_string());
    let inode = report.pidfd_inode.map(|inode| inode.to_string());
    assert_eq!(report.environment.get("LISTEN_PIDFDID"), inode.as_ref());
}

#[tokio::test(flavor = "current_thread")]
async fn signals_are_as_a_program_expects_them_and_the_group_is_its_own() {
    // SAFETY: ignoring a signal runs no code. No other test sends or expects this one.
    unsafe { libc::signal(libc::SIGURG, libc::SIG_IGN) };
    let report = report_of(&reporter(), &[]).await;
    for set in ["SigBlk", "SigIgn"] {
        assert_eq!(report.status[set], "0000000000000000", "{set}");
    }
    assert_eq!(report.group, i32::try_from(report.pid).unwrap());
    assert_eq!(report.death_signal, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn limits_umask_and_niceness_are_set() {
    let mut spec = reporter();
    let limit = Limit { resource: Resource::NoFile, soft: Some(100), hard: Some(200) };
    spec.limits = vec![limit];
    spec.umask = Some(0o027);
    spec.nice = Some(5);
    spec.no_new_privileges = true;
    spec.parent_death_signal = Some(libc::SIGTERM);
    let report = report_of(&spec, &[]).await;
    assert_eq!(report.open_files, (100, 200));
    assert_eq!(report.status["Umask"], "0027");
    assert_eq!(report.nice, "5");
    assert_eq!(report.status["NoNewPrivs"], "1");
    assert_eq!(report.death_signal, libc::SIGTERM);
}

#[tokio::test(flavor = "current_thread")]
async fn user_and_groups_are_given_up_and_the_death_signal_survives_that() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: user_and_groups_are_given_up_and_the_death_signal_survives_that needs root");
        return;
    }
    // A user that this test may name without a user database, who can read the test executable.
    let mut spec = spec("/bin/sh", &["sh", "-c", "grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status"]);
    spec.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    spec.identity = Some(Identity { user: Some((65534, None)), group: 65533, groups: vec![65532] });
    spec.parent_death_signal = Some(libc::SIGTERM);
    let (mut read, write) = std::io::pipe().unwrap();
    let mut starting =
        spawn(&helper(), &spec, &[], Streams { stdout: write.into(), stderr: Stdio::inherit() }).unwrap();
    starting.handshake.finished().await.unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    starting.pidfd.exited().await.unwrap();
    assert_eq!(starting.pidfd.reap().unwrap(), Some(Exit::Code(0)));
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let ids = ["Uid:\t65534\t65534\t65534\t65534", "Gid:\t65533\t65533\t65533\t65533"];
    assert_eq!(lines, [ids[0], ids[1], "Groups:\t65532", "CapEff:\t0000000000000000"]);
}

#[tokio::test(flavor = "current_thread")]
async fn the_groups_of_a_user_come_from_the_user_database() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the_groups_of_a_user_come_from_the_user_database needs root");
        return;
    }
    let mut spec = spec("/bin/true", &["true"]);
    spec.identity = Some(Identity { user: Some((0, Some("root".into()))), group: 0, groups: vec![] });
    let mut starting = spawn(&helper(), &spec, &[], quiet()).unwrap();
    starting.handshake.finished().await.unwrap();
    starting.pidfd.exited().await.unwrap();
    assert_eq!(starting.pidfd.reap().unwrap(), Some(Exit::Code(0)));
}

#[tokio::test(flavor = "current_thread")]
async fn each_step_that_fails_says_which_it_was() {
    let missing = fault_of(&spec("/nonexistent/program", &["program"])).await;
    assert_eq!((missing.stage.as_str(), missing.errno), ("exec", Some(libc::ENOENT)));
    assert_eq!(missing.reason, "/nonexistent/program: no such file or directory");

    let mut nowhere = reporter();
    nowhere.directory = "/nonexistent".into();
    let fault = fault_of(&nowhere).await;
    assert_eq!(fault.to_string(), "stage directory: /nonexistent: no such file or directory");

    let mut unlimited = reporter();
    unlimited.limits = vec![Limit { resource: Resource::NoFile, soft: Some(10), hard: Some(5) }];
    let fault = fault_of(&unlimited).await;
    assert_eq!(fault.to_string(), "stage limits: RLIMIT_NOFILE: invalid argument");

    let mut dead = reporter();
    dead.parent_death_signal = Some(1000);
    assert_eq!(fault_of(&dead).await.stage, "parent");

    let mut torn = reporter();
    torn.arguments.push("a\0b".into());
    assert_eq!(fault_of(&torn).await.stage, "exec");
}

#[tokio::test(flavor = "current_thread")]
async fn a_helper_that_is_killed_did_not_execute_anything() {
    let mut starting = spawn(&Helper::at("/bin/sleep"), &reporter(), &[], quiet()).unwrap();
    // sleep refuses "__exec" and ends.
    let fault = starting.handshake.finished().await.unwrap_err();
    assert_eq!(fault.stage, "helper");
    starting.pidfd.exited().await.unwrap();
    assert_eq!(starting.pidfd.reap().unwrap(), Some(Exit::Code(1)));
}

#[tokio::test(flavor = "current_thread")]
async fn what_cannot_be_started_at_all_is_an_error_at_once() {
    let spec = reporter();
    let missing = spawn(&Helper::at("/nonexistent"), &spec, &[], quiet()).unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    let null = null();
    for targets in [[2, 3], [4, 4]] {
        let fds: Vec<_> = targets.iter().map(|target| (null.as_fd(), *target)).collect();
        let refused = spawn(&helper(), &spec, &fds, quiet()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_handshake_that_is_dropped_halfway_leaves_no_program() {
    let mut spec = reporter();
    // ARG_MAX allows no single string this long, but the order carries it; it does not fit the socket.
    spec.environment = vec![("LARGE".into(), "x".repeat(4 << 20).into())];
    let starting = spawn(&helper(), &spec, &[], quiet()).unwrap();
    drop(starting.handshake);
    starting.pidfd.exited().await.unwrap();
    assert_eq!(starting.pidfd.reap().unwrap(), Some(Exit::Code(1)));
}

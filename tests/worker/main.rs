//! Workers as processes: under the conformance script, under systemd's own socket activation, beside siblings, and alone.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod process;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use process::{Process, connect, example, skipped};

/// What says that fds are for the process that the shell becomes.
const OURS: &str = "LISTEN_PID=$$";

/// Starts a worker with these sockets from fd 3 on; one is passed as standard input.
fn passed(socket: impl Into<OwnedFd>, variables: &str) -> Process {
    let script =
        format!("exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=http {variables} exec \"$0\" 127.0.0.1:0");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).arg(example("worker_blocking"));
    command.stdin(Stdio::from(socket.into()));
    Process::start(command)
}

/// One line to a worker, and its answer without the pid.
fn ask(address: &str, line: &str) -> (String, String) {
    let mut client = connect(address);
    writeln!(client, "{line}").unwrap();
    let mut answer = String::new();
    BufReader::new(client).read_line(&mut answer).unwrap();
    let (pid, rest) = answer.trim_end().split_once(' ').unwrap();
    (pid.to_owned(), rest.to_owned())
}

#[test]
fn alone_it_binds_serves_and_finishes_what_it_has() {
    let mut command = Command::new(example("worker_blocking"));
    command.arg("127.0.0.1:0");
    let mut worker = Process::start(command);
    let address = worker.line().strip_prefix("bound ").unwrap().to_owned();
    assert_eq!(ask(&address, "hello"), (worker.pid().to_string(), "hello".to_owned()));
    let mut held = connect(&address);
    writeln!(held, "first").unwrap();
    let mut reader = BufReader::new(held.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    worker.terminate();
    // This one comes before what is idle is closed, or crosses that: then it gets no byte of an answer.
    let mut rest = String::new();
    let _ = writeln!(held, "second");
    if let Err(error) = reader.read_to_string(&mut rest) {
        assert_eq!((error.kind(), &*rest), (std::io::ErrorKind::ConnectionReset, ""));
    }
    assert!(rest.is_empty() || rest.contains(" second"), "{rest}");
    assert_eq!(worker.line(), "finished");
    worker.ends_well();
}

#[test]
fn a_second_signal_ends_what_hangs() {
    let mut command = Command::new(example("worker_blocking"));
    command.arg("127.0.0.1:0");
    let mut worker = Process::start(command);
    let address = worker.line().strip_prefix("bound ").unwrap().to_owned();
    // A client that sends and does not read: its thread hangs in a write, which no drain ends.
    let mut client = connect(&address);
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // One write in vain may be a worker that is slow.
    let mut in_vain = 0;
    while in_vain < 5 {
        in_vain = if client.write(&b"x\n".repeat(10_000)).is_ok() { 0 } else { in_vain + 1 };
    }
    worker.terminate();
    process::until(|| TcpStream::connect(&address).err());
    worker.terminate();
    assert_eq!(worker.ends().signal(), Some(15));
}

#[test]
fn sockets_of_somebody_else_are_left_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut worker = passed(socket.try_clone().unwrap(), "LISTEN_PID=1");
    assert!(worker.line().starts_with("bound "));
    let mut worker = passed(socket.try_clone().unwrap(), "");
    assert!(worker.line().starts_with("bound "));
    // What handover does with `listen_pid = false`.
    let handovers = "HANDOVER_NAME=a HANDOVER_POOL=b HANDOVER_SLOT=0 HANDOVER_GENERATION=1 HANDOVER_WORKER=1";
    for ours in [OURS, handovers] {
        let mut worker = passed(socket.try_clone().unwrap(), ours);
        assert_eq!(worker.line(), format!("passed {}", socket.local_addr().unwrap()));
    }
}

#[test]
fn a_channel_that_is_a_passed_socket_is_none() {
    // What is left of the environment of a worker, in a process that another one started with sockets of its own.
    let scratch = tempfile::tempdir().unwrap();
    let socket = UnixListener::bind(scratch.path().join("socket")).unwrap();
    let mut worker = passed(socket, &format!("{OURS} HANDOVER_CHANNEL=3"));
    assert_eq!(worker.line(), "passed a Unix socket");
    worker.terminate();
    assert_eq!(worker.line(), "finished");
    worker.ends_well();
}

#[test]
fn siblings_share_a_blocking_socket_and_none_is_deaf() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut siblings: Vec<Process> = (0..4).map(|_| passed(socket.try_clone().unwrap(), OURS)).collect();
    for sibling in &mut siblings {
        assert!(sibling.line().starts_with("passed "));
    }
    let address = socket.local_addr().unwrap().to_string();
    let mut served = BTreeMap::<String, u32>::new();
    // Whoever is last gets its share, too; with an unfair way of waiting one of four had 98 of 100 connections.
    for _ in 0..20_000 {
        *served.entry(ask(&address, "x").0).or_default() += 1;
        if served.len() == siblings.len() && served.values().all(|count| *count >= 5) {
            break;
        }
    }
    assert!(served.len() == siblings.len() && served.values().all(|count| *count >= 5), "{served:?}");
    // Each was woken for connections that a sibling took, on a socket that blocks.
    siblings.iter().for_each(Process::terminate);
    for mut sibling in siblings {
        assert_eq!(sibling.line(), "finished");
        sibling.ends_well();
    }
}

#[test]
fn it_works_under_systemds_own_socket_activation() {
    let program = "systemd-socket-activate";
    if skipped(program, Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err()) {
        return;
    }
    for (example_name, name) in [("worker_blocking", Some("--fdname=http")), ("worker_tokio", None)] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let mut command = Command::new(program);
        command.arg("-l").arg(&path).args(name).arg(example(example_name)).arg("127.0.0.1:0");
        let mut worker = Process::start(command);
        let mut client = process::until(|| UnixStream::connect(&path).ok());
        let ready = worker.line();
        assert!(ready == "passed a Unix socket" || ready == "ready", "{ready}");
        writeln!(client, "x").unwrap();
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer).unwrap();
        assert!(answer.starts_with(&worker.pid().to_string()), "{answer}");
        worker.terminate();
        assert_eq!(worker.line(), "finished");
        worker.ends_well();
    }
}

#[test]
fn under_handover_a_restart_loses_no_connection() {
    // Cargo names it without its feature, too, when it is not built, or was built from another source.
    let found = option_env!("CARGO_BIN_EXE_handover").filter(|_| cfg!(feature = "cli"));
    if skipped("the handover command", found.is_none()) {
        return;
    }
    let handover = found.expect("looked up above");
    let scratch = tempfile::tempdir().unwrap();
    let control = scratch.path().join("control");
    let mut command = Command::new("/bin/sh");
    let script = "exec \"$0\" run --name sdk -n 2 --ready notify -l http=127.0.0.1:0 --socket \"$@\" 2>&1";
    command.args(["-c", script, handover]).arg(&control).arg("--").arg(example("worker_blocking"));
    let mut daemon = Process::start(command);
    let address = daemon.line_with("passed ");
    let address = address.split_once("passed ").unwrap().1.split(['"', ' ']).next().unwrap().to_owned();
    let client = |words: &[&str]| {
        let mut command = Command::new(handover);
        command.args(words).arg("--socket").arg(&control).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut restart = client(&["restart"]);
    let mut workers = BTreeMap::<String, u32>::new();
    let status = loop {
        // Each is answered, or this fails.
        *workers.entry(ask(&address, "x").0).or_default() += 1;
        if let Some(status) = restart.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success() && workers.len() > 2, "{status}, {workers:?}");
    assert!(client(&["stop"]).wait().unwrap().success());
    daemon.ends_well();
}

#[test]
fn under_handover_and_under_systemd_the_next_one_takes_what_was_stored() {
    let scratch = tempfile::tempdir().unwrap();
    if let Some(handover) = option_env!("CARGO_BIN_EXE_handover") {
        let control = scratch.path().join("control");
        let mut command = Command::new("/bin/sh");
        let script = "exec \"$0\" run --name sdk -n 1 --ready notify --socket \"$@\" 2>&1";
        command.args(["-c", script, handover]).arg(&control).arg("--").arg(example("worker_stored"));
        let mut daemon = Process::start(command);
        let client = |words: &[&str]| {
            let mut command = Command::new(handover);
            command.args(words).arg("--socket").arg(&control).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(command.status().unwrap().success(), "{words:?}");
        };
        daemon.line_with("start 1");
        // It is stored before it is ready, and the restart comes after that.
        process::until(|| UnixStream::connect(&control).ok());
        for number in 2..5 {
            client(&["restart"]);
            daemon.line_with(&format!("start {number}"));
        }
        client(&["stop"]);
        daemon.ends_well();
    }
    // As systemd passes what it kept: among the rest, by name.
    let kept = scratch.path().join("kept");
    std::fs::write(&kept, "...").unwrap();
    let mut command = Command::new("/bin/sh");
    let script = "exec 3</dev/null 4<>\"$1\"; export LISTEN_FDS=2 LISTEN_FDNAMES=other:starts LISTEN_PID=$$; exec \"$0\"";
    command.args(["-c", script]).arg(example("worker_stored")).arg(&kept);
    let mut worker = Process::start(command);
    assert_eq!(worker.line(), "start 4");
    worker.terminate();
    worker.ends_well();
}

#[test]
fn the_conformance_script_finds_nothing() {
    let python = "/usr/bin/python3";
    if skipped("python3", !Path::new(python).exists()) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/conformance.py");
    let tries = [None, Some("--tokio")].map(|argument| {
        let mut command = Command::new(python);
        command
            .arg(&script)
            .args(["--deadline", "60", "--"])
            .arg(example("conformance_worker"))
            .args(argument);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for one in tries {
        let output = one.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let failed: Vec<_> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
        assert!(output.status.success(), "{failed:#?}\n{}", String::from_utf8_lossy(&output.stderr));
        let is_known = |line: &&str| line.ends_with("a program with threads does not fork");
        assert!(failed.iter().all(is_known), "{failed:#?}");
    }
}

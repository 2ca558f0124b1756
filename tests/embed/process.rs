//! What concerns a whole process, in programs of their own: see `stage/program.rs`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{ChildStdout, Command, Stdio};

use crate::support::child::OwnedChild;
use crate::support::scratch::{Address, Scratch};
use crate::support::{client, deadline, eventually, handover, proc, scripted_worker};

fn example(name: &str) -> Command {
    Command::new(handover().with_file_name("examples").join(name))
}

/// A program on the stage, and what it says.
struct Stage {
    program: OwnedChild,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Stage {
    fn start(scenario: &str) -> Self {
        let mut command = example("embed_stage");
        command.arg(scenario).arg(scripted_worker());
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self::with_output(command)
    }

    /// One whose output is a pipe already.
    fn with_output(mut command: Command) -> Self {
        let mut program = OwnedChild::spawn(&mut command);
        let lines = BufReader::new(program.inner().stdout.take().unwrap()).lines();
        Self { program, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    /// Waits for its end: what it said until then, and whether it ended well.
    fn end(mut self) -> (Vec<String>, bool) {
        let said: Vec<String> = self.lines.by_ref().map(|line| line.unwrap()).collect();
        let status = self.program.wait(deadline()).expect("it ends");
        (said, status.success())
    }
}

#[test]
fn the_programs_own_signals_limits_and_children_stay_its_own() {
    let (said, well) = Stage::start("surroundings").end();
    let expected = ["inherited by programs true", "by workers false", "unchanged true"];
    assert_eq!(said[..3], expected);
    assert_eq!(said[3..], ["children Some(7) Some(8)", "same workers true"]);
    assert!(well);
}

#[test]
fn the_service_manager_is_told_only_where_that_is_asked_for() {
    for (scenario, is_told) in [("told", true), ("surroundings", false)] {
        let scratch = Scratch::new();
        let path = scratch.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut command = example("embed_stage");
        command.arg(scenario).arg(scripted_worker()).env("NOTIFY_SOCKET", &path);
        assert!(Stage::of(command).end().1);
        let mut buffer = [0; 4096];
        let mut said = Vec::new();
        while let Ok(length) = manager.recv(&mut buffer) {
            said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        let is_said = |what: &str| said.iter().any(|text| text.contains(what));
        assert_eq!((is_said("READY=1"), is_said("STOPPING=1")), (is_told, is_told), "{scenario}: {said:?}");
        assert_eq!(said.is_empty(), !is_told, "{said:?}");
    }
}

#[test]
fn where_sigchld_is_ignored_it_does_not_start_and_is_told_when_that_happens_later() {
    let (said, well) = Stage::start("ignored").end();
    assert!(said[0].starts_with("refused SIGCHLD is ignored, so") && said[0].contains("hint: "), "{said:?}");
    assert_eq!(said[1..], ["lost: SIGCHLD is ignored, so the kernel tells nobody", "workers 2", "stopped"]);
    assert!(well);
}

#[test]
fn a_program_that_takes_the_exit_status_of_every_child_is_noticed_and_told() {
    let mut command = example("embed_stage");
    let mark = format!("reaper-{}", std::process::id());
    command.arg("reaper").arg(scripted_worker()).env(proc::MARK, &mark);
    let (said, well) = Stage::of(command).end();
    assert!(proc::marked(&mark).is_empty(), "the groups of all workers have ended");
    assert!(said[0].starts_with("lost: another part of this program took its exit status"), "{said:?}");
    assert_eq!(said[1..], ["workers 2", "stopped"]);
    assert!(well);
}

#[test]
fn a_program_that_forgot_the_hook_is_told_and_does_not_start_itself_again_and_again() {
    for (scenario, why) in [("no-hook", "has not called helper_main"), ("hook-forgotten", "no exec helper")] {
        let mut command = example("embed_stage");
        command.arg(scenario).arg(scripted_worker()).env("STAGE_WITHOUT_HOOK", "1");
        command.env(proc::MARK, scenario);
        let (said, well) = Stage::of(command).end();
        assert!(said.len() == 1 && said[0].contains(why), "{scenario}: {said:?}");
        assert!(!well);
        assert!(proc::marked(scenario).is_empty(), "{scenario}");
    }
}

#[test]
fn started_and_stopped_fifty_times_it_leaves_no_fd_and_no_thread() {
    let (said, well) = Stage::start("leaks").end();
    assert_eq!(said.last().map(String::as_str), Some("same true"), "{said:?}");
    assert!(well);
}

#[test]
fn when_the_program_is_killed_no_worker_is_left() {
    let scratch = Scratch::new();
    let mut command = example("embed_stage");
    command.arg("die").arg(scripted_worker()).env("STAGE_DIRECTORY", scratch.join("run"));
    let mut stage = Stage::of(command);
    let pids: Vec<u32> = stage.line().split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    stage.program.signal(libc::SIGKILL);
    eventually("the end of its workers", || pids.iter().all(|pid| !proc::is_alive(*pid)).then_some(()));
}

#[test]
fn sockets_of_the_service_manager_are_taken_where_that_is_asked_for() {
    let Address::Tcp(address) = Address::tcp() else { panic!("TCP") };
    let socket = TcpListener::bind(address).unwrap();
    // The number of the process that it becomes, the socket from 3 on, and an input that it can wait for.
    let script =
        "exec 3<&0 0<&4; LISTEN_FDS=1 LISTEN_FDNAMES=http LISTEN_PID=$$ exec \"$0\" activated \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec 4<\"$2\"; {script}")]);
    let scratch = Scratch::new();
    let fifo = scratch.join("input");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let input = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    command.arg(handover().with_file_name("examples").join("embed_stage")).arg(scripted_worker()).arg(&fifo);
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::piped());
    let mut stage = Stage::with_output(command);
    assert_eq!(stage.line(), "http inherited");
    assert_eq!(stage.line(), "again true");
    assert!(client::get(&Address::Tcp(address), "/").is_ok());
    (&input).write_all(b"x").unwrap();
    assert!(stage.end().1);
}

#[test]
fn the_example_serves_rolls_and_stops() {
    let Address::Tcp(address) = Address::tcp() else { panic!("TCP") };
    let mut command = example("embed");
    command.arg(address.to_string()).arg(scripted_worker());
    let mut stage = Stage::of(command);
    let mut input = stage.program.inner().stdin.take().unwrap();
    let wait_for = |stage: &mut Stage, text: &str| while !stage.line().contains(text) {};
    wait_for(&mut stage, "ready: fine");
    let first = client::get(&Address::Tcp(address), "/").unwrap().generation();
    writeln!(input, "roll").unwrap();
    wait_for(&mut stage, "generation 2 serves, 2 of 2 workers ready");
    // The old ones may still take one or the other.
    eventually("the new generation", || {
        let answer = client::get(&Address::Tcp(address), "/").ok()?;
        (answer.generation() > first).then_some(())
    });
    writeln!(input, "scale 3").unwrap();
    wait_for(&mut stage, "3 of 3 workers ready");
    drop(input);
    let (said, well) = stage.end();
    assert!(well && said.iter().any(|line| line == "the daemon has ended"), "{said:?}");
}

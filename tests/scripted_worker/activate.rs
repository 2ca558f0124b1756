//! What a service manager does last: place the sockets, say so in the environment, execute the program.
//!
//! The fds come over the socket that is our standard input, at most one message; its text is `LISTEN_FDNAMES`
//! (empty: not set). That way the test needs no fd without close-on-exec, which its other children would get.

use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use sendfd::RecvWithFd;

const FIRST_FD: RawFd = 3;
const MOST_FDS: usize = 64;

/// Executes `command` with the fds that come over standard input; returns only where that fails.
pub(crate) fn run(command: &[String]) -> ExitCode {
    // SAFETY: standard input is ours, and nothing reads it otherwise.
    let stream = unsafe { UnixStream::from_raw_fd(0) };
    let mut names = [0; 4096];
    let mut fds = [0; MOST_FDS];
    let (length, count) = match stream.recv_with_fd(&mut names, &mut fds) {
        Ok(received) => received,
        Err(error) => return fail(&format!("standard input: {error}")),
    };
    let names = String::from_utf8_lossy(&names[..length]).trim().to_owned();
    place(&fds[..count]);
    let Some((program, arguments)) = command.split_first() else { return fail("no command") };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.env("LISTEN_FDS", count.to_string()).env("LISTEN_PID", std::process::id().to_string());
    if !names.is_empty() {
        command.env("LISTEN_FDNAMES", names);
    }
    fail(&format!("{program}: {}", command.exec()))
}

/// Moves the fds to 3, 4, …, open across exec.
fn place(fds: &[RawFd]) {
    let first_free = FIRST_FD + i32::try_from(MOST_FDS).expect("64");
    // SAFETY: numbers only. First out of the way of all targets, then to the targets.
    let moved: Vec<RawFd> =
        fds.iter().map(|fd| unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, first_free) }).collect();
    for fd in fds {
        // SAFETY: received a moment ago, and nobody else knows it.
        unsafe { libc::close(*fd) };
    }
    for (target, fd) in (FIRST_FD..).zip(moved) {
        // SAFETY: numbers only.
        unsafe { libc::dup2(fd, target) };
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("scripted_worker activate: {why}");
    ExitCode::from(66)
}

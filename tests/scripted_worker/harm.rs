//! What a bad worker does: to itself, to its output, to the sockets that it shares.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;

/// Ends this process by `signal`, whatever it was told about that signal.
pub(crate) fn die_of(signal: libc::c_int) {
    // SAFETY: numbers only; the limit is a local.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// A program that is set-user-ID becomes root altogether: whoever started it may not signal it any more.
pub(crate) fn become_root() -> std::io::Result<()> {
    // SAFETY: takes no pointer.
    if unsafe { libc::setreuid(0, 0) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Starts a copy of this program that does `steps`, in this process group or in a session of its own. Returns its pid, once
/// it has said `tell-parent` or is gone.
pub(crate) fn fork_child(own_session: bool, steps: &[&str]) -> std::io::Result<u32> {
    let mut command = Command::new("/proc/self/exe");
    let (mut told, tell) = std::io::pipe()?;
    command.args(steps).env_remove("WORKER_SCRIPT").env_remove("WORKER_REPORT").stdin(tell);
    if own_session {
        use std::os::unix::process::CommandExt;
        // SAFETY: `setsid` may be called between fork and exec.
        unsafe {
            command
                .pre_exec(|| if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) })
        };
    }
    let pid = command.spawn()?.id();
    // Our copy of the child's end: with it open, the end of the child would not be seen.
    drop(command);
    let _ = told.read(&mut [0]);
    Ok(pid)
}

/// Tells the parent, at the other end of our standard input, that we are as far.
pub(crate) fn tell_parent() {
    // SAFETY: `fork_child` made it for this, and nothing reads it.
    let _ = unsafe { File::from_raw_fd(0) }.write_all(b".");
}

/// Writes `count` numbered lines to standard output as fast as they are taken; without end for 0.
pub(crate) fn flood(count: u64) {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut number = 0_u64;
    while count == 0 || number < count {
        if writeln!(out, "flood line {number}").is_err() {
            return;
        }
        number += 1;
    }
}

/// Writes one line of `length` bytes to standard output.
pub(crate) fn long_line(length: u64) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    let chunk = [b'x'; 64 << 10];
    let mut left = length;
    while left > 0 {
        let n = left.min(chunk.len() as u64);
        out.write_all(&chunk[..usize::try_from(n).expect("at most 64 KiB")])?;
        left -= n;
    }
    out.write_all(b"\n")?;
    out.flush()
}

/// Closes standard output and error, as a program does that turns itself into a daemon.
pub(crate) fn close_output() {
    for fd in [1, 2] {
        // SAFETY: std writes to these by number and bears their absence.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// Opens `count` fds and keeps them.
pub(crate) fn leak_fds(count: u64) {
    for _ in 0..count {
        std::mem::forget(File::open("/dev/null"));
    }
}

/// Takes `bytes` of memory, touches all of it, and keeps it.
pub(crate) fn leak_memory(bytes: u64) {
    std::mem::forget(vec![1_u8; usize::try_from(bytes).expect("a size of this machine")]);
}

/// Does to a shared socket what no worker should.
pub(crate) fn spoil(socket: &OwnedFd, how: &str) -> std::io::Result<()> {
    let fd: RawFd = socket.as_raw_fd();
    // SAFETY: numbers only, and an fd that is open.
    let result = unsafe {
        match how {
            "shutdown" => libc::shutdown(fd, libc::SHUT_RDWR),
            "nonblocking" => {
                libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK)
            }
            backlog => libc::listen(fd, backlog.parse().unwrap_or(1)),
        }
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

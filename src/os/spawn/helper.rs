//! The exec helper: takes its order from standard input, becomes the program.
//!
//! One thread, ordinary code; the only hurry is that somebody waits. Nothing of the helper may be left in
//! the program: the handshake socket is close-on-exec, dispositions and mask are the defaults, and the
//! environment is the given one.
//!
//! The order of the steps is systemd's (`exec_child`): limits before the user, since raising them takes
//! privileges; the directory after the user, since only that user may be allowed in (NFS, 0700 homes);
//! the parent-death signal after everything that clears it.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::{Mode, umask};

use super::identity;
#[cfg(target_os = "linux")]
use super::parent_death_linux as parent_death;
#[cfg(target_os = "macos")]
use super::parent_death_macos as parent_death;
use super::place::place;
use super::script;
use super::spec::{
    EXECUTING, FDS_BYTE, HELPER_ARGUMENT, ORDER_BYTES_MAX, Order, OrderVersion, PROBE_VARIABLE, ProbeAnswer,
    StartFault, StartSpec, VERSION, parse_header,
};
use crate::os::{fd, passing};

/// `NSIG` of `sys/signal.h` less one.
#[cfg(target_os = "macos")]
const SIGNALS_MAX: i32 = 31;

pub(super) type Step<T> = Result<T, StartFault>;

/// Makes this process the exec helper if its first argument says so, and returns the exit code of a failed
/// start; a successful one does not return. `None`: this is not the helper, go on.
///
/// Must be the first thing that `main` does: it needs to be alone in the process, and takes its order from
/// standard input.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     if let Some(code) = handover::embed::helper_main() {
///         return code;
///     }
///     // … the program …
///     ExitCode::SUCCESS
/// }
/// ```
pub fn helper_main() -> Option<ExitCode> {
    WAS_ASKED.store(true, Ordering::Relaxed);
    if !is_started_as_helper() {
        return None;
    }
    let Ok(channel) = standard_input() else {
        let _ = writeln!(io::stderr(), "{HELPER_ARGUMENT} is for handover's own use");
        return Some(ExitCode::from(2));
    };
    let mut channel = UnixStream::from(channel);
    let fault = match become_program(&mut channel) {
        Ok(Done) => return Some(ExitCode::SUCCESS),
        Err(fault) => fault,
    };
    if let Ok(mut line) = serde_json::to_vec(&fault) {
        line.push(b'\n');
        // Where the parent is gone there is nobody left to tell.
        let _ = channel.write_all(&line);
    }
    Some(ExitCode::FAILURE)
}

/// [`helper_main`] was called in this process.
static WAS_ASKED: AtomicBool = AtomicBool::new(false);

/// Was [`helper_main`] called in this process? Where it was not, the same program started again would not be a helper either,
/// but itself once more.
pub fn helper_main_was_called() -> bool {
    WAS_ASKED.load(Ordering::Relaxed)
}

/// Was this process started to become a helper, whatever it does instead?
pub fn is_meant_to_be_helper() -> bool {
    is_started_as_helper() || std::env::var_os(PROBE_VARIABLE).is_some()
}

fn is_started_as_helper() -> bool {
    std::env::args_os().nth(1).as_deref() == Some(OsStr::new(HELPER_ARGUMENT))
}

/// Standard input, if it is a socket.
fn standard_input() -> io::Result<OwnedFd> {
    let stat = nix::sys::stat::fstat(io::stdin())?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFSOCK {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: fd 0 is open, as fstat has shown, and nobody in this process uses it before or after.
    Ok(unsafe { OwnedFd::from_raw_fd(0) })
}

/// What was ordered was not to become a program.
struct Done;

/// What was ordered.
enum Ordered {
    /// To say who this is.
    Probe,
    /// To close what comes out of this.
    Closer(OwnedFd),
    /// To become a program with these fds.
    Program(Box<Order>, Vec<OwnedFd>),
}

fn become_program(channel: &mut UnixStream) -> Step<Done> {
    let ordered = receive(channel).map_err(|error| StartFault::new("receive", "order", &error))?;
    let (order, fds) = match ordered {
        Ordered::Program(order, fds) => (order, fds),
        Ordered::Probe => {
            let answer = ProbeAnswer { helper: VERSION.to_owned() };
            let line = serde_json::to_vec(&answer).unwrap_or_default();
            channel.write_all(&line).map_err(|error| StartFault::new("helper", "report", &error))?;
            return Ok(Done);
        }
        Ordered::Closer(parked) => {
            default_signals().map_err(|error| StartFault::new("helper", "signal mask", &error))?;
            // Whoever would read of a failure sees that the process is gone.
            let _ = super::closer::serve(channel, &parked);
            return Ok(Done);
        }
    };
    default_signals().map_err(|error| StartFault::new("helper", "signal mask", &error))?;
    place_fds(channel, fds, &order.targets)?;
    let spec = &order.spec;
    surroundings(spec)?;
    let watched = |error: io::Error| StartFault::new("parent", "watch for the end of the supervisor", &error);
    if let Some(signal) = spec.parent_death_signal {
        parent_death::before_identity(order.parent, signal).map_err(watched)?;
    }
    if let Some(identity) = &spec.identity {
        identity::assume(identity)?;
    }
    std::env::set_current_dir(&spec.directory)
        .map_err(|error| StartFault::new("directory", spec.directory.display(), &error))?;
    if spec.no_new_privileges {
        no_new_privileges().map_err(|error| StartFault::new("privileges", "no_new_privileges", &error))?;
    }
    let (program, arguments, environment) = strings(spec)?;
    die_with_parent(&order)?;
    let mut line = serde_json::to_vec(EXECUTING).unwrap_or_default();
    line.push(b'\n');
    channel.write_all(&line).map_err(|error| StartFault::new("helper", "report", &error))?;
    let Err(errno) = nix::unistd::execve(&program, &arguments, &environment);
    let mut fault = StartFault::new("exec", spec.program.display(), &errno.into());
    if let Some(why) = script::why_not(&spec.program, errno) {
        fault.reason = format!("{}: {why}", spec.program.display());
    }
    Err(fault)
}

#[cfg(target_os = "linux")]
fn no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

#[cfg(target_os = "macos")]
fn no_new_privileges() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads the order. Never more bytes at once than belong together: a plain read that meets a message with
/// fds throws them away.
fn receive(channel: &mut UnixStream) -> io::Result<Ordered> {
    let mut header = [0; 8];
    channel.read_exact(&mut header)?;
    let (length, count) = parse_header(header);
    if length > ORDER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut fds = Vec::new();
    while fds.len() < count as usize {
        let mut byte = [0];
        let message = passing::receive(channel.as_fd(), &mut byte)?;
        if message.fds_lost {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        if message.length == 0 || byte != [FDS_BYTE] || message.fds.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fds.extend(message.fds);
    }
    let mut order = vec![0; length as usize];
    channel.read_exact(&mut order)?;
    let OrderVersion { version, probe, closer } = serde_json::from_slice(&order)?;
    if probe {
        return Ok(Ordered::Probe);
    }
    if version != VERSION {
        let reason = format!(
            "handover's own program was replaced: version {version} runs and {VERSION} is installed; restart handover"
        );
        return Err(io::Error::other(reason));
    }
    if closer {
        return fds.pop().map(Ordered::Closer).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    let order: Order = serde_json::from_slice(&order)?;
    if fds.len() != order.targets.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Ordered::Program(Box::new(order), fds))
}

/// Default dispositions and an empty mask, whatever our parent was started with.
fn default_signals() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    (1..=libc::SIGRTMAX()).for_each(crate::os::linux::default_signal);
    #[cfg(target_os = "macos")]
    for signal in 1..=SIGNALS_MAX {
        // SAFETY: the default disposition runs no code of ours. KILL and STOP are refused, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

fn place_fds(channel: &mut UnixStream, fds: Vec<OwnedFd>, targets: &[i32]) -> Step<()> {
    let failed = |error: io::Error| {
        let highest = targets.iter().max().copied().unwrap_or(0);
        StartFault::new("fds", format_args!("{} fds up to number {highest}", targets.len()), &error)
    };
    let kept = place(fds, targets, channel.as_fd()).map_err(failed)?;
    // This closes number 0, which /dev/null then gets.
    *channel = UnixStream::from(kept);
    let null =
        std::fs::File::open("/dev/null").map_err(|error| StartFault::new("fds", "/dev/null", &error))?;
    fd::place(null.into(), 0).map_err(failed)
}

fn surroundings(spec: &StartSpec) -> Step<()> {
    for limit in &spec.limits {
        limit.apply().map_err(|error| StartFault::new("limits", limit.resource, &error))?;
    }
    if let Some(nice) = spec.nice {
        // SAFETY: three numbers; 0 is this process.
        let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        nix::errno::Errno::result(done)
            .map_err(|errno| StartFault::new("nice", format_args!("niceness {nice}"), &errno.into()))?;
    }
    if let Some(mask) = spec.umask {
        umask(Mode::from_bits_truncate(libc::mode_t::try_from(mask).unwrap_or(0)));
    }
    Ok(())
}

/// Asks for the signal, then looks whether the parent was gone before it could count.
fn die_with_parent(order: &Order) -> Step<()> {
    let Some(signal) = order.spec.parent_death_signal else { return Ok(()) };
    parent_death::after_identity(signal)
        .map_err(|error| StartFault::new("parent", format_args!("parent-death signal {signal}"), &error))?;
    if std::os::unix::process::parent_id() == order.parent {
        return Ok(());
    }
    Err(StartFault { stage: "parent".into(), errno: None, reason: "the supervisor is gone".into() })
}

type Strings = (CString, Vec<CString>, Vec<CString>);

/// What `execve` wants, with the variables that only this process can know.
fn strings(spec: &StartSpec) -> Step<Strings> {
    let text = |text: &OsStr| {
        CString::new(text.as_bytes())
            .map_err(|error| StartFault::new("exec", text.to_string_lossy(), &error.into()))
    };
    let mut own: Vec<(&str, String)> = Vec::new();
    let pid = std::process::id();
    if spec.listen_pid {
        own.push(("LISTEN_PID", pid.to_string()));
        #[cfg(target_os = "linux")]
        if let Some(inode) = crate::os::process::own_inode() {
            own.push(("LISTEN_PIDFDID", inode.to_string()));
        }
    }
    if spec.watchdog_pid {
        own.push(("WATCHDOG_PID", pid.to_string()));
    }
    // Stale ones name another process; a reader would take nothing for its own.
    const OURS: [&str; 3] = ["LISTEN_PID", "LISTEN_PIDFDID", "WATCHDOG_PID"];
    let given = spec.environment.iter().filter(|(name, _)| !OURS.iter().any(|ours| name == ours));
    let variable = |name: &OsStr, value: &OsStr| {
        let mut both = OsString::from(name);
        both.push("=");
        both.push(value);
        text(&both)
    };
    let environment = given
        .map(|(name, value)| variable(name, value))
        .chain(own.iter().map(|(name, value)| variable(OsStr::new(name), OsStr::new(value))))
        .collect::<Step<Vec<_>>>()?;
    let arguments = spec.arguments.iter().map(|argument| text(argument)).collect::<Step<Vec<_>>>()?;
    Ok((text(spec.program.as_os_str())?, arguments, environment))
}

#[cfg(test)]
mod tests {
    use super::super::spec::header;
    use super::*;

    #[test]
    fn an_order_of_another_version_is_refused_whatever_else_it_says() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let order = br#"{"version":"0.0.1","news":[]}"#;
        ours.write_all(&header(u32::try_from(order.len()).unwrap(), 0)).unwrap();
        ours.write_all(order).unwrap();
        let refused = receive(&mut theirs).map(drop).unwrap_err().to_string();
        assert!(refused.contains("version 0.0.1 runs") && refused.ends_with("restart handover"), "{refused}");
    }
}

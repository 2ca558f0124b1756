//! Sockets that the service manager passes: `sd_listen_fds(3)`.
//!
//! The environment and every fd are checked first, by the rules of systemd's own `sd-daemon.c`: the
//! variables must be meant for this process, every fd must be open, names must match the count. Only then
//! are the sockets taken, by the `listenfd` crate where it knows the kind (`docs/decisions` says where it
//! does not). Call it while the process has one thread, before the runtime.

use std::ffi::{OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};

use listenfd::ListenFd;

use super::inherited::Inherited;
use crate::os::environment::Activation;
use crate::os::socket::{Facts, Family, Kind};
use crate::os::{fd, threads};

/// The first fd that is passed, where nothing else says so.
const FIRST: RawFd = 3;
/// More than any service manager passes, and fewer than would make trouble.
const FDS_MAX: usize = 65_536;

/// What was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// `LISTEN_FDS`
    #[error("LISTEN_FDS={0:?} is not a number of fds")]
    Count(String),
    /// `LISTEN_FDS_FIRST_FD`
    #[error("LISTEN_FDS_FIRST_FD={0:?} is not the number of an fd from 3 up")]
    First(String),
    /// `LISTEN_PID`
    #[error("LISTEN_PID={0:?} is not the number of a process")]
    Pid(String),
    /// Other threads run already.
    #[error("inherited sockets can only be taken before the first thread is started")]
    Threads,
    /// An fd that is not there.
    #[error("LISTEN_FDS={count}, but fd {fd} is not open")]
    Closed {
        /// How many were announced.
        count: usize,
        /// The first that is missing.
        fd: RawFd,
    },
    /// `LISTEN_FDNAMES`
    #[error("LISTEN_FDNAMES has {names} names for {count} fds")]
    Names {
        /// How many names.
        names: usize,
        /// How many fds.
        count: usize,
    },
    /// An fd that cannot be taken over.
    #[error("inherited fd {fd} ({name:?}): {reason}")]
    Fd {
        /// Its number.
        fd: RawFd,
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
}

/// Takes every socket that was passed to this process, or none where the variables are meant for another
/// one. `pidfd_inode` is what identifies us beside the pid, where the kernel has that.
///
/// # Errors
/// [`ActivationError`]
pub fn take(
    activation: &Activation,
    pid: u32,
    pidfd_inode: Option<u64>,
) -> Result<Vec<Inherited>, ActivationError> {
    if receiver(activation)? != Some(pid) || is_of_another_life(activation, pidfd_inode) {
        return Ok(Vec::new());
    }
    let count = count(activation)?;
    let first = first(activation)?;
    let names = names(activation, count)?;
    for number in numbers(first, count) {
        if !fd::is_open(number) {
            return Err(ActivationError::Closed { count, fd: number });
        }
    }
    if !has_one_thread() {
        return Err(ActivationError::Threads);
    }
    let mut passed = ListenFd::from_env();
    numbers(first, count)
        .zip(names)
        .enumerate()
        .map(|(index, (fd, name))| take_one(&mut passed, index, fd, name))
        .collect()
}

fn numbers(first: RawFd, count: usize) -> impl Iterator<Item = RawFd> {
    (first..).take(count)
}

/// The process that sockets were passed to, if any were.
///
/// # Errors
/// [`ActivationError::Pid`]
pub fn receiver(activation: &Activation) -> Result<Option<u32>, ActivationError> {
    let (Some(_), Some(pid)) = (&activation.fds, &activation.pid) else { return Ok(None) };
    let number = pid.to_str().and_then(|text| text.parse().ok()).filter(|pid| *pid > 0);
    number.map(Some).ok_or_else(|| ActivationError::Pid(pid.to_string_lossy().into_owned()))
}

/// `LISTEN_PIDFDID` must be ours, where both sides know it (systemd 258): it tells two lives of one number apart.
fn is_of_another_life(activation: &Activation, pidfd_inode: Option<u64>) -> bool {
    let for_inode: Option<u64> = text(&activation.pidfd_inode).and_then(|text| text.parse().ok());
    for_inode.zip(pidfd_inode).is_some_and(|(theirs, ours)| theirs != ours)
}

fn text(variable: &Option<OsString>) -> Option<&str> {
    variable.as_deref().and_then(OsStr::to_str)
}

fn count(activation: &Activation) -> Result<usize, ActivationError> {
    let text = text(&activation.fds).unwrap_or_default();
    let count = text.parse().ok().filter(|count| *count <= FDS_MAX);
    count.ok_or_else(|| ActivationError::Count(text.to_owned()))
}

/// `LISTEN_FDS_FIRST_FD`, which `systemfd` sets and `listenfd` honours.
fn first(activation: &Activation) -> Result<RawFd, ActivationError> {
    let Some(first) = text(&activation.first_fd) else { return Ok(FIRST) };
    let number = first.parse().ok().filter(|number| *number >= FIRST);
    number.ok_or_else(|| ActivationError::First(first.to_owned()))
}

/// `listenfd` takes variables out of the environment, which no other thread may be reading then.
fn has_one_thread() -> bool {
    threads::count().is_none_or(|count| count == 1)
}

fn names(activation: &Activation, count: usize) -> Result<Vec<String>, ActivationError> {
    let Some(text) = text(&activation.names) else {
        return Ok(vec!["unknown".to_owned(); count]);
    };
    let names: Vec<String> = text.split(':').map(str::to_owned).collect();
    if names.len() == count || (count == 0 && text.is_empty()) {
        return Ok(names);
    }
    Err(ActivationError::Names { names: names.len(), count })
}

fn take_one(
    passed: &mut ListenFd,
    index: usize,
    fd: RawFd,
    name: String,
) -> Result<Inherited, ActivationError> {
    let fault = |reason: String| ActivationError::Fd { fd, name: name.clone(), reason };
    let facts = fd::facts_of(fd).map_err(|error| fault(not_a_socket(&error)))?;
    let socket = take_typed(passed, index, fd, &facts).map_err(|error| fault(error.to_string()))?;
    let socket = socket.ok_or_else(|| fault("not a kind of socket that handover can hold".to_owned()))?;
    Ok(Inherited::new(name, socket, facts))
}

fn not_a_socket(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOTSOCK) => "not a socket".to_owned(),
        _ => error.to_string(),
    }
}

/// Typed, so that it is close-on-exec and has an owner from here on.
fn take_typed(
    passed: &mut ListenFd,
    index: usize,
    fd: RawFd,
    facts: &Facts,
) -> std::io::Result<Option<OwnedFd>> {
    Ok(match (facts.family, facts.kind) {
        (Family::Inet, Kind::Stream) => passed.take_tcp_listener(index)?.map(OwnedFd::from),
        (Family::Inet, Kind::Datagram) => passed.take_udp_socket(index)?.map(OwnedFd::from),
        (Family::Unix, Kind::Stream) => passed.take_unix_listener(index)?.map(OwnedFd::from),
        (Family::Unix, Kind::Datagram) => passed.take_unix_datagram(index)?.map(OwnedFd::from),
        // listenfd has no type for it, and would give a number without an owner.
        (Family::Unix, Kind::SeqPacket) => Some(fd::take_inherited(fd)?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(fds: &str, pid: &str) -> Activation {
        Activation { fds: Some(fds.into()), pid: Some(pid.into()), ..Activation::default() }
    }

    #[test]
    fn variables_for_another_process_are_not_for_us() {
        assert!(take(&passed("1", "8"), 7, None).unwrap().is_empty());
        let nobodys = Activation { pid: None, ..passed("1", "7") };
        assert!(take(&nobodys, 7, None).unwrap().is_empty());
        let none = Activation { fds: None, ..passed("1", "nobody") };
        assert!(take(&none, 7, None).unwrap().is_empty(), "nothing was passed");
        let other_life = Activation { pidfd_inode: Some("1000".into()), ..passed("1", "7") };
        assert!(take(&other_life, 7, Some(2000)).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_so_is_refused_before_anything_is_taken() {
        let refused = |activation| take(&activation, 7, None).unwrap_err().to_string();
        assert_eq!(refused(passed("many", "7")), "LISTEN_FDS=\"many\" is not a number of fds");
        assert_eq!(refused(passed("-1", "7")), "LISTEN_FDS=\"-1\" is not a number of fds");
        assert_eq!(refused(passed("99999999", "7")), "LISTEN_FDS=\"99999999\" is not a number of fds");
        for pid in ["", "self", "-7", "0", "7 ", "4294967296"] {
            assert_eq!(
                refused(passed("1", pid)),
                format!("LISTEN_PID={pid:?} is not the number of a process")
            );
        }
        let one_name = Activation { names: Some("http".into()), ..passed("2", "7") };
        assert_eq!(refused(one_name), "LISTEN_FDNAMES has 1 names for 2 fds");
        assert!(refused(passed("60000", "7")).ends_with("is not open"));
        let low = Activation { first_fd: Some("2".into()), ..passed("1", "7") };
        assert_eq!(refused(low), "LISTEN_FDS_FIRST_FD=\"2\" is not the number of an fd from 3 up");
    }
}

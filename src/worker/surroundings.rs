//! What the process was started with: under handover, under plain socket activation, or by hand. Read once.
//!
//! The fds are this process's alone from here on: owned, close-on-exec, and out of the environment.

use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::Error;
use super::notify::Notify;
use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
use crate::os::handed;
use crate::os::kind::{Family, Type, kind};
use crate::wire::HandoverHello;

/// The first fd that is passed (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;
/// More than any service manager passes, and fewer than would make trouble.
const FDS_MAX: usize = 65_536;
/// What names fds. `NOTIFY_SOCKET` and `WATCHDOG_USEC` name none, and other libraries of the program may want them.
const TAKEN: [&str; 5] = ["HANDOVER_CHANNEL", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// Which worker this process is: `HANDOVER_NAME` and its like.
///
/// ```no_run
/// # fn main() -> Result<(), handover::worker::Error> {
/// let worker = handover::worker::Worker::connect()?;
/// if let Some(me) = worker.identity() {
///     println!("worker {} in slot {} of pool {}", me.worker, me.slot, me.pool);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The daemon's `name`.
    pub name: String,
    /// The pool.
    pub pool: PoolName,
    /// The place in the pool, from 0; the next worker in it has the same.
    pub slot: SlotIndex,
    /// The revision of configuration and program.
    pub generation: Generation,
    /// The number of this worker, which no other will have.
    pub worker: WorkerId,
}

impl Identity {
    pub(super) fn of(hello: &HandoverHello) -> Self {
        Self {
            name: hello.name.clone(),
            pool: hello.pool.clone(),
            slot: hello.slot,
            generation: hello.generation,
            worker: hello.worker,
        }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// handover's end may be closed, or speak another version: that shows later.
    pub(super) channel: Option<UnixStream>,
    /// `LISTEN_FDS` with their names.
    pub(super) passed: Vec<(String, OwnedFd)>,
    /// `NOTIFY_SOCKET`
    pub(super) notify: Option<Notify>,
    /// `WATCHDOG_USEC`
    pub(super) watchdog: Option<Duration>,
    /// `HANDOVER_NAME` and its like.
    pub(super) identity: Option<Identity>,
}

impl Surroundings {
    /// Takes what there is; the second call is an error.
    pub(super) fn take() -> Result<Self, Error> {
        static TAKEN_BEFORE: AtomicBool = AtomicBool::new(false);
        if TAKEN_BEFORE.swap(true, Ordering::SeqCst) {
            return Err(Error::ConnectedBefore);
        }
        let identity = identity();
        // First, so that none of them is taken for a channel.
        let passed = passed(identity.is_some())?;
        let surroundings = Self {
            channel: channel(),
            passed,
            notify: std::env::var_os("NOTIFY_SOCKET").and_then(|address| Notify::at(&address)),
            watchdog: watchdog(),
            identity,
        };
        if surroundings.channel.is_some() || !surroundings.passed.is_empty() {
            handed::forget(&TAKEN);
        }
        Ok(surroundings)
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

fn identity() -> Option<Identity> {
    Some(Identity {
        name: std::env::var("HANDOVER_NAME").ok()?,
        pool: PoolName::new(std::env::var("HANDOVER_POOL").ok()?),
        slot: SlotIndex(number("HANDOVER_SLOT")?),
        generation: Generation(number("HANDOVER_GENERATION")?),
        worker: WorkerId(number("HANDOVER_WORKER")?),
    })
}

/// A variable that was inherited through a program that closed the fd names something else, or nothing.
fn channel() -> Option<UnixStream> {
    let number = number("HANDOVER_CHANNEL")?;
    let fd = handed::take_if(number, |fd| kind(fd).is_ok_and(|kind| kind == (Family::Unix, Type::Stream)))?;
    Some(UnixStream::from(fd))
}

fn passed(is_handovers: bool) -> Result<Vec<(String, OwnedFd)>, Error> {
    let Ok(said) = std::env::var("LISTEN_FDS") else { return Ok(Vec::new()) };
    if !is_for_us(is_handovers) {
        return Ok(Vec::new());
    }
    let wrong = |what: String| Err(Error::Environment(what));
    let Some(count) = said.parse::<usize>().ok().filter(|count| *count <= FDS_MAX) else {
        return wrong(format!("LISTEN_FDS={said:?} is not a number of fds"));
    };
    let names: Vec<String> = match std::env::var("LISTEN_FDNAMES") {
        Ok(names) if count > 0 => names.split(':').map(str::to_owned).collect(),
        _ => vec!["unknown".to_owned(); count],
    };
    if names.len() != count {
        return wrong(format!("LISTEN_FDNAMES has {} names for {count} fds", names.len()));
    }
    let mut all = Vec::new();
    for (fd, name) in (FIRST..).zip(names) {
        match handed::take(fd) {
            Ok(taken) => all.push((name, taken)),
            Err(error) => return wrong(format!("LISTEN_FDS={count}, and fd {fd} cannot be taken: {error}")),
        }
    }
    Ok(all)
}

/// As `sd_listen_fds(3)`: `LISTEN_PID` must be ours, and `LISTEN_PIDFDID`, where both sides know it. With `listen_pid = false` handover leaves
/// the first out.
fn is_for_us(is_handovers: bool) -> bool {
    let is_ours = match std::env::var("LISTEN_PID") {
        Ok(pid) => pid.parse() == Ok(std::process::id()),
        Err(_) => is_handovers,
    };
    let inode: Option<u64> = number("LISTEN_PIDFDID");
    is_ours && inode.zip(handed::own_pidfd_inode()).is_none_or(|(theirs, ours)| theirs == ours)
}

/// As `sd_watchdog_enabled(3)`.
fn watchdog() -> Option<Duration> {
    let is_ours = match std::env::var("WATCHDOG_PID") {
        Ok(pid) => pid.parse() == Ok(std::process::id()),
        Err(_) => true,
    };
    let usec = number("WATCHDOG_USEC").filter(|usec| (1..u64::MAX).contains(usec))?;
    is_ours.then(|| Duration::from_micros(usec))
}

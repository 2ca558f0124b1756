//! What the environment says, read once as a value; and the one place that takes variables out of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;

/// The environment of this process when it was read, in three parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Socket activation.
    pub activation: Activation,
    /// What the service manager wants to hear.
    pub manager: Manager,
    /// Everything else.
    pub rest: BTreeMap<OsString, OsString>,
}

/// `sd_listen_fds(3)`, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activation {
    /// `LISTEN_PID`: the process that the fds are for.
    pub pid: Option<OsString>,
    /// `LISTEN_FDS`: how many.
    pub fds: Option<OsString>,
    /// `LISTEN_FDNAMES`: their names, separated by colons.
    pub names: Option<OsString>,
    /// `LISTEN_PIDFDID`: the inode of that process's pidfd (systemd 258).
    pub pidfd_inode: Option<OsString>,
    /// `LISTEN_FDS_FIRST_FD`: the number of the first, where that is not 3 (`systemfd`).
    pub first_fd: Option<OsString>,
}

/// `sd_notify(3)` and `sd_watchdog_enabled(3)`, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// `NOTIFY_SOCKET`
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`
    pub watchdog_usec: Option<OsString>,
    /// `WATCHDOG_PID`
    pub watchdog_pid: Option<OsString>,
}

const NAMES: [&str; 8] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "LISTEN_FDS_FIRST_FD",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

impl Environment {
    /// Reads the environment, and changes nothing.
    pub fn read() -> Self {
        Self::sort(std::env::vars_os().collect())
    }

    fn sort(mut rest: BTreeMap<OsString, OsString>) -> Self {
        let mut take = |name: &str| rest.remove(std::ffi::OsStr::new(name));
        let activation = Activation {
            pid: take("LISTEN_PID"),
            fds: take("LISTEN_FDS"),
            names: take("LISTEN_FDNAMES"),
            pidfd_inode: take("LISTEN_PIDFDID"),
            first_fd: take("LISTEN_FDS_FIRST_FD"),
        };
        let manager = Manager {
            notify_socket: take("NOTIFY_SOCKET"),
            watchdog_usec: take("WATCHDOG_USEC"),
            watchdog_pid: take("WATCHDOG_PID"),
        };
        Self { activation, manager, rest }
    }
}

/// Takes the variables of [`Activation`] and [`Manager`] out of the environment: they are for this process
/// alone, and nobody that it starts may see them.
///
/// # Errors
/// Where this process has more than one thread: another might be reading the environment.
pub fn forget_activation() -> io::Result<()> {
    require_one_thread()?;
    for name in NAMES {
        // SAFETY: there is no other thread that could read or write the environment meanwhile.
        #[expect(clippy::disallowed_methods, reason = "this is the place that takes variables out")]
        unsafe {
            std::env::remove_var(name)
        };
    }
    Ok(())
}

/// Says whether changing the environment is sound now.
///
/// # Errors
/// Where this process has more than one thread.
pub(crate) fn require_one_thread() -> io::Result<()> {
    if cfg!(target_os = "linux") && std::fs::read_dir("/proc/self/task")?.count() != 1 {
        let text = "the environment can only be changed before the first thread is started";
        return Err(io::Error::other(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_taken_apart() {
        let all = [("LISTEN_FDS", "1"), ("WATCHDOG_PID", "7"), ("HOME", "/root"), ("LISTEN_PIDFDID", "9")];
        let environment = Environment::sort(all.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect());
        assert_eq!(environment.activation.fds, Some("1".into()));
        assert_eq!(environment.activation.pidfd_inode, Some("9".into()));
        assert_eq!(environment.activation.pid, None);
        assert_eq!(environment.manager.watchdog_pid, Some("7".into()));
        assert_eq!(environment.rest, BTreeMap::from([("HOME".into(), "/root".into())]));
    }

    #[test]
    fn with_other_threads_nothing_is_taken_out() {
        // The test harness has started this one.
        assert!(forget_activation().is_err());
    }
}

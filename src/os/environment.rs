//! What the environment says, read once as a value and sorted by whom it is for.
//!
//! Nothing is taken out of it: workers get an environment that is made from this value, and nothing else is
//! started. (`listenfd` removes the two variables that it reads, while there is one thread.)

use std::collections::BTreeMap;
use std::ffi::OsString;

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
}

//! What a worker that starts has not done yet, and the ways out: for the log, `status`, and the hint of a failed start.
//!
//! Pure.

use std::fmt;

use crate::config::model::Ready;

/// How a worker becomes ready, and what of that is done.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Readiness {
    pub(in crate::daemon) mode: Ready,
    /// Its pool's sockets, in the order of its fds.
    pub(in crate::daemon) sockets: Vec<Socket>,
    /// Something that counts came through its notify socket, or it said `ready` on its channel.
    pub(in crate::daemon) has_notified: bool,
    /// It speaks on its channel.
    pub(in crate::daemon) has_said_hello: bool,
    /// It closed its ready fd without a newline.
    pub(in crate::daemon) ready_fd_closed: bool,
    /// What another process wrote to its notify socket.
    pub(in crate::daemon) stranger: Option<Stranger>,
    /// Why nobody can see whether it waits on its sockets.
    pub(in crate::daemon) obstacle: Option<String>,
}

/// A socket that a worker is to wait on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Socket {
    /// `http (fd 3, tcp://0.0.0.0:80)`
    pub(in crate::daemon) label: String,
    /// One of its processes was seen to.
    pub(in crate::daemon) waited_on: bool,
}

/// A process whose notification does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Stranger {
    /// 0: in a pid namespace that we cannot see into.
    pub(in crate::daemon) pid: i32,
    pub(in crate::daemon) uid: u32,
    /// As the kernel shows it; `None`: it is gone.
    pub(in crate::daemon) name: Option<String>,
    /// It was `READY=1`.
    pub(in crate::daemon) says_ready: bool,
    /// Why it does not count.
    pub(in crate::daemon) why: String,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new(Ready::Notify, Vec::new())
    }
}

impl Readiness {
    pub(in crate::daemon) fn new(mode: Ready, labels: Vec<String>) -> Self {
        let sockets = labels.into_iter().map(|label| Socket { label, waited_on: false }).collect();
        Self {
            mode,
            sockets,
            has_notified: false,
            has_said_hello: false,
            ready_fd_closed: false,
            stranger: None,
            obstacle: None,
        }
    }

    /// `READY=1` makes it ready, or `ready` on its channel.
    pub(in crate::daemon) fn by_notify(&self) -> bool {
        self.mode == Ready::Notify
    }

    /// Is what a stranger wrote to be kept? The first is, unless a later one is `READY=1`.
    pub(in crate::daemon) fn wants(&self, says_ready: bool) -> bool {
        self.stranger.as_ref().is_none_or(|known| says_ready && !known.says_ready)
    }

    /// What is waited for: a noun, and what is known of it.
    pub(in crate::daemon) fn missing(&self) -> String {
        match self.mode {
            Ready::Notify => self.missing_word(),
            Ready::Exec => "the end of its bake_time".to_owned(),
            Ready::Accept => {
                let unseen = self.sockets.iter().filter(|socket| !socket.waited_on);
                let unseen: Vec<_> = unseen.map(|socket| socket.label.as_str()).collect();
                format!("a process of it that waits on listener {}", unseen.join(", "))
            }
            Ready::Fd(fd) if self.ready_fd_closed => {
                format!("a newline on fd {fd} (ready_fd): it closed that fd without one")
            }
            Ready::Fd(fd) => format!("a newline on fd {fd} (ready_fd)"),
        }
    }

    fn missing_word(&self) -> String {
        match &self.stranger {
            Some(stranger) if stranger.says_ready => format!("READY=1: {stranger}"),
            _ if self.has_said_hello => {
                "`ready` on its channel: it said hello there, but not that it is ready".to_owned()
            }
            _ if self.has_notified => "READY=1: it wrote to NOTIFY_SOCKET, but not that".to_owned(),
            Some(stranger) => format!("READY=1: {stranger}"),
            None => "READY=1: it never wrote to NOTIFY_SOCKET".to_owned(),
        }
    }

    /// What a person can do about it.
    pub(in crate::daemon) fn way_out(&self) -> String {
        let unseen =
            "set ready = \"accept\" (it waits on its listeners) or \"exec\" (it stays for bake_time)";
        let others =
            if self.sockets.is_empty() { "set ready = \"exec\" (it stays for bake_time)" } else { unseen };
        match self.mode {
            Ready::Notify if self.stranger.as_ref().is_some_and(|stranger| stranger.says_ready) => {
                format!("send READY=1 from a process of the worker's own process group, or {others}")
            }
            Ready::Notify if self.has_said_hello => {
                format!("say that it is ready on the channel when it can serve, or {others}")
            }
            Ready::Notify => format!("send READY=1 when it can serve (sd_notify), or {others}"),
            Ready::Exec => "shorten bake_time if that is too long".to_owned(),
            Ready::Accept => {
                let or = "set ready = \"notify\" (it sends READY=1) or \"exec\" (it stays for bake_time)";
                let bind = "this program must accept on the fds from 3 on ($LISTEN_FDS), not bind";
                format!("if it is not only slow: {bind}; or {or}")
            }
            Ready::Fd(_) => format!("write a newline to that fd when it can serve, or {others}"),
        }
    }

    /// The same for one that was given up.
    pub(in crate::daemon) fn hint(&self) -> String {
        format!("it waited for {}; {}; if it is slow, raise start_timeout", self.missing(), self.way_out())
    }

    /// What is said of one whose readiness cannot be seen.
    pub(in crate::daemon) fn by_bake_time(&self) -> Option<String> {
        self.obstacle.as_ref().map(|why| format!("ready by bake_time alone: {why}"))
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, uid, name, says_ready, why } = self;
        let what = if *says_ready { "sent it" } else { "wrote to NOTIFY_SOCKET" };
        match (name, pid) {
            (_, ..=0) => write!(f, "a process of uid {uid} {what}")?,
            (Some(name), _) => write!(f, "pid {pid} ({name}, uid {uid}) {what}")?,
            (None, _) => write!(f, "pid {pid} (uid {uid}) {what}")?,
        }
        write!(f, ", which does not count: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mode: Ready, change: impl FnOnce(&mut Readiness)) -> Readiness {
        let mut readiness =
            Readiness::new(mode, vec!["http (fd 3, tcp://[::]:80)".into(), "admin (fd 4, @a)".into()]);
        change(&mut readiness);
        readiness
    }

    fn stranger(pid: i32, says_ready: bool) -> Stranger {
        let (name, why) = (Some("systemd-notify".into()), "sender outside the worker's process group".into());
        Stranger { pid, uid: 33, name, says_ready, why }
    }

    #[test]
    fn what_is_missing_fits_the_way_in_which_the_worker_was_to_become_ready() {
        let said = |mode, change: fn(&mut Readiness)| with(mode, change).missing();
        assert_eq!(said(Ready::Notify, |_| ()), "READY=1: it never wrote to NOTIFY_SOCKET");
        assert!(said(Ready::Notify, |r| r.has_notified = true).contains("but not that"));
        assert!(said(Ready::Notify, |r| r.has_said_hello = true).starts_with("`ready` on its channel"));
        assert_eq!(said(Ready::Fd(7), |_| ()), "a newline on fd 7 (ready_fd)");
        assert!(said(Ready::Fd(7), |r| r.ready_fd_closed = true).ends_with("without one"));
        let one = said(Ready::Accept, |r| r.sockets[0].waited_on = true);
        assert_eq!(one, "a process of it that waits on listener admin (fd 4, @a)");
    }

    #[test]
    fn who_wrote_and_why_it_did_not_count_is_said() {
        let mut readiness = with(Ready::Notify, |readiness| readiness.has_notified = true);
        for (pid, says_ready) in [(7, false), (8, true), (9, true)] {
            if readiness.wants(says_ready) {
                readiness.stranger = Some(stranger(pid, says_ready));
            }
        }
        let said = "READY=1: pid 8 (systemd-notify, uid 33) sent it, which does not count: \
                    sender outside the worker's process group";
        assert_eq!(readiness.missing(), said);
        assert!(readiness.way_out().contains("own process group"));
        let other = with(Ready::Notify, |readiness| {
            readiness.stranger = Some(Stranger { name: None, ..stranger(7, false) });
        });
        assert!(other.missing().contains("pid 7 (uid 33) wrote to NOTIFY_SOCKET"), "{}", other.missing());
    }

    #[test]
    fn two_ways_out_are_named_and_none_that_is_none() {
        for mode in [Ready::Notify, Ready::Fd(7)] {
            let hint = with(mode, |_| ()).hint();
            assert!(hint.contains("\"accept\"") && hint.contains("\"exec\""), "{hint}");
            let hint = with(mode, |readiness| readiness.sockets.clear()).hint();
            assert!(!hint.contains("\"accept\"") && hint.contains("\"exec\""), "{hint}");
        }
        let hint = with(Ready::Accept, |_| ()).hint();
        assert!(hint.contains("\"notify\"") && hint.contains("fds from 3 on"), "{hint}");
    }
}

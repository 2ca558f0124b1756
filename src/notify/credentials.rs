//! Is a datagram in a worker's notify socket to be believed?
//!
//! Pure: the socket's file is writable for everyone (a program that drops its privileges must still be able to
//! write), so the kernel's word on the sender (`SCM_CREDENTIALS`, `unix(7)`) decides. It counts if it names the
//! worker, a process of the worker's process group, or a process that is gone by now and ran as the worker's
//! user: `systemd-notify` in a script ends before anybody can look at it.
//!
//! macOS says nothing of a datagram's sender. There every datagram is believed without being judged here, and who
//! may send is for the socket's path to keep: nobody can guess it or list its directory.

/// What `SCM_CREDENTIALS` says of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its process number as we see it; 0 if it lives in a pid namespace that we cannot see into.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// The worker whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerProcess {
    /// Its main process, which also leads its process group.
    pub pid: i32,
    /// The user that it was started as.
    pub uid: u32,
}

/// What is known of the sender's process group (`getpgid(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// It is in this one.
    Is(i32),
    /// There is no such process any more (`ESRCH`).
    Gone,
    /// Nobody can say (another error).
    Unknown,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Believed,
    /// It is dropped and counted.
    Dropped(Distrust),
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distrust {
    /// It came without credentials.
    NoCredentials,
    /// The sender is in a pid namespace that we cannot see into.
    Invisible,
    /// The sender lives, and belongs to another process group.
    Stranger,
    /// The sender is gone, and ran as another user.
    GoneStranger,
}

impl Distrust {
    /// For the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no credentials",
            Self::Invisible => "sender outside this pid namespace",
            Self::Stranger => "sender outside the worker's process group",
            Self::GoneStranger => "sender gone, and not of the worker's user",
        }
    }
}

/// Decides on one datagram. `group_of` is asked at most once, and only for a process that is not the worker.
///
/// A worker that is the leader of its group keeps its number until the shell reaps it, so neither the number
/// of the worker nor that of its group can be another's while its socket is read.
pub fn judge(sender: Option<Sender>, worker: WorkerProcess, group_of: impl FnOnce(i32) -> Group) -> Verdict {
    let Some(sender) = sender else { return Verdict::Dropped(Distrust::NoCredentials) };
    if sender.pid <= 0 {
        return Verdict::Dropped(Distrust::Invisible);
    }
    if sender.pid == worker.pid {
        return Verdict::Believed;
    }
    match group_of(sender.pid) {
        Group::Is(group) if group == worker.pid => Verdict::Believed,
        Group::Gone if sender.uid == worker.uid => Verdict::Believed,
        Group::Gone => Verdict::Dropped(Distrust::GoneStranger),
        Group::Is(_) | Group::Unknown => Verdict::Dropped(Distrust::Stranger),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: WorkerProcess = WorkerProcess { pid: 100, uid: 33 };

    fn verdict(pid: i32, uid: u32, group: Group) -> Verdict {
        judge(Some(Sender { pid, uid }), WORKER, |_| group)
    }

    #[test]
    fn the_worker_is_believed_whatever_user_it_has_become() {
        let asked = judge(Some(Sender { pid: 100, uid: 65534 }), WORKER, |_| panic!("not needed"));
        assert_eq!(asked, Verdict::Believed);
    }

    #[test]
    fn a_process_of_its_group_is_believed() {
        assert_eq!(verdict(101, 0, Group::Is(100)), Verdict::Believed);
    }

    #[test]
    fn a_living_stranger_is_not_believed_even_with_the_same_user() {
        assert_eq!(verdict(101, 33, Group::Is(101)), Verdict::Dropped(Distrust::Stranger));
        assert_eq!(verdict(101, 0, Group::Is(1)), Verdict::Dropped(Distrust::Stranger));
        assert_eq!(verdict(101, 33, Group::Unknown), Verdict::Dropped(Distrust::Stranger));
    }

    #[test]
    fn a_process_that_is_gone_is_believed_only_with_the_workers_user() {
        assert_eq!(verdict(101, 33, Group::Gone), Verdict::Believed);
        assert_eq!(verdict(101, 34, Group::Gone), Verdict::Dropped(Distrust::GoneStranger));
    }

    #[test]
    fn who_cannot_be_seen_is_not_believed() {
        assert_eq!(judge(None, WORKER, |_| Group::Is(100)), Verdict::Dropped(Distrust::NoCredentials));
        assert_eq!(verdict(0, 33, Group::Gone), Verdict::Dropped(Distrust::Invisible));
        assert_eq!(verdict(-1, 33, Group::Is(100)), Verdict::Dropped(Distrust::Invisible));
    }
}

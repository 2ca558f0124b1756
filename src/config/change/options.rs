//! The options of one socket that stays: which are to be set, and which cannot be.
//!
//! The rules, seen on Linux 6.18 and in `tcp(7)`, `socket(7)`, `ipv6(7)`, `unix(7)`: `listen` again changes the
//! backlog; `SO_KEEPALIVE`, `TCP_NODELAY`, buffers and mark of a listening socket are what accepted sockets
//! begin with; `TCP_DEFER_ACCEPT` and `TCP_FASTOPEN` can be set while listening, 0 turns them off.
//! `IPV6_V6ONLY` after `bind` is EINVAL. A buffer that was set stays locked (`SO_BUF_LOCK`) and cannot go back
//! to the size that the system would give it. `O_NONBLOCK` belongs to all who share the socket.

use std::time::Duration;

use crate::config::model::{GroupId, SocketOptions, UserId};

/// One thing to set on a socket that is held; `None` is the system's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionChange {
    /// `listen` again.
    Backlog(Option<u32>),
    /// `TCP_DEFER_ACCEPT`; `None`: off.
    DeferAccept(Option<Duration>),
    /// `TCP_FASTOPEN`; `None`: off.
    FastOpen(Option<u32>),
    /// `SO_KEEPALIVE`
    Keepalive(bool),
    /// `TCP_NODELAY`
    Nodelay(bool),
    /// `SO_RCVBUF`, bytes.
    ReceiveBuffer(u32),
    /// `SO_SNDBUF`, bytes.
    SendBuffer(u32),
    /// `SO_MARK`; 0: none.
    Mark(u32),
    /// Owner and group of a Unix socket's file; `None`: handover's own.
    Owner(Option<UserId>, Option<GroupId>),
    /// The mode of a Unix socket's file; `None`: 0666.
    Mode(Option<u32>),
}

/// What is to be set, and which keys need a restart, with the reason.
pub(super) fn compare(
    old: &SocketOptions,
    new: &SocketOptions,
) -> (Vec<OptionChange>, Vec<(&'static str, &'static str)>) {
    (changes(old, new), fixed(old, new))
}

fn changes(old: &SocketOptions, new: &SocketOptions) -> Vec<OptionChange> {
    use OptionChange::{
        Backlog, DeferAccept, FastOpen, Keepalive, Mark, Mode, Nodelay, Owner, ReceiveBuffer, SendBuffer,
    };
    let changed = [
        (old.backlog != new.backlog).then_some(Backlog(new.backlog)),
        (old.defer_accept != new.defer_accept).then_some(DeferAccept(new.defer_accept)),
        (old.fast_open != new.fast_open).then_some(FastOpen(new.fast_open)),
        (old.keepalive != new.keepalive).then_some(Keepalive(new.keepalive.unwrap_or(false))),
        (old.nodelay != new.nodelay).then_some(Nodelay(new.nodelay.unwrap_or(false))),
        new.receive_buffer.filter(|_| old.receive_buffer != new.receive_buffer).map(ReceiveBuffer),
        new.send_buffer.filter(|_| old.send_buffer != new.send_buffer).map(SendBuffer),
        (old.mark != new.mark).then_some(Mark(new.mark.unwrap_or(0))),
        ((&old.user, &old.group) != (&new.user, &new.group))
            .then(|| Owner(new.user.clone(), new.group.clone())),
        (old.mode != new.mode).then_some(Mode(new.mode)),
    ];
    changed.into_iter().flatten().collect()
}

fn fixed(old: &SocketOptions, new: &SocketOptions) -> Vec<(&'static str, &'static str)> {
    const AT_BIND: &str = "it is fixed when the socket is bound";
    const UNSET: &str = "a buffer that was given a size cannot go back to the system's";
    let fixed = [
        ("v6only", old.v6only != new.v6only, AT_BIND),
        ("free_bind", old.free_bind != new.free_bind, AT_BIND),
        ("device", old.device != new.device, AT_BIND),
        (
            "nonblocking",
            old.nonblocking != new.nonblocking,
            "it belongs to all workers that share the socket",
        ),
        ("receive_buffer", old.receive_buffer.is_some() && new.receive_buffer.is_none(), UNSET),
        ("send_buffer", old.send_buffer.is_some() && new.send_buffer.is_none(), UNSET),
    ];
    fixed.into_iter().filter(|(_, changed, _)| *changed).map(|(key, _, why)| (key, why)).collect()
}

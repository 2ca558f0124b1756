//! The types of lines as a declaration: names, members, fds. The reader takes no member that is not declared here, and the tables of
//! the page are compared with it.

/// Whether lines of a type carry fds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Never.
    Nothing,
    /// If they wish.
    MayFds,
    /// Always at least one.
    Fds,
}

/// One type of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its `type`.
    pub name: &'static str,
    /// Its members beside `type`, `fds` among them where it carries any.
    pub members: &'static [&'static str],
    /// Whether it carries fds.
    pub carries: Carries,
    /// Whether it may be as long as [`LARGE_LINE_MAX`](super::limits::LARGE_LINE_MAX).
    pub is_large: bool,
}

impl Kind {
    /// A short one without fds.
    pub(super) const fn plain(name: &'static str, members: &'static [&'static str]) -> Self {
        Self { name, members, carries: Carries::Nothing, is_large: false }
    }

    /// A short one with fds.
    pub(super) const fn with_fds(name: &'static str, members: &'static [&'static str]) -> Self {
        Self { name, members, carries: Carries::Fds, is_large: false }
    }

    /// One with a payload, and fds if it wishes.
    pub(super) const fn large(name: &'static str, members: &'static [&'static str]) -> Self {
        Self { name, members, carries: Carries::MayFds, is_large: true }
    }

    /// How many bytes a line of it may have, its newline included.
    pub const fn limit(&self) -> usize {
        if self.is_large { super::limits::LARGE_LINE_MAX } else { super::limits::LINE_MAX }
    }
}

/// Every member of every type.
pub(super) const MEMBERS: [&str; 37] = [
    "type",
    "id",
    "re",
    "fds",
    "version",
    "versions",
    "capabilities",
    "client",
    "name",
    "pool",
    "slot",
    "generation",
    "worker",
    "text",
    "ms",
    "reason",
    "address",
    "to",
    "from",
    "data",
    "reply",
    "timeout_ms",
    "level",
    "message",
    "target",
    "fields",
    "error",
    "deadline_ms",
    "receivers",
    "refused",
    "handover",
    "cmd",
    "msg",
    "part",
    "parts",
    "key",
    "dgramType",
];

//! The texts that go up to the service manager.
//!
//! Pure. One [`Text`] is one datagram. The fields are written by `sd-notify`'s `NotifyState`, which names what a
//! manager understands; what that crate leaves to its caller is done here: no value can smuggle in a second
//! field, and a time may be longer than 71 minutes (its `ExtendTimeoutUsec` is a `u32`).

use std::time::Duration;

use sd_notify::NotifyState;

use crate::visible::is_hidden;

/// The longest status, in bytes; a longer one is cut at a character and ends in `…`.
pub const STATUS_MAX: usize = 1024;

/// What a datagram is for: decides what may be thrown away while the manager does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `READY=1`: never thrown away.
    Ready,
    /// `RELOADING=1`: never thrown away.
    Reloading,
    /// `STOPPING=1`: never thrown away.
    Stopping,
    /// `STATUS=` alone: only the newest is worth anything.
    Status,
    /// `EXTEND_TIMEOUT_USEC=`: only the newest is worth anything.
    ExtendTimeout,
    /// `WATCHDOG=1`: only the newest is worth anything.
    Watchdog,
}

impl Kind {
    /// A newer one of the same kind makes this one worthless.
    pub fn is_superseded_by_newer(self) -> bool {
        matches!(self, Self::Status | Self::ExtendTimeout | Self::Watchdog)
    }
}

/// One datagram for the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    kind: Kind,
    text: String,
}

impl Text {
    /// `READY=1`: started, or done reloading.
    pub fn ready() -> Self {
        Self::new(Kind::Ready, NotifyState::Ready)
    }

    /// `RELOADING=1` with `MONOTONIC_USEC=` in the same datagram, which systemd demands since 253.
    ///
    /// `monotonic_usec` is `CLOCK_MONOTONIC` in microseconds, read after the request came
    /// ([`monotonic_usec`](super::upward::monotonic_usec)).
    pub fn reloading(monotonic_usec: i128) -> Self {
        let mut text = Self::new(Kind::Reloading, NotifyState::Reloading);
        text.push(NotifyState::MonotonicUsec(monotonic_usec));
        text
    }

    /// `STOPPING=1`
    pub fn stopping() -> Self {
        Self::new(Kind::Stopping, NotifyState::Stopping)
    }

    /// `WATCHDOG=1`
    pub fn watchdog() -> Self {
        Self::new(Kind::Watchdog, NotifyState::Watchdog)
    }

    /// `STATUS=`: one line for people.
    pub fn status(status: &str) -> Self {
        Self::new(Kind::Status, NotifyState::Status(&one_line(status)))
    }

    /// `EXTEND_TIMEOUT_USEC=`: the start, reload or stop may take this much longer, counted from now.
    ///
    /// Between one microsecond and what fits: systemd ignores 0 and its "infinity" (all bits set).
    pub fn extend_timeout(by: Duration) -> Self {
        let usec = u64::try_from(by.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::MAX - 1);
        match u32::try_from(usec) {
            Ok(usec) => Self::new(Kind::ExtendTimeout, NotifyState::ExtendTimeoutUsec(usec)),
            Err(_) => {
                let field = format!("EXTEND_TIMEOUT_USEC={usec}");
                Self::new(Kind::ExtendTimeout, NotifyState::Custom(&field))
            }
        }
    }

    /// Adds a status, so that it changes in the same moment as the state.
    #[must_use]
    pub fn with_status(mut self, status: &str) -> Self {
        self.push(NotifyState::Status(&one_line(status)));
        self
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The datagram: newline-terminated fields.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn new(kind: Kind, state: NotifyState<'_>) -> Self {
        let mut text = Self { kind, text: String::new() };
        text.push(state);
        text
    }

    fn push(&mut self, state: NotifyState<'_>) {
        self.text.push_str(&state.to_string());
        self.text.push('\n');
    }
}

/// A status on one line, which the manager shows to people as it is: what is hidden becomes a space, and it is cut to [`STATUS_MAX`].
fn one_line(status: &str) -> String {
    const MARK: char = '…';
    let room = STATUS_MAX - MARK.len_utf8();
    let mut line = String::new();
    for c in status.chars().map(|c| if is_hidden(c) { ' ' } else { c }) {
        if line.len() + c.len_utf8() > room {
            line.push(MARK);
            break;
        }
        line.push(c);
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reloading_carries_its_moment_in_the_same_datagram() {
        assert_eq!(Text::reloading(1_234_567).as_str(), "RELOADING=1\nMONOTONIC_USEC=1234567\n");
    }

    #[test]
    fn a_status_cannot_smuggle_in_a_field() {
        let text = Text::status("all is well\nMAINPID=1\r\0");
        assert_eq!(text.as_str(), "STATUS=all is well MAINPID=1\n");
        assert_eq!(Text::ready().with_status("a\nb").as_str(), "READY=1\nSTATUS=a b\n");
    }

    #[test]
    fn a_time_longer_than_71_minutes_is_not_cut() {
        let text = Text::extend_timeout(Duration::from_secs(24 * 3600));
        assert_eq!(text.as_str(), "EXTEND_TIMEOUT_USEC=86400000000\n");
        assert_eq!(Text::extend_timeout(Duration::from_secs(30)).as_str(), "EXTEND_TIMEOUT_USEC=30000000\n");
        assert_eq!(Text::extend_timeout(Duration::ZERO).as_str(), "EXTEND_TIMEOUT_USEC=1\n");
        assert_eq!(
            Text::extend_timeout(Duration::MAX).as_str(),
            format!("EXTEND_TIMEOUT_USEC={}\n", u64::MAX - 1)
        );
    }

    proptest! {
        #[test]
        fn a_status_is_always_one_field_of_bounded_length(status in ".*", long in "é{0,2000}") {
            for status in [status, long] {
                let text = Text::status(&status);
                prop_assert_eq!(text.as_str().matches('\n').count(), 1);
                prop_assert!(text.as_str().len() <= "STATUS=\n".len() + STATUS_MAX);
                prop_assert!(!text.as_str().trim_end_matches('\n').contains(char::is_control));
            }
        }
    }
}

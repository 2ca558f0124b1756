//! Limits how fast a notify socket is read, so that a flood blocks its sender and does not load the daemon.
//!
//! In each window of time a limited number of datagrams is read at once. The rest waits in the kernel, and so do its
//! senders, until the window is over. Strangers have a lower limit of their own.

use std::time::Duration;

/// The window.
pub(in crate::daemon) const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams of the worker and its group that are read in one.
const OWN_MAX: u32 = 512;
/// Datagrams of others.
const STRANGERS_MAX: u32 = 32;

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum From {
    /// The worker, or one of its group.
    Own,
    /// Anybody else.
    Stranger,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Pace {
    /// When it began, on the clock of the caller.
    window: Option<Duration>,
    own: u32,
    strangers: u32,
}

impl Pace {
    /// One more was read. How long nothing is to be read, and who is to blame, if that is so.
    pub(in crate::daemon) fn count(&mut self, from: From, now: Duration) -> Option<(Duration, From)> {
        let begun = self.window.filter(|begun| now.saturating_sub(*begun) < WINDOW);
        let begun = begun.unwrap_or_else(|| {
            *self = Self { window: Some(now), own: 0, strangers: 0 };
            now
        });
        let count = match from {
            From::Own => &mut self.own,
            From::Stranger => &mut self.strangers,
        };
        *count += 1;
        let guilty = match (self.own, self.strangers) {
            (_, strangers) if strangers >= STRANGERS_MAX => From::Stranger,
            (own, _) if own >= OWN_MAX => From::Own,
            _ => return None,
        };
        Some((WINDOW.saturating_sub(now.saturating_sub(begun)), guilty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_read_in_portions_and_a_few_are_not_held_up() {
        let now = Duration::from_secs(5);
        let mut pace = Pace::default();
        let pauses = (0..OWN_MAX).filter_map(|_| pace.count(From::Own, now)).collect::<Vec<_>>();
        assert_eq!(pauses, [(WINDOW, From::Own)]);
        assert_eq!(pace.count(From::Own, now + WINDOW), None);
        let later = now + WINDOW + Duration::from_millis(30);
        let pauses = (0..STRANGERS_MAX).filter_map(|_| pace.count(From::Stranger, later)).collect::<Vec<_>>();
        assert_eq!(pauses, [(Duration::from_millis(70), From::Stranger)]);
        for tick in 4..100 {
            assert_eq!(pace.count(From::Stranger, now + tick * WINDOW), None);
        }
    }
}

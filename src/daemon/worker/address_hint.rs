//! What may help a program that finds its address in use: a guess from its last lines and from what its pool is.
//!
//! Pure. An address that is one of the pool's listeners is held by handover, so the program must take it from fd 3. Any
//! other was bound by a process, most often by the worker before it.

use crate::config::model::Pool;
use crate::daemon::reload::generation::Record;

const LISTEN_ON_FD_3: &str = "this program must listen on fd 3 ($LISTEN_FDS), not bind";
const STOP_FIRST: &str = "another process holds this address; where that is the worker before this one, set max_surge = 0 and \
    max_unavailable = 1 under rollout: then it ends before the next one starts";
const SOMEBODY_ELSE: &str = "another process holds this address, perhaps another worker of the pool: `ss -lptn` (macOS: `lsof -nP -i`) shows which";

/// What is known of the addresses that a worker may use.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct OwnAddresses {
    /// Ports and paths of its pool's listeners.
    listeners: Vec<String>,
    /// The worker before it had ended.
    is_stop_first: bool,
}

impl OwnAddresses {
    pub(in crate::daemon) fn of(record: &Record, pool: &Pool) -> Self {
        let listeners = record.listeners_of(pool).into_iter().map(|(_, held)| local_part(&held.shown()));
        Self { listeners: listeners.collect(), is_stop_first: pool.policy.rollout.is_stop_first() }
    }

    /// The hint, if one of the lines says that an address is in use.
    pub(in crate::daemon) fn hint(&self, lines: &[String]) -> Option<&'static str> {
        let line = lines.iter().find(|line| is_in_use(line))?;
        let is_ours = self.listeners.iter().any(|listener| mentions(line, listener));
        let may_be_ours = !self.listeners.is_empty() && !names_a_port(line);
        Some(match self.is_stop_first {
            _ if is_ours || may_be_ours => LISTEN_ON_FD_3,
            false => STOP_FIRST,
            true => SOMEBODY_ELSE,
        })
    }
}

fn is_in_use(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("address already in use") || line.contains("eaddrinuse")
}

/// The port, with its colon, or the path of an address.
fn local_part(shown: &str) -> String {
    match shown.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!(":{port}")
        }
        _ => shown.split_once("://").map_or(shown, |(_, path)| path).to_owned(),
    }
}

/// Does the line have this port or path, and not only as the beginning of a longer one?
fn mentions(line: &str, address: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
    line.match_indices(address).any(|(at, found)| ends(&line[at + found.len()..]))
}

/// Does the line name a port of three digits or more? Two are as likely the minutes of a time.
fn names_a_port(line: &str) -> bool {
    line.split(':').skip(1).any(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (3..=5).contains(&digits) && !rest.starts_with('0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(listeners: &[&str], is_stop_first: bool, line: &str) -> Option<&'static str> {
        let listeners = listeners.iter().map(|shown| local_part(shown)).collect();
        OwnAddresses { listeners, is_stop_first }.hint(&["starting".to_owned(), line.to_owned()])
    }

    #[test]
    fn an_address_that_handover_holds_is_to_be_taken_from_fd_3() {
        let web = ["tcp://0.0.0.0:8080", "unix:///run/app.sock"];
        for line in [
            "Error: listen EADDRINUSE: address already in use :::8080",
            "nginx: [emerg] bind() to 0.0.0.0:8080 failed (98: Address already in use)",
            "bind /run/app.sock: address already in use",
            "22:04:50 bind: Address already in use (os error 98)",
            "OSError: [Errno 98] Address already in use",
        ] {
            assert_eq!(hint(&web, false, line), Some(LISTEN_ON_FD_3), "{line}");
        }
    }

    #[test]
    fn an_address_that_it_does_not_hold_is_held_by_another_process() {
        let line = "Could not create server TCP listening socket *:6379: bind: Address already in use";
        assert_eq!(hint(&[], false, line), Some(STOP_FIRST));
        assert_eq!(hint(&[], true, line), Some(SOMEBODY_ELSE));
        assert_eq!(hint(&["tcp://0.0.0.0:637"], false, line), Some(STOP_FIRST));
        assert_eq!(
            hint(&["tcp://[::]:8080"], true, "metrics: listen tcp :9090: address already in use"),
            Some(SOMEBODY_ELSE)
        );
        assert_eq!(hint(&[], false, "out of memory"), None);
    }
}

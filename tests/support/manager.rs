//! Plays the service manager: receives what the daemon says with `sd_notify`, in order.

use std::path::Path;

use super::inbox::Inbox;
use super::scratch::Scratch;

/// One datagram.
#[derive(Clone, Debug)]
pub struct Message(pub String);

impl Message {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether one of its lines is exactly this.
    pub fn has(&self, line: &str) -> bool {
        self.0.lines().any(|candidate| candidate == line)
    }
}

/// A `NOTIFY_SOCKET`.
pub struct NotifySocket(Inbox);

impl NotifySocket {
    /// A socket in `scratch`.
    pub fn new(scratch: &Scratch) -> Self {
        Self(Inbox::new(scratch, "notify"))
    }

    /// For `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The next datagram, of those that were not waited for yet, that has this line.
    #[track_caller]
    pub fn wait_for(&self, line: &str) -> Message {
        self.wait(line, |message| message.has(line))
    }

    /// The next datagram, of those that were not waited for yet, for which `wanted` is true.
    #[track_caller]
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Message) -> bool) -> Message {
        match self.0.wait(|text| wanted(&Message(text.to_owned()))) {
            Some((_, text)) => Message(text),
            None => panic!("the daemon never said {what}; it said: {:#?}", self.0.all()),
        }
    }

    /// The lines so far whose key is one of `keys`, in order.
    pub fn said(&self, keys: &[&str]) -> Vec<String> {
        let all = self.0.all();
        let lines = all.iter().flat_map(|(_, text)| text.lines());
        lines.filter(|line| keys.contains(&line.split('=').next().unwrap_or(""))).map(str::to_owned).collect()
    }
}

//! How a worker connects.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::error::Error;
use super::handle::Worker;
use super::inherited::Inherited;
use super::session::Session;
use super::surroundings::{Identity, Surroundings};
use super::thread;
use crate::os::clock;
use crate::os::poll::{Entry, poll};
use crate::wire::{Capabilities, Capability};

/// handover's first line is there when the worker starts; a socket without one is not its channel.
const HELLO: Duration = Duration::from_secs(5);

/// How a worker connects: from [`Worker::options`].
///
/// ```no_run
/// use handover::worker::Worker;
///
/// # fn main() -> Result<(), handover::worker::Error> {
/// let worker = Worker::options()
///     .client("myapp 2.1")
///     .messages(true)
///     .drain_on_signals(true)
///     .connect()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    client: String,
    drains: bool,
    pings: bool,
    messages: bool,
    signals: bool,
}

impl Default for Options {
    /// Drains, answers pings, takes no messages, leaves signals alone.
    fn default() -> Self {
        let client = concat!("handover-rust ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { client, drains: true, pings: true, messages: false, signals: false }
    }
}

impl Options {
    /// What `handover status` shows beside the worker; at most 128 bytes, the rest is cut. Default: this library and its version.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// Whether the program finishes and exits when it is asked to [drain](Worker::drained). Default: yes. If not, it gets the stop signal at
    /// once; else only at `drain_timeout`.
    ///
    /// ```
    /// use handover::worker::Worker;
    ///
    /// let worker = Worker::options().drains(false).pings(false).connect()?; // as plain as it can be
    /// # let _ = worker;
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    #[must_use]
    pub const fn drains(mut self, drains: bool) -> Self {
        self.drains = drains;
        self
    }

    /// Whether pings are answered, see [`Pulse`](super::Pulse). Default: yes.
    #[must_use]
    pub const fn pings(mut self, pings: bool) -> Self {
        self.pings = pings;
        self
    }

    /// Whether the program takes [messages](Worker::messages). Default: no; who sends it one is then told so.
    #[must_use]
    pub const fn messages(mut self, messages: bool) -> Self {
        self.messages = messages;
        self
    }

    /// Whether `SIGTERM` and `SIGINT` begin to drain, too, so that the same program ends well without handover. Default: no. The second of a
    /// kind ends the process at once.
    #[must_use]
    pub const fn drain_on_signals(mut self, signals: bool) -> Self {
        self.signals = signals;
        self
    }

    /// Takes what the process was started with, and connects to handover if that is there. Once in a process, and best
    /// as the first thing in `main`, while there are no other threads: only then are the variables that name fds taken out of the
    /// environment ([what that means](super#the-environment)).
    ///
    /// # Errors
    /// [`Error::ConnectedBefore`]; [`Error::Environment`] where `LISTEN_FDS` contradicts what is there; [`Error::Io`] where the
    /// process has no fds or threads left. That there is no handover is none.
    pub fn connect(self) -> Result<Worker, Error> {
        let surroundings = Surroundings::take()?;
        self.connect_in(surroundings)
    }

    pub(super) fn connect_in(self, surroundings: Surroundings) -> Result<Worker, Error> {
        let Surroundings { channel, passed, notify, watchdog, identity } = surroundings;
        let mut session = Session::new(self.capabilities(), &self.client);
        let is_there = channel.is_some();
        if !is_there {
            session.close();
        }
        let core = Core::new(session, channel, notify)?;
        if is_there {
            greet(&core);
        }
        let identity = core.lock().session.hello().map(Identity::of).or(identity);
        if core.lock().session.is_open() {
            thread::start(&core)?;
        }
        let worker = Worker::new(core, Arc::new(Inherited::new(passed)), identity, watchdog);
        if self.signals {
            worker.drain_on_signals()?;
        }
        Ok(worker)
    }

    fn capabilities(&self) -> Capabilities {
        let wanted = [
            (self.drains, Capability::Drain),
            (self.pings, Capability::Ping),
            (true, Capability::Listen),
            (self.messages, Capability::Messages),
            (true, Capability::Log),
            (true, Capability::Fds),
        ];
        wanted.into_iter().filter(|(is, _)| *is).map(|(_, capability)| capability).collect()
    }
}

/// Says hello, and reads until handover's is there. Without it there is no channel.
fn greet(core: &Core) {
    let until = clock::monotonic() + HELLO;
    let mut buffer = vec![0; 65_536];
    core.publish(core.lock());
    loop {
        let channel: Option<Arc<UnixStream>> = core.lock().channel.clone();
        let (Some(channel), false) = (channel, core.lock().session.hello().is_some()) else { return };
        let left = until.saturating_sub(clock::monotonic());
        let writes = core.lock().session.pending() > 0;
        let mut entry = [Entry::either(std::os::fd::AsFd::as_fd(&*channel), true, writes)];
        if left.is_zero() || poll(&mut entry, Some(left)).is_err() {
            core.lock().session.close();
        } else if entry[0].is_readable() {
            thread::read(core, &mut buffer);
        }
        core.publish(core.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::session::{End, Event};

    #[test]
    fn what_is_offered_follows_the_options() {
        let all = Options::default().messages(true).capabilities();
        assert_eq!(all.iter().collect::<Vec<_>>(), Capability::ALL);
        let few = Options::default().drains(false).pings(false).capabilities();
        assert_eq!(few, Capabilities::from([Capability::Listen, Capability::Log, Capability::Fds]));
        let mut session: Session<()> = Session::new(few, "x");
        session.close();
        assert_eq!(session.next_event(), Some(Event::Closed(End::Closed)));
    }
}

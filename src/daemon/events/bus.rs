//! Everything that happens is told here, once: to the log, to the readers of events, and to clients that wait for the
//! end of long work.
//!
//! Each event has a number, counted whether anybody listens or not, so that the status document can say which is the
//! last that it includes. While nobody listens there is no JSON.

use crate::control::Reply;
use crate::control::event::{At, Event, Identity, VERSION, What};
use crate::control::server::Telling;
use crate::daemon::Daemon;
use crate::daemon::events::log;
use crate::id::ListenerName;
use crate::listeners::{Held, Origin};
use crate::os::clock;
use crate::stamp;

/// What is told, and to whom.
pub(in crate::daemon) struct Chronicle {
    /// When the daemon started.
    started: String,
    /// The number of the last event.
    last: u64,
    readers: Vec<Reply>,
}

impl Chronicle {
    /// Begins.
    pub(in crate::daemon) fn new() -> Self {
        Self { started: stamp::rfc3339(clock::wall_time()), last: 0, readers: Vec::new() }
    }

    /// The number of the last event.
    pub(in crate::daemon) fn last(&self) -> u64 {
        self.last
    }
}

impl Daemon {
    /// Tells that something has happened.
    pub(in crate::daemon) fn happened(&mut self, what: What) {
        log::log(&what);
        self.chronicle.last += 1;
        if self.chronicle.readers.is_empty() && self.waiting.is_empty() {
            return;
        }
        let event = Event::new(self.chronicle.last, clock::wall_time(), what);
        let telling = Telling::new(&event);
        if event.what.is_progress() {
            self.waiting.retain(|_, waiting| waiting.reply.tell(&telling));
        }
        if matches!(event.what, What::DaemonEnded { .. }) {
            for reader in std::mem::take(&mut self.chronicle.readers) {
                // The end waits for those that read, and not for those that have not done so for long.
                if !reader.is_behind() {
                    self.deliveries.push(reader.delivery());
                }
                reader.tell_last(&telling);
            }
        } else {
            self.chronicle.readers.retain(|reader| reader.tell(&telling));
        }
    }

    /// From now on this client is told what happens.
    pub(in crate::daemon) fn begin_stream(&mut self, reply: Reply) {
        let daemon = Identity {
            name: self.surroundings.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.chronicle.started.clone(),
        };
        let hello = What::Hello { version: VERSION, daemon };
        let hello = Event::new(self.chronicle.last, clock::wall_time(), hello);
        reply.tell(&Telling::new(&hello));
        // Those who left while nothing happened were not noticed yet.
        self.chronicle.readers.retain(|reader| !reader.is_gone());
        self.chronicle.readers.push(reply);
    }

    /// Tells of the sockets that the newest generation has and no other one.
    pub(in crate::daemon) fn tell_of_new_listeners(&mut self) {
        let Some((newest, record)) = self.generations.last_key_value() else { return };
        let others = || self.generations.iter().filter(|(generation, _)| *generation != newest);
        let is_new = |held: &std::rc::Rc<Held>| {
            !others()
                .flat_map(|(_, other)| other.listeners.values())
                .any(|other| std::rc::Rc::ptr_eq(held, other))
        };
        let new: Vec<What> = record
            .listeners
            .iter()
            .filter(|(_, held)| is_new(held))
            .map(|(name, held)| match held.origin() {
                Origin::Inherited => What::ListenerAdopted(at(name, held)),
                Origin::Bound => What::ListenerBound { at: at(name, held), afresh: false },
            })
            .collect();
        new.into_iter().for_each(|what| self.happened(what));
    }
}

/// A listener as events name it.
pub(in crate::daemon) fn at(name: &ListenerName, held: &Held) -> At {
    At { listener: name.to_string(), address: held.shown() }
}

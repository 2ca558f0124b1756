//! What a worker said on its channel: as events for the machine, or for those who pass messages on and grant sockets.

use std::time::Duration;

use super::link::Question;
use super::messages::Message;
use crate::daemon::Daemon;
use crate::daemon::fds::quota::{Fd, Receipt};
use crate::id::WorkerId;
use crate::notify::printable_line;
use crate::supervisor::{Event, Place, ReadyBy};
use crate::wire::{Capability, Fault, Open, Sender, ToHandover};

/// What a channel's task tells the loop.
#[derive(Debug)]
pub(in crate::daemon) enum Told {
    /// The worker said hello.
    Opened,
    /// It said something, with these fds.
    Said(ToHandover, Vec<Fd>),
    /// It answered something, or has what it was sent.
    Answered(Open<Question, Fd>, ToHandover, Vec<Fd>),
    /// It closed its end.
    Closed,
    /// It has no channel any more, for what it did wrong.
    Lost(Fault),
}

/// Who said something. It may be gone when that is dealt with.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Speaker {
    pub(super) worker: WorkerId,
    pub(super) place: Place,
}

impl Speaker {
    pub(super) fn as_sender(&self) -> Sender {
        Sender::Worker { pool: self.place.pool.clone(), slot: self.place.slot, worker: self.worker }
    }
}

/// Something that is to be dealt with when the machine has taken in what was said before.
pub(in crate::daemon) struct Unheard {
    from: Speaker,
    told: Told,
    _receipt: Receipt,
}

impl Told {
    /// What it weighs in our hands, about.
    pub(super) fn bytes(&self) -> usize {
        const LINE: usize = 512;
        match self {
            Self::Said(ToHandover::Message { data, .. }, _)
            | Self::Answered(_, ToHandover::Reply { data, .. }, _) => LINE + data.size(),
            _ => LINE,
        }
    }
}

impl Daemon {
    /// Takes what a worker said on its channel: as an event, or to be dealt with when the machine knows what was said before.
    pub(in crate::daemon) fn take_told(&mut self, worker: WorkerId, (told, receipt): (Told, Receipt)) {
        match told {
            Told::Opened => self.channel_opened(worker),
            Told::Closed => self.end_channel(worker, Event::ChannelClosed { worker }),
            Told::Lost(fault) => {
                self.end_channel(worker, Event::ChannelLost { worker });
                self.warn_once(worker, &format!("channel closed: {fault}"), None);
            }
            Told::Answered(Open { question: Question::Ping, .. }, ..) => {
                self.inbox.push_back(Event::Answered { worker });
            }
            Told::Said(line, fds) => match self.event_of(worker, line) {
                Ok(event) => self.inbox.extend(event),
                Err(line) => self.keep_unheard(worker, Told::Said(line, fds), receipt),
            },
            Told::Answered(open, line, fds) => {
                self.forget_deadline(&open.question);
                self.keep_unheard(worker, Told::Answered(open, line, fds), receipt);
            }
        }
    }

    /// A Node program need not say hello. One that does so has done it by the time when it says that it is ready; one that is
    /// ready in another way is taken for one that does not.
    pub(in crate::daemon) fn imply_hello(&mut self, worker: WorkerId) {
        if self.link(worker).is_some_and(|link| link.is_open() && !link.has_spoken()) {
            self.channel_opened(worker);
        }
    }

    fn keep_unheard(&mut self, worker: WorkerId, told: Told, receipt: Receipt) {
        let Some(entry) = self.table.get(worker) else { return };
        let from = Speaker { worker, place: entry.place.clone() };
        self.unheard.push_back(Unheard { from, told, _receipt: receipt });
    }

    /// Deals with what needs more than the machine: questions, messages and their answers, in the order in which they came.
    pub(in crate::daemon) fn hear_the_rest(&mut self) {
        while let Some(Unheard { from, told, .. }) = self.unheard.pop_front() {
            match told {
                Told::Said(ToHandover::Listen { id, what }, _) => self.grant(&from, id, &what),
                Told::Said(ToHandover::Message { id, to, data, reply, timeout_ms }, fds) => {
                    self.pass(&from, Message { id, to, data, reply, timeout_ms, fds });
                }
                Told::Answered(open, line, fds) => self.pass_back(&from, open, line, fds),
                // The rest is dealt with before it comes here: see `wire::Heard`.
                Told::Opened | Told::Said(..) | Told::Closed | Told::Lost(_) => {}
            }
        }
    }

    /// A worker can be spoken to from now on, if it can.
    pub(in crate::daemon) fn channel_opened(&mut self, worker: WorkerId) {
        let Some(link) = self.link(worker).filter(|link| link.is_open()) else { return };
        let (drains, answers) = (link.can(Capability::Drain), link.can(Capability::Ping));
        self.inbox.push_back(Event::ChannelOpened { worker, drains, answers });
    }

    /// The event that a line is, if it brings one; the line itself where it is no event.
    fn event_of(&mut self, worker: WorkerId, line: ToHandover) -> Result<Option<Event>, ToHandover> {
        if matches!(line, ToHandover::Ready) {
            self.imply_hello(worker);
        }
        let Some(entry) = self.table.get_mut(worker) else { return Ok(None) };
        Ok(Some(match line {
            ToHandover::Ready => {
                entry.readiness.has_notified = true;
                Event::Ready { worker, by: ReadyBy::Notify }
            }
            ToHandover::Heartbeat => Event::Heartbeat { worker },
            ToHandover::ExtendTimeout { ms } => Event::MoreTime { worker, by: Duration::from_millis(ms) },
            ToHandover::Stopping => Event::Stopping { worker },
            ToHandover::Replace { reason } => {
                let reason = printable_line(reason.unwrap_or_default().as_bytes());
                Event::ReplacementWished { worker, reason }
            }
            ToHandover::Status { text } => {
                self.take_status(worker, printable_line(text.as_bytes()));
                return Ok(None);
            }
            line => return Err(line),
        }))
    }

    /// Nothing goes over its channel any more; what that means is the machine's to say, if it knew of the channel.
    fn end_channel(&mut self, worker: WorkerId, event: Event) {
        let Some(link) = self.link(worker) else { return };
        let had_spoken = link.has_spoken();
        self.close_channel(worker);
        if had_spoken {
            self.inbox.push_back(event);
        }
    }
}

//! What a worker said on its channel: as events for the machine, or for those who pass messages on and grant sockets.

use std::time::Duration;

use super::allowance::{Fd, Receipt};
use super::link::Question;
use super::messages::Message;
use crate::daemon::Daemon;
use crate::id::WorkerId;
use crate::notify::printable_line;
use crate::supervisor::Event;
use crate::wire::{Capability, Fault, Open, ToHandover};

/// What a channel's task tells the loop.
#[derive(Debug)]
pub(in crate::daemon) enum Told {
    /// The worker said hello.
    Opened,
    /// It said something, with these fds.
    Said(ToHandover, Vec<Fd>),
    /// It answered something, or has what it was sent.
    Answered(Open<Question, Fd>, ToHandover, Vec<Fd>),
    /// It lives on without its channel, for what it did wrong if there is that.
    Lost(Option<Fault>),
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
    /// Takes what a worker said on its channel.
    pub(in crate::daemon) fn take_told(&mut self, worker: WorkerId, (told, _receipt): (Told, Receipt)) {
        match told {
            Told::Opened => self.channel_opened(worker),
            Told::Said(line, fds) => self.take_said(worker, line, fds),
            Told::Answered(open, line, fds) => self.take_answer(worker, open, line, fds),
            Told::Lost(fault) => self.channel_lost(worker, fault),
        }
    }

    /// A worker can be spoken to from now on, if it can.
    pub(in crate::daemon) fn channel_opened(&mut self, worker: WorkerId) {
        let Some(link) = self.link(worker).filter(|link| link.is_open()) else { return };
        let (drains, answers) = (link.can(Capability::Drain), link.can(Capability::Ping));
        self.inbox.push_back(Event::ChannelOpened { worker, drains, answers });
    }

    fn take_said(&mut self, worker: WorkerId, line: ToHandover, fds: Vec<Fd>) {
        let Some(entry) = self.table.get_mut(worker) else { return };
        let event = match line {
            ToHandover::Ready => {
                entry.has_notified = true;
                if !entry.ready_by_notify {
                    return;
                }
                Event::Ready { worker }
            }
            ToHandover::Heartbeat => Event::Heartbeat { worker },
            ToHandover::ExtendTimeout { ms } => Event::MoreTime { worker, by: Duration::from_millis(ms) },
            ToHandover::Stopping => Event::Stopping { worker },
            ToHandover::Replace { reason } => {
                let reason = printable_line(reason.unwrap_or_default().as_bytes());
                Event::ReplacementWished { worker, reason }
            }
            ToHandover::Status { text } => return self.take_status(worker, printable_line(text.as_bytes())),
            ToHandover::Listen { id, what } => return self.grant(worker, id, &what),
            ToHandover::Message { id, to, data, reply, timeout_ms } => {
                return self.pass(worker, Message { id, to, data, reply, timeout_ms, fds });
            }
            // The rest is dealt with before it comes here: see `wire::Heard`.
            _ => return,
        };
        self.inbox.push_back(event);
    }

    fn take_answer(&mut self, worker: WorkerId, open: Open<Question, Fd>, line: ToHandover, fds: Vec<Fd>) {
        match open.question {
            Question::Ping => self.inbox.push_back(Event::Answered { worker }),
            Question::Passed(_) => self.pass_back(worker, open, line, fds),
            // What was sent has arrived, or is not wanted: our copies are closed here.
            Question::Grant | Question::Replied => {}
        }
    }

    fn channel_lost(&mut self, worker: WorkerId, fault: Option<Fault>) {
        let Some(link) = self.link(worker) else { return };
        let had_spoken = link.has_spoken();
        self.close_channel(worker);
        if let Some(fault) = fault {
            self.warn_once(worker, &format!("channel closed: {fault}"), None);
        }
        if had_spoken {
            self.inbox.push_back(Event::ChannelLost { worker });
        }
    }
}

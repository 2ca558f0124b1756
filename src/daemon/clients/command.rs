//! What comes into the loop from those who want something: clients on the control socket, and the program that handover is a part
//! of, which is one more client and stands in the same queue. What only that program may ask for is here, too: the control API can
//! name neither a file nor a program.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::control::Call;
use crate::daemon::Daemon;
use crate::daemon::boot::embed_host::NotAnswered;
use crate::daemon::reload::config_source::Source;
use crate::wire::{Payload, Target};

/// See the module.
pub(crate) enum Wish {
    /// What any client may ask for.
    Call(Call),
    /// A reload that has its configuration from here, and so have later ones, if it succeeds.
    ReloadWith(Box<Source>, Call),
    /// A question to a worker.
    Ask(Question),
}

/// A question of the program to a worker.
pub(crate) struct Question {
    /// One worker.
    pub(crate) to: Target,
    pub(crate) data: Payload,
    pub(crate) within: Duration,
    pub(crate) answer: oneshot::Sender<Result<Payload, NotAnswered>>,
}

impl From<Call> for Wish {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

impl Daemon {
    pub(in crate::daemon) fn take_wish(&mut self, wish: Wish) {
        match wish {
            Wish::Call(call) => self.take_call(call, None),
            Wish::ReloadWith(source, call) => {
                self.source_number += 1;
                let before = std::mem::replace(&mut self.source, *source);
                self.take_call(call, Some((self.source_number, before)));
            }
            Wish::Ask(question) => self.ask_for_program(question),
        }
    }
}

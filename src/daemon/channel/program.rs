//! Messages of workers to the program that handover is a part of.
//!
//! They go into its own bounded queue, and are refused to their sender when that is full: the loop waits for that program no more
//! than for a worker. A question has a task that waits for the answer, in its own time.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::heard::Speaker;
use super::link::{No, SharedLink};
use super::messages::Message;
use crate::daemon::Daemon;
use crate::daemon::boot::embed_host::{FromWorker, NotAnswered};
use crate::wire::limits::REPLY_TIMEOUT_MS;
use crate::wire::{ErrorCode, Id, Payload, Refused, Sender, ToWorker};

impl Daemon {
    pub(super) fn give_to_program(&mut self, from: &Speaker, message: Message) {
        let Message { id, data, reply, timeout_ms, fds, .. } = message;
        let fds = fds.iter().map(|fd| fd.as_fd().try_clone_to_owned()).collect::<Result<Vec<OwnedFd>, _>>();
        let fds = match fds {
            Ok(fds) => fds,
            Err(error) => {
                let no = No::new(ErrorCode::Failed, crate::os::words(&error));
                return self.refuse(from.worker, id, no);
            }
        };
        self.tell_of_message(from, &data);
        let (answer, answered) = oneshot::channel();
        let answer = reply.then_some(answer);
        let given = FromWorker::new(from.worker, &from.place, data, fds, answer);
        if let Some(audience) = &self.program.audience
            && let Err(reason) = audience.give(given)
        {
            self.messages_refused += 1;
            return self.refuse(from.worker, id, No::new(ErrorCode::QueueFull, reason));
        }
        match (reply, id, self.link(from.worker)) {
            (true, Some(re), Some(link)) => {
                let patience = Duration::from_millis(timeout_ms.unwrap_or(REPLY_TIMEOUT_MS));
                tokio::task::spawn_local(pass_answer(link, re, answered, patience));
            }
            (true, ..) => {}
            (false, ..) => self.say_sent(from.worker, id, 1, Vec::new()),
        }
    }
}

/// Waits for the program's answer, and says it to the worker that asked.
async fn pass_answer(link: SharedLink, re: Id, answered: oneshot::Receiver<Payload>, patience: Duration) {
    let no = match timeout(patience, answered).await {
        Ok(Ok(data)) => {
            let line = ToWorker::Reply { re, id: None, from: Sender::Handover, data };
            match link.say(&line, Vec::new()) {
                Ok(()) => return,
                Err(no) => no,
            }
        }
        Ok(Err(_)) => No::new(ErrorCode::Failed, "the program that runs the workers gave no answer"),
        Err(_) => No::new(ErrorCode::Timeout, "the program that runs the workers did not answer in time"),
    };
    let refused = Refused { re: Some(re), error: no.error, reason: no.reason };
    let _ = link.say(&ToWorker::Refused(refused), Vec::new());
}

impl From<No> for NotAnswered {
    fn from(no: No) -> Self {
        Self { error: no.error.to_string(), reason: no.reason }
    }
}

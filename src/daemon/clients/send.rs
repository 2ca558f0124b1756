//! Messages that clients send to workers: who is meant, and what became of it.

use crate::control::protocol::Send;
use crate::control::{Finish, NotSent, Sent, Verdict};
use crate::daemon::Daemon;
use crate::wire::Target;

/// What helps where no worker takes messages.
const HINT: &str =
    "hint: a worker takes messages once it said hello on its channel, with the capability `messages`";

impl Daemon {
    /// Puts a message into the queues of those that are meant.
    pub(in crate::daemon) fn send(&mut self, send: &Send) -> Finish {
        let to = target(send);
        if let Target::Pool(pool) | Target::Slot(pool, _) = &to
            && !self.machine.status().pools.contains_key(pool)
        {
            return Finish::new(Verdict::Refused, format!("there is no pool {pool}"));
        }
        let (receivers, refused) = self.send_to_workers(&to, &send.data);
        let not = |(worker, no): (crate::id::WorkerId, crate::daemon::channel::No)| NotSent {
            worker: worker.0,
            error: no.error.to_string(),
            reason: no.reason,
        };
        tracing::debug!(receivers, refused = refused.len(), "message sent to workers");
        let sent = Sent { receivers, refused: refused.into_iter().map(not).collect() };
        Finish::of_sent(&self.surroundings.name, sent, &self.nobody(&to))
    }

    /// Why there was nobody to send it to.
    fn nobody(&self, to: &Target) -> String {
        match to {
            Target::Worker(worker) if self.table.get(*worker).is_none() => {
                format!("there is no worker {worker}")
            }
            Target::Worker(worker) => format!("worker {worker} takes no messages\n{HINT}"),
            Target::Slot(pool, slot) if self.machine.serving(pool, *slot).is_none() => {
                format!("no worker serves in slot {slot} of pool {pool}")
            }
            Target::Slot(pool, slot) => {
                format!("the worker in slot {slot} of pool {pool} takes no messages\n{HINT}")
            }
            Target::Pool(pool) => format!("no worker of pool {pool} takes messages\n{HINT}"),
            Target::All | Target::Handover => format!("no worker takes messages\n{HINT}"),
        }
    }
}

fn target(send: &Send) -> Target {
    match (send.worker, &send.pool, send.slot) {
        (Some(worker), ..) => Target::Worker(worker),
        (None, Some(pool), Some(slot)) => Target::Slot(pool.clone(), slot),
        (None, Some(pool), None) => Target::Pool(pool.clone()),
        (None, None, _) => Target::All,
    }
}

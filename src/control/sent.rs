//! What became of a message to workers: for programs, and in words.
//!
//! Pure.

use serde::{Deserialize, Serialize};

use super::answer::{Finish, Verdict};
use crate::wire::limits::SENT_REFUSED_MAX;

/// Workers that did not get a message and of which a person is told; programs are told of more.
const REFUSED_SHOWN: usize = 10;

/// What became of a message to workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Workers that have it in their queues.
    pub receivers: u64,
    /// Workers that did not get it; of more than [`SENT_REFUSED_MAX`] the first.
    pub refused: Vec<NotSent>,
}

/// A worker that did not get a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotSent {
    /// Which.
    pub worker: u64,
    /// Why, in a word of the channel's protocol: `queue_full`, `unsupported`, `gone`, `failed`.
    pub error: String,
    /// Why, for a person.
    pub reason: String,
}

impl Finish {
    /// Of a message that a daemon of this name was to send. It failed if nobody has it; `nobody` says why where
    /// no worker was even tried.
    pub fn of_sent(name: &str, sent: Sent, nobody: &str) -> Self {
        let lines: Vec<String> = told(&sent.refused).collect();
        let (verdict, message) = match (sent.receivers, &lines[..]) {
            (0, []) => (Verdict::Failed, nobody.to_owned()),
            (0, [only]) => (Verdict::Failed, format!("not sent: {only}")),
            (0, lines) => (Verdict::Failed, format!("sent to nobody:\n{}", lines.join("\n"))),
            (1, _) => (Verdict::Done, format!("{name}: sent to 1 worker")),
            (number, _) => (Verdict::Done, format!("{name}: sent to {number} workers")),
        };
        let message = match (verdict, &lines[..]) {
            (Verdict::Done, [_, ..]) => format!("{message}, and not to:\n{}", lines.join("\n")),
            _ => message,
        };
        let refused = sent.refused.into_iter().take(SENT_REFUSED_MAX).collect();
        Self { sent: Some(Sent { refused, ..sent }), ..Self::new(verdict, message) }
    }
}

fn told(refused: &[NotSent]) -> impl Iterator<Item = String> {
    let more = refused.len().saturating_sub(REFUSED_SHOWN);
    let line = |not: &NotSent| format!("worker {}: {}", not.worker, not.reason);
    refused.iter().take(REFUSED_SHOWN).map(line).chain((more > 0).then(|| format!("and {more} more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(receivers: u64, refused: u64) -> Finish {
        let not = |worker| NotSent { worker, error: "queue_full".into(), reason: "it sleeps".into() };
        Finish::of_sent(
            "myapp",
            Sent { receivers, refused: (1..=refused).map(not).collect() },
            "nobody is there",
        )
    }

    #[test]
    fn who_got_it_and_who_did_not_is_said() {
        for (receivers, refused, verdict, message) in [
            (0, 0, Verdict::Failed, "nobody is there"),
            (0, 1, Verdict::Failed, "not sent: worker 1: it sleeps"),
            (0, 2, Verdict::Failed, "sent to nobody:\nworker 1: it sleeps\nworker 2: it sleeps"),
            (1, 0, Verdict::Done, "myapp: sent to 1 worker"),
            (3, 1, Verdict::Done, "myapp: sent to 3 workers, and not to:\nworker 1: it sleeps"),
        ] {
            let finish = finish(receivers, refused);
            assert_eq!((finish.result, finish.message.as_str()), (verdict, message));
            assert_eq!(
                finish.sent.map(|sent| (sent.receivers, sent.refused.len() as u64)),
                Some((receivers, refused))
            );
        }
    }

    #[test]
    fn of_many_only_some_are_named() {
        let finish = finish(0, 1200);
        assert_eq!(finish.message.lines().count(), 12);
        assert!(finish.message.ends_with("\nand 1190 more"), "{}", finish.message);
        assert_eq!(finish.sent.unwrap().refused.len(), SENT_REFUSED_MAX);
    }
}

//! handover's end of one channel: the order in which lines may come and go.
//!
//! It knows who said `hello`, what may be said to whom, which answers are owed, and which lines wait for theirs. It does nothing: the daemon gives it
//! every line that comes ([`Conversation::hear`]) and asks before every line that goes ([`Conversation::say`]).

use super::fault::Fault;
use super::ledger::{Acknowledged, Ledger, Open, Owed};
use super::limits::QUESTIONS_MAX;
use super::line::Line;
use super::lines::Received;
use super::to_handover::{ToHandover, WorkerHello};
use super::to_worker::ToWorker;
use super::value::{Capabilities, Capability, ErrorCode, Id, Refused};
use super::version::Versions;

/// What one line means in its place.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<Q, F> {
    /// The worker said who it is; see [`Conversation::hello`].
    Hello,
    /// A line to be acted on, with the fds that came with it. Never `hello`, nor an answer.
    Said(ToHandover, Vec<F>),
    /// The answer to what this side asked, or the acknowledgement that closes a line: `pong`, `reply`, `refused` or `ack`. Whether
    /// that is the kind of answer that was asked for is for the one who asked to see: a `pong` to a message is as good as `failed`.
    Answer(Open<Q, F>, ToHandover, Vec<F>),
    /// The fds of this question have arrived; its answer is still to come.
    Arrived(Id),
    /// To be answered with this at once, as any answer through [`Conversation::say`]; there is nothing else to do. What came with
    /// the line is dropped.
    Refuse(Refused),
    /// Nothing to do.
    Nothing,
}

/// handover's end of one channel. Generic over what the daemon remembers of its own questions (`Q`) and over what an fd is (`F`).
#[derive(Debug)]
pub struct Conversation<Q, F> {
    offered: Capabilities,
    hello: Option<WorkerHello>,
    /// Whether the worker has said hello itself.
    is_greeted: bool,
    has_greeted: bool,
    is_draining: bool,
    owed: Owed,
    /// What handover asked, and the fds that it sent.
    pub ledger: Ledger<Q, F>,
}

impl<Q, F> Conversation<Q, F> {
    /// With a worker that has to say `hello` first. `offered` is what handover's own `hello` says.
    pub const fn new(offered: Capabilities) -> Self {
        Self {
            offered,
            hello: None,
            is_greeted: false,
            has_greeted: false,
            is_draining: false,
            owed: Owed::new(),
            ledger: Ledger::new(),
        }
    }

    /// With a worker that need not say `hello`, because its kind is known: see [`node`](super::node). It may still, once.
    pub fn with_implied_hello(offered: Capabilities, hello: WorkerHello) -> Self {
        let mut conversation = Self::new(offered);
        conversation.hello = Some(hello);
        conversation
    }

    /// What the worker said of itself, or what is implied.
    pub const fn hello(&self) -> Option<&WorkerHello> {
        self.hello.as_ref()
    }

    /// The version that both speak, after the worker's `hello`.
    pub fn version(&self) -> Option<u64> {
        self.hello.as_ref().and_then(|hello| Versions::OURS.agree(hello.version))
    }

    /// Whether the worker named this capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.capabilities.has(capability))
    }

    /// Whether the worker was told to drain.
    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Takes the next line that came. The second value is the line to be acknowledged, before anything else is said.
    ///
    /// # Errors
    ///
    /// What the worker did wrong: the channel's end.
    pub fn hear(&mut self, received: Received<ToHandover, F>) -> Result<(Heard<Q, F>, Option<Id>), Fault> {
        let Received { line, fds } = received;
        let id = line.id();
        if let ToHandover::Hello(hello) = line {
            return Ok((self.greet(hello)?, None));
        }
        if self.hello.is_none() {
            let kind = match &line {
                ToHandover::Unknown(unknown) => unknown.kind.clone(),
                line => line.kind().map_or("(senseless)", |kind| kind.name).to_owned(),
            };
            return Err(Fault::BeforeHello { kind });
        }
        if let Some(id) = id {
            self.owed.check(id)?;
        }
        let came_with_fds = !fds.is_empty();
        let heard = self.sort(line, fds)?;
        let ack = if came_with_fds && !matches!(heard, Heard::Refuse(_)) { id } else { None };
        Ok((heard, ack))
    }

    /// Whether this line may be sent now; if so, it counts as sent. An answer is, if it is still owed.
    #[must_use]
    pub fn say(&mut self, line: &ToWorker) -> bool {
        match line {
            ToWorker::Hello(_) => !std::mem::replace(&mut self.has_greeted, true),
            ToWorker::Drain { .. } => {
                self.can(Capability::Drain) && !std::mem::replace(&mut self.is_draining, true)
            }
            ToWorker::Ping { .. } => self.can(Capability::Ping),
            ToWorker::ListenerRemoved { .. } => self.can(Capability::Listen),
            ToWorker::Message { .. } => self.can(Capability::Messages),
            ToWorker::Ack { .. } | ToWorker::Refused(Refused { re: None, .. }) => true,
            ToWorker::Grant { .. }
            | ToWorker::Reply { .. }
            | ToWorker::Sent { .. }
            | ToWorker::Refused(_) => line.re().is_some_and(|re| self.owed.settle(re)),
            ToWorker::Unknown(_) => false,
        }
    }

    /// How many questions of the worker wait for an answer.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    fn greet(&mut self, hello: WorkerHello) -> Result<Heard<Q, F>, Fault> {
        if self.is_greeted {
            return Err(Fault::SecondHello);
        }
        if Versions::OURS.agree(hello.version).is_none() {
            return Err(Fault::NoCommonVersion { theirs: hello.version, oldest: Versions::OURS.oldest() });
        }
        self.is_greeted = true;
        self.hello = Some(hello);
        Ok(Heard::Hello)
    }

    fn sort(&mut self, line: ToHandover, fds: Vec<F>) -> Result<Heard<Q, F>, Fault> {
        if let Some(refused) = self.refusal(&line, !fds.is_empty()) {
            let Some(re) = refused.re else { return Ok(Heard::Nothing) };
            self.owed.ask(re)?;
            return Ok(Heard::Refuse(refused));
        }
        Ok(match &line {
            ToHandover::Ack { re } => match self.ledger.acknowledged(*re) {
                Acknowledged::Closed(open) => Heard::Answer(open, line, fds),
                Acknowledged::Open(_) => Heard::Arrived(*re),
                Acknowledged::Nothing => Heard::Nothing,
            },
            ToHandover::Pong { re } | ToHandover::Reply { re, .. } => match self.ledger.answered(*re) {
                Some(open) => Heard::Answer(open, line, fds),
                None => Heard::Nothing,
            },
            ToHandover::Refused(refused) => match refused.re.and_then(|re| self.ledger.close(re)) {
                Some(open) => Heard::Answer(open, line, fds),
                None => Heard::Nothing,
            },
            ToHandover::Listen { id, .. } | ToHandover::Message { id: Some(id), .. } => {
                self.owed.ask(*id)?;
                Heard::Said(line, fds)
            }
            _ => Heard::Said(line, fds),
        })
    }

    /// Why this line cannot be acted on, whatever it says.
    fn refusal(&self, line: &ToHandover, has_fds: bool) -> Option<Refused> {
        let refused = |error, reason: &str| Some(Refused { re: line.id(), error, reason: reason.to_owned() });
        match line {
            ToHandover::Unknown(unknown) => {
                refused(ErrorCode::Unsupported, &format!("lines of type {} are not known here", unknown.kind))
            }
            ToHandover::Senseless { why, .. } => refused(ErrorCode::BadRequest, why),
            ToHandover::Listen { .. } if !self.offered.has(Capability::Listen) => {
                refused(ErrorCode::Unsupported, "no sockets are given here")
            }
            ToHandover::Listen { .. } if !self.can(Capability::Fds) => refused(
                ErrorCode::Unsupported,
                "sockets are given to those who take fds: name the capability fds in hello",
            ),
            ToHandover::Message { .. } if !self.offered.has(Capability::Messages) => {
                refused(ErrorCode::Unsupported, "no messages are passed on here")
            }
            ToHandover::Log(_) if !self.offered.has(Capability::Log) => {
                refused(ErrorCode::Unsupported, "no records are taken here")
            }
            ToHandover::Message { to, .. } if has_fds && !to.is_one() => {
                refused(ErrorCode::BadRequest, "fds go to one receiver only")
            }
            ToHandover::Listen { .. } | ToHandover::Message { id: Some(_), .. }
                if self.owed.len() >= QUESTIONS_MAX =>
            {
                refused(ErrorCode::QueueFull, "too many questions wait for their answers")
            }
            _ => None,
        }
    }
}

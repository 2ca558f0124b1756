//! What the loop and the task of one channel share: the conversation, and what waits to be written.
//!
//! The loop only queues, and never waits: what has no room is refused to whoever sent it. The task writes as fast as
//! the worker reads.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::handle::handle;
use super::messages::Passed;
use super::outgoing::{Outgoing, Share};
use super::queue::Queue;
use crate::config::model::Dialect as Configured;
use crate::daemon::fds::quota::Fd;
use crate::id::WorkerId;
use crate::supervisor::{Place, Retirement};
use crate::time::Timeout;
use crate::wire::node::{Dialect, Handle};
use crate::wire::version::{self, Versions};
use crate::wire::{
    Capabilities, Capability, Conversation, ErrorCode, Fault, HandoverHello, Heard, Id, Line, Lines, Open,
    Payload, Received, ToHandover, ToWorker, Unsendable, Until,
};

/// Messages that a worker has not taken, at most.
pub(super) const MESSAGES_MAX: usize = 256;
/// Their bytes; one is always taken in.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Fds that a worker has not acknowledged, at most.
pub(super) const FDS_MAX: usize = 128;
/// Lines that are no messages (answers, acknowledgements) beyond which nothing more is read from the worker.
const ANSWERS_MAX: usize = 512;

/// What handover offers.
const OFFERED: [Capability; 6] = [
    Capability::Drain,
    Capability::Ping,
    Capability::Listen,
    Capability::Messages,
    Capability::Log,
    Capability::Fds,
];

/// What was asked of the worker, or sent to it with fds.
#[derive(Debug)]
pub(in crate::daemon) enum Question {
    /// Whether it is there.
    Ping,
    /// Sockets that it asked for.
    Grant,
    /// A message; whoever sent it waits for what becomes of it.
    Passed(Passed),
    /// A reply; nobody waits.
    Replied,
}

/// Why a worker does not get a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct No {
    pub(in crate::daemon) error: ErrorCode,
    pub(in crate::daemon) reason: String,
}

impl No {
    pub(super) fn new(error: ErrorCode, reason: impl ToString) -> Self {
        Self { error, reason: reason.to_string() }
    }
}

/// As the loop and the task have it.
pub(in crate::daemon) type SharedLink = Rc<Link>;

/// See the module.
pub(in crate::daemon) struct Link {
    pub(in crate::daemon) worker: WorkerId,
    state: RefCell<State>,
    /// There is something to write, or nothing more to be said.
    pub(super) wake: Notify,
}

struct State {
    conversation: Conversation<Question, Fd>,
    tongue: Tongue,
    /// The worker said hello, in a version that we speak.
    has_spoken: bool,
    /// handover's hello, until it is said.
    greeting: Option<HandoverHello>,
    is_closed: bool,
    /// Messages that were refused to those who sent them.
    refused: u64,
    /// What its messages take of what all may have waiting.
    share: Share,
}

enum Tongue {
    Lines { read: Lines<Fd>, queue: Queue },
    Node(Box<Dialect<Fd>>),
}

/// What people and programs may know of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Facts {
    /// What the worker says that it is; `None` before its hello.
    pub(in crate::daemon) client: Option<String>,
    /// Messages that it has not taken.
    pub(in crate::daemon) waiting: usize,
    /// Messages that were refused to those who sent them.
    pub(in crate::daemon) refused: u64,
}

impl Link {
    /// A channel on which nothing was said; `None` where the pool has none.
    pub(in crate::daemon) fn new(
        dialect: &Configured,
        hello: HandoverHello,
        all: &Rc<Outgoing>,
    ) -> Option<SharedLink> {
        let offered = || Capabilities::from(OFFERED);
        let worker = hello.worker;
        let (conversation, tongue) = match dialect {
            Configured::None => return None,
            Configured::Handover => {
                let tongue = Tongue::Lines { read: Lines::new(), queue: Queue::default() };
                (Conversation::new(offered()), tongue)
            }
            Configured::Node { stop_message } => {
                let message = stop_message.as_ref().and_then(|text| Payload::of(text).ok());
                let dialect = Dialect::new(message);
                let implied = dialect.implied_hello();
                let conversation = Conversation::with_implied_hello(offered(), implied);
                (conversation, Tongue::Node(Box::new(dialect)))
            }
        };
        let state = State {
            conversation,
            tongue,
            greeting: Some(hello),
            has_spoken: false,
            is_closed: false,
            refused: 0,
            share: Share::of(all),
        };
        let link = Self { worker, state: RefCell::new(state), wake: Notify::new() };
        // A program in Node's dialect is told when it says hello itself.
        if matches!(dialect, Configured::Handover) {
            link.greet();
        }
        Some(Rc::new(link))
    }

    fn greet(&self) {
        let greeting = self.state.borrow_mut().greeting.take();
        if let Some(hello) = greeting {
            let _ = self.say(&ToWorker::Hello(hello), Vec::new());
        }
    }

    /// Queues a line. Messages and replies have a bound; the rest is small, and as many as the worker asked for.
    ///
    /// # Errors
    /// Why the worker will not get it. A question that this line answers is still open then.
    pub(super) fn say(&self, line: &ToWorker, fds: Vec<Fd>) -> Result<(), No> {
        let mut state = self.state.borrow_mut();
        if state.is_closed {
            return Err(No::new(ErrorCode::Gone, "it has no channel any more"));
        }
        if !fds.is_empty() && !state.conversation.can(Capability::Fds) {
            return Err(No::new(ErrorCode::Unsupported, "it takes no fds"));
        }
        // Sockets that were granted are bounded as well: a worker may ask for ever, and acknowledge none.
        if !fds.is_empty() && state.fds_under_way() > FDS_MAX {
            return Err(No::new(ErrorCode::QueueFull, "it does not acknowledge its fds"));
        }
        let message = match line {
            ToWorker::Message { data, .. } | ToWorker::Reply { data, .. } => Some(data.size()),
            _ => None,
        };
        if let Some(no) = message.and_then(|bytes| state.no_room(bytes)) {
            state.refused += 1;
            return Err(no);
        }
        let bytes = state.tongue.check(line, &fds).map_err(|error| No::new(error.code(), error))?;
        if !state.conversation.say(line) {
            return Err(No::new(ErrorCode::Unsupported, "it takes no such lines"));
        }
        let is_message = message.is_some();
        state.put(line, bytes, fds, is_message).map_err(|error| No::new(ErrorCode::Failed, error))?;
        state.settle();
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a line that is to be acknowledged or answered: `line` makes it of its id.
    ///
    /// # Errors
    /// As [`say`](Self::say); `question` comes back.
    pub(super) fn ask(
        &self,
        until: Until,
        question: Question,
        fds: Vec<Fd>,
        line: impl FnOnce(Id) -> ToWorker,
    ) -> Result<Id, (No, Question)> {
        let id = self.state.borrow_mut().conversation.ledger.open(until, question, fds.clone());
        match self.say(&line(id), fds) {
            Ok(()) => Ok(id),
            Err(no) => {
                let open = self.close_question(id).expect("it was opened above");
                Err((no, open.question))
            }
        }
    }

    /// Tells the worker to end.
    pub(in crate::daemon) fn drain(&self, why: Retirement, patience: Timeout) {
        let deadline_ms =
            patience.duration().map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let _ = self.say(&ToWorker::Drain { reason: why.to_string(), deadline_ms }, Vec::new());
    }

    /// Asks the worker whether it is there.
    pub(in crate::daemon) fn ping(&self) {
        let _ = self.ask(Until::Answer, Question::Ping, Vec::new(), |id| ToWorker::Ping { id });
    }

    /// Gives up waiting for an answer.
    pub(super) fn close_question(&self, id: Id) -> Option<Open<Question, Fd>> {
        self.state.borrow_mut().conversation.ledger.close(id)
    }

    /// Takes what one read brought.
    pub(super) fn push(&self, bytes: &[u8], fds: Vec<Fd>, fds_lost: bool) {
        match &mut self.state.borrow_mut().tongue {
            Tongue::Lines { read, .. } => read.push(bytes, fds, fds_lost),
            Tongue::Node(dialect) => dialect.push(bytes, fds),
        }
    }

    /// The next line that the worker said, put into its place. What needs no decision is answered here.
    ///
    /// # Errors
    /// What the worker did wrong: the channel's end.
    pub(super) fn hear(&self) -> Result<Option<Heard<Question, Fd>>, Fault> {
        let mut state = self.state.borrow_mut();
        let State { conversation, tongue, .. } = &mut *state;
        let next: Option<Received<ToHandover, Fd>> = match tongue {
            Tongue::Lines { read, .. } => read.next_line()?,
            Tongue::Node(dialect) => dialect.next_line()?,
        };
        let Some(received) = next else { return Ok(None) };
        let (heard, ack) = conversation.hear(received)?;
        let answers = ack.map(|re| ToWorker::Ack { re });
        let (answers, heard) = match heard {
            Heard::Refuse(refused) => {
                (answers.into_iter().chain([ToWorker::Refused(refused)]).collect(), Heard::Nothing)
            }
            heard => (answers.into_iter().collect::<Vec<_>>(), heard),
        };
        state.has_spoken |= matches!(heard, Heard::Hello);
        drop(state);
        if matches!(heard, Heard::Hello) {
            self.greet();
        }
        for answer in answers {
            let _ = self.say(&answer, Vec::new());
        }
        Ok(Some(heard))
    }

    /// Has the worker said hello, or does it need none?
    pub(in crate::daemon) fn is_open(&self) -> bool {
        let state = self.state.borrow();
        !state.is_closed && state.conversation.hello().is_some()
    }

    /// Can the worker do this?
    pub(super) fn can(&self, capability: Capability) -> bool {
        let state = self.state.borrow();
        !state.is_closed && state.conversation.can(capability)
    }

    /// Did it say hello itself?
    pub(in crate::daemon) fn has_spoken(&self) -> bool {
        self.state.borrow().has_spoken
    }

    /// Nothing more is to be read from a worker that does not take its answers.
    pub(super) fn is_choked(&self) -> bool {
        match &self.state.borrow().tongue {
            Tongue::Lines { queue, .. } => queue.answers() > ANSWERS_MAX,
            Tongue::Node(dialect) => dialect.queued().0 > ANSWERS_MAX + MESSAGES_MAX,
        }
    }

    /// Is there something to write?
    pub(super) fn has_output(&self) -> bool {
        match &mut self.state.borrow_mut().tongue {
            Tongue::Lines { queue, .. } => !queue.is_empty(),
            Tongue::Node(dialect) => dialect.next_write().is_some(),
        }
    }

    /// Lets `write` write what comes next, with its fds, and say how much went out; false: there was nothing.
    pub(super) fn write_next<E>(
        &self,
        write: impl FnOnce(&[u8], &[Fd]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let mut state = self.state.borrow_mut();
        let is_written = match &mut state.tongue {
            Tongue::Lines { queue, .. } => queue.write_next(write)?,
            Tongue::Node(dialect) => {
                let Some(next) = dialect.next_write() else { return Ok(false) };
                let written = write(next.bytes, next.fd.map_or(&[], std::slice::from_ref))?;
                dialect.wrote(written);
                true
            }
        };
        state.settle();
        Ok(is_written)
    }

    /// Nothing more is said. What was asked and is not answered comes back.
    pub(super) fn close(&self) -> Vec<Open<Question, Fd>> {
        let mut state = self.state.borrow_mut();
        state.is_closed = true;
        let open = state.conversation.ledger.close_all().map(|(_, open)| open).collect();
        if let Tongue::Lines { read, queue } = &mut state.tongue {
            (*read, *queue) = (Lines::new(), Queue::default());
        }
        state.share.settle(0);
        drop(state);
        self.wake.notify_one();
        open
    }

    /// Has it ended?
    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().is_closed
    }

    /// What there is to know of it.
    pub(in crate::daemon) fn facts(&self) -> Facts {
        let state = self.state.borrow();
        Facts {
            client: state.conversation.hello().map(|hello| hello.client.clone()),
            waiting: state.messages().0,
            refused: state.refused,
        }
    }
}

impl State {
    fn messages(&self) -> (usize, usize) {
        match &self.tongue {
            Tongue::Lines { queue, .. } => queue.messages(),
            Tongue::Node(dialect) => dialect.queued(),
        }
    }

    fn settle(&mut self) {
        let (_, bytes) = self.messages();
        self.share.settle(bytes);
    }

    /// Those of the line that is about to be said included: it is in the ledger already.
    fn fds_under_way(&self) -> usize {
        self.conversation.ledger.iter().map(|(_, open)| open.fds.len()).sum()
    }

    /// Why a message of so many bytes cannot be queued.
    fn no_room(&self, more: usize) -> Option<No> {
        let (messages, bytes) = self.messages();
        let why = if messages >= MESSAGES_MAX || (messages > 0 && bytes >= MESSAGE_BYTES_MAX) {
            "it does not take its messages"
        } else if !self.share.has_room(bytes, more) {
            "too many messages wait to be taken by all workers"
        } else {
            return None;
        };
        Some(No::new(ErrorCode::QueueFull, why))
    }

    fn put(
        &mut self,
        line: &ToWorker,
        encoded: Vec<u8>,
        fds: Vec<Fd>,
        is_message: bool,
    ) -> Result<(), Unsendable> {
        match &mut self.tongue {
            Tongue::Lines { queue, .. } => {
                queue.put(encoded, fds, is_message);
                Ok(())
            }
            Tongue::Node(dialect) => {
                let handles: Option<Vec<(Handle, Fd)>> =
                    fds.into_iter().map(|fd| Some((handle(&fd)?, fd))).collect();
                dialect.send(line, handles.ok_or(Unsendable::OneHandle)?)
            }
        }
    }
}

impl Tongue {
    /// The line as it is written, if it can be; in Node's dialect that is made later.
    fn check(&self, line: &ToWorker, fds: &[Fd]) -> Result<Vec<u8>, Unsendable> {
        match self {
            Self::Lines { .. } => line.encode(fds.len()),
            Self::Node(_) if fds.iter().any(|fd| handle(fd).is_none()) => Err(Unsendable::OneHandle),
            Self::Node(dialect) => dialect.check(line, fds.len()).map(|()| Vec::new()),
        }
    }
}

/// handover's first line to a worker.
pub(in crate::daemon) fn hello(name: &str, worker: WorkerId, at: &Place) -> HandoverHello {
    HandoverHello {
        version: version::NEWEST,
        versions: Versions::OURS,
        capabilities: OFFERED.into(),
        name: name.to_owned(),
        pool: at.pool.clone(),
        slot: at.slot,
        generation: at.generation,
        worker,
    }
}

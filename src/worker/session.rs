//! A worker's end of one channel, without I/O: bytes, fds and requests in; bytes, fds and events out.
//!
//! It keeps the order of lines that `docs/protocol.md` prescribes: one `hello`, one answer to each question, an acknowledgement for
//! each line with fds, and an end after which nothing comes. It decides nothing else: what a drain or a message means is for the
//! program, and how much a program may queue is for [`pending`](Session::pending)'s reader. Generic over what an fd is (`F`):
//! what is dropped here is closed.

use std::collections::{BTreeSet, VecDeque};

use crate::wire::version::NEWEST;
use crate::wire::{
    Capabilities, Capability, ErrorCode, Fault, HandoverHello, Id, Ledger, Line, Lines, NotReached, Owed,
    Payload, Refused, Sender, Target, ToHandover, ToWorker, Unsendable, Until, Wanted, WorkerHello, limits,
};

mod hear;
#[cfg(test)]
mod tests;

/// What waits for the socket, beyond which nothing more is read: a peer that takes no answers gets no more of them.
const UNREAD_MAX: usize = 4 << 20;

/// What handover said that concerns the program, or what became of what the program said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<F> {
    /// The first line: handover is there.
    Hello,
    /// Finish and exit.
    Drain {
        /// Why, for people.
        reason: String,
        /// When the stop signal comes, in milliseconds.
        deadline_ms: Option<u64>,
    },
    /// To be answered with [`Session::pong`] from where the program works.
    Ping(Id),
    /// This listener is no longer wanted.
    ListenerRemoved(String),
    /// A message. Where `reply` is there it is owed an answer: [`Session::reply`] or [`Session::refuse`].
    Message {
        /// The question to answer.
        reply: Option<Id>,
        /// Who sent it.
        from: Sender,
        /// What it says.
        data: Payload,
        /// What came with it.
        fds: Vec<F>,
    },
    /// The answer to a question of this side.
    Answer(Id, Answer<F>),
    /// The channel has ended; nothing follows. All questions that were open have had [`Answer::Lost`] before.
    Closed(End),
}

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<F> {
    /// Sockets.
    Granted {
        /// What they are called.
        name: String,
        /// What they are bound to.
        address: String,
        /// The sockets.
        fds: Vec<F>,
    },
    /// A message was put into queues.
    Sent {
        /// Into how many.
        receivers: u64,
        /// Who did not get it.
        refused: Vec<NotReached>,
    },
    /// A worker replied.
    Reply {
        /// Who.
        from: Sender,
        /// What.
        data: Payload,
        /// What came with it.
        fds: Vec<F>,
    },
    /// No.
    Refused(Refused),
    /// The channel ended before an answer came.
    Lost,
}

/// How a channel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// handover closed it: it is gone, and the program should finish.
    Gone,
    /// handover broke the rules.
    Fault(Fault),
    /// handover says that this side broke them, or that it does not speak this version.
    Refused(Refused),
    /// handover is newer than what is spoken here.
    TooNew {
        /// The oldest version that it speaks.
        oldest: u64,
    },
    /// This side closed it.
    Closed,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Listen,
    Sent,
    Reply,
    /// Nothing but the acknowledgement of the fds of the reply to this.
    Replied(Id),
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nobody wants to know.
    Nothing,
    /// Whether it was delivered.
    Sent,
    /// A reply, within so many milliseconds.
    Reply(Option<u64>),
}

/// A line on its way out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// The line in the ledger whose fds go with the first byte.
    fds_of: Option<Id>,
}

/// A worker's end of one channel.
///
/// ```
/// use handover::wire::{Capabilities, Capability, ToHandover};
/// use handover::worker::session::{Event, Session};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut session: Session<std::os::fd::OwnedFd> = Session::new(Capabilities::from([Capability::Ping]), "example");
/// session.push(b"{\"type\":\"hello\",\"version\":1,\"versions\":[1,1],\"capabilities\":[],\"name\":\"a\",\"pool\":\"web\",\"slot\":0,\"generation\":1,\"worker\":1}\n", [], false);
/// session.push(b"{\"type\":\"ping\",\"id\":1}\n", [], false);
/// while let Some(event) = session.next_event() {
///     if let Event::Ping(id) = event {
///         session.pong(id);
///     }
/// }
/// session.say(&ToHandover::Ready)?;
/// let mut written = Vec::new();
/// while let Some((bytes, _fds)) = session.next_write() {
///     let count = bytes.len();
///     written.extend_from_slice(bytes);
///     session.wrote(count);
/// }
/// assert!(written.ends_with(b"{\"type\":\"pong\",\"re\":1}\n{\"type\":\"ready\"}\n"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Session<F> {
    offered: Capabilities,
    hello: Option<HandoverHello>,
    lines: Lines<F>,
    out: VecDeque<Outgoing>,
    pending: usize,
    ledger: Ledger<Question, F>,
    /// Open lines whose answer is of no interest any more.
    abandoned: BTreeSet<Id>,
    owed: Owed,
    events: VecDeque<Event<F>>,
    takes_messages: bool,
    is_draining: bool,
    is_open: bool,
}

impl<F> Session<F> {
    /// Begins: this side's `hello` is the first line to be written. `client` is for people.
    pub fn new(offered: Capabilities, client: &str) -> Self {
        let mut session = Self {
            takes_messages: offered.has(Capability::Messages),
            offered,
            hello: None,
            lines: Lines::new(),
            out: VecDeque::new(),
            pending: 0,
            ledger: Ledger::new(),
            abandoned: BTreeSet::new(),
            owed: Owed::new(),
            events: VecDeque::new(),
            is_draining: false,
            is_open: true,
        };
        let capabilities = session.offered.clone();
        let hello = WorkerHello { version: NEWEST, capabilities, client: client.to_owned() };
        session.answer(&ToHandover::Hello(hello), None);
        session
    }

    /// What handover said of itself and of this worker.
    pub const fn hello(&self) -> Option<&HandoverHello> {
        self.hello.as_ref()
    }

    /// Whether handover named this capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.is_open && self.hello.as_ref().is_some_and(|hello| hello.capabilities.has(capability))
    }

    /// Whether lines can still come and go.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// How many bytes wait to be written.
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// Whether more should be read now.
    pub const fn wants_read(&self) -> bool {
        self.is_open && self.pending < UNREAD_MAX
    }

    /// Whether messages are taken from now on; those that are not are refused, `queue_full`.
    pub fn set_takes_messages(&mut self, takes: bool) {
        self.takes_messages = takes;
    }

    /// Takes what one `recvmsg` brought. Then take all [events](Self::next_event).
    pub fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>, is_cut_off: bool) {
        if !self.is_open {
            return;
        }
        self.lines.push(bytes, fds, is_cut_off);
        while self.is_open {
            match self.lines.next_line::<ToWorker>() {
                Ok(None) => return,
                Ok(Some(received)) => {
                    if let Err(fault) = self.hear(received) {
                        self.fail(fault);
                    }
                }
                Err(fault) => self.fail(fault),
            }
        }
    }

    /// The other end is closed.
    pub fn end_of_file(&mut self) {
        self.end(End::Gone);
    }

    /// Gives up this end; what waits to be written is dropped.
    pub fn close(&mut self) {
        self.end(End::Closed);
    }

    /// What happened, in its order.
    pub fn next_event(&mut self) -> Option<Event<F>> {
        self.events.pop_front()
    }

    /// What to write next, with the fds that go with its first byte. Say how much was taken with [`wrote`](Self::wrote).
    pub fn next_write(&self) -> Option<(&[u8], &[F])> {
        let front = self.out.front()?;
        let open = front.fds_of.filter(|_| front.written == 0).and_then(|id| self.ledger.get(id));
        Some((&front.bytes[front.written..], open.map_or(&[], |open| &open.fds)))
    }

    /// The kernel took so many bytes of [`next_write`](Self::next_write).
    pub fn wrote(&mut self, count: usize) {
        let Some(front) = self.out.front_mut() else { return };
        let count = count.min(front.bytes.len() - front.written);
        front.written += count;
        self.pending -= count;
        if front.written == front.bytes.len() {
            self.out.pop_front();
        }
    }

    /// Says a line of the base or a record.
    ///
    /// # Errors
    /// Where it would break the limits.
    pub fn say(&mut self, line: &ToHandover) -> Result<(), Unsendable> {
        self.queue(line, 0, None)
    }

    /// Asks for a listener. `None` after the end: nobody is there to answer.
    ///
    /// # Errors
    /// Where the request would break the limits.
    pub fn listen(&mut self, what: Wanted) -> Result<Option<Id>, Unsendable> {
        if !self.is_open {
            return Ok(None);
        }
        let id = self.ledger.open(Until::Answer, Question::Listen, Vec::new());
        self.queue_open(&ToHandover::Listen { id, what }, id).map(Some)
    }

    /// Sends a message; with an id where something comes back, which it does not after the end. Fds need an id.
    ///
    /// # Errors
    /// Where it would break the limits; the fds are dropped then.
    pub fn message(
        &mut self,
        to: Target,
        data: Payload,
        wish: Wish,
        fds: Vec<F>,
    ) -> Result<Option<Id>, Unsendable> {
        if !self.is_open {
            return Ok(None);
        }
        let question = match wish {
            Wish::Reply(_) => Question::Reply,
            Wish::Sent => Question::Sent,
            Wish::Nothing => {
                let line = ToHandover::Message { id: None, to, data, reply: false, timeout_ms: None };
                return self.queue(&line, fds.len(), None).map(|()| None);
            }
        };
        let (reply, timeout_ms) = match wish {
            Wish::Reply(timeout_ms) => (true, timeout_ms),
            _ => (false, None),
        };
        let id = self.ledger.open(Until::Answer, question, fds);
        self.queue_open(&ToHandover::Message { id: Some(id), to, data, reply, timeout_ms }, id).map(Some)
    }

    /// How many questions have no answer yet.
    pub fn questions(&self) -> usize {
        self.ledger.len()
    }

    /// Whether replies with fds were said whose fds have not arrived yet.
    pub fn awaits_arrival(&self) -> bool {
        self.ledger.iter().any(|(_, open)| open.until == Until::Ack)
    }

    /// Nobody waits for this answer any more.
    pub fn abandon(&mut self, id: Id) {
        // It stays open: its fds may not be written yet, and handover counts it until it has answered.
        if self.ledger.get(id).is_some() {
            self.abandoned.insert(id);
        }
    }

    /// Answers a message. Nothing happens where no answer is owed.
    ///
    /// # Errors
    /// Where it would break the limits; the answer is still owed then, and the fds are dropped.
    pub fn reply(&mut self, re: Id, data: Payload, fds: Vec<F>) -> Result<(), Unsendable> {
        if !self.owes(re) {
            return Ok(());
        }
        let count = fds.len();
        let id = (count > 0).then(|| self.ledger.open(Until::Ack, Question::Replied(re), fds));
        let line = ToHandover::Reply { re, id, data };
        match id {
            Some(id) => self.queue_open(&line, id).map(drop)?,
            None => self.queue(&line, 0, None)?,
        }
        let _ = self.owed.settle(re);
        Ok(())
    }

    /// Refuses a message; a word of one's own is cut as a text is. Nothing happens where no answer is owed.
    pub fn refuse(&mut self, re: Id, error: ErrorCode, reason: &str) {
        let error = match error {
            ErrorCode::Other(word) => ErrorCode::Other(limits::cut(word, limits::TEXT_MAX)),
            known => known,
        };
        if self.owes(re) && self.owed.settle(re) {
            self.answer(
                &ToHandover::Refused(Refused { re: Some(re), error, reason: reason.to_owned() }),
                None,
            );
        }
    }

    /// Answers a ping. Nothing happens where no answer is owed.
    pub fn pong(&mut self, re: Id) {
        if self.owes(re) && self.owed.settle(re) {
            self.answer(&ToHandover::Pong { re }, None);
        }
    }

    fn owes(&self, re: Id) -> bool {
        self.is_open && self.owed.check(re).is_err()
    }

    fn queue_open(&mut self, line: &ToHandover, id: Id) -> Result<Id, Unsendable> {
        let fds = self.ledger.get(id).map_or(0, |open| open.fds.len());
        match self.queue(line, fds, Some(id)) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.ledger.close(id);
                Err(error)
            }
        }
    }

    fn queue(&mut self, line: &ToHandover, fds: usize, id: Option<Id>) -> Result<(), Unsendable> {
        let bytes = line.encode(fds)?;
        if self.is_open {
            self.pending += bytes.len();
            self.out.push_back(Outgoing { bytes, written: 0, fds_of: id.filter(|_| fds > 0) });
        }
        Ok(())
    }

    /// Queues a line of this side's own making, which keeps the limits by itself.
    fn answer(&mut self, line: &ToHandover, id: Option<Id>) {
        let queued = self.queue(line, 0, id);
        debug_assert!(queued.is_ok(), "an answer is short and has no fds");
    }
}

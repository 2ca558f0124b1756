//! Node's lines to ours and back.

use serde_json::value::RawValue;

use super::queue::{Entry, Outcome, Queue, Write};
use crate::wire::fault::{Fault, Unsendable};
use crate::wire::halves::whole;
use crate::wire::kind::{Carries, Kind};
use crate::wire::limits::{DATA_MAX, DEPTH_MAX, FDS_MAX, LARGE_LINE_MAX, LINE_MAX};
use crate::wire::line::{Line, read};
use crate::wire::lines::{Frames, Received};
use crate::wire::members::{Members, depth};
use crate::wire::payload::Payload;
use crate::wire::to_handover::{ToHandover, WorkerHello};
use crate::wire::to_worker::ToWorker;
use crate::wire::value::{Capabilities, Capability, ErrorCode, Id, Refused, Target};
use crate::wire::version;

const ACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
const NACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n";

/// What may stand around a line of ours: `NODE_HANDLE`'s object, its `msg`, and `handover`.
const WRAPPING_DEPTH: usize = 2;

/// What Node makes of an fd. It looks at the socket itself, too: a type that does not fit is an exception in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// A connection, TCP or Unix: `net.Socket`.
    Socket,
    /// A listening socket, TCP or Unix: `net.Server`.
    Server,
    /// A UDP socket over IPv4: `dgram.Socket`.
    Datagram4,
    /// A UDP socket over IPv6: `dgram.Socket`.
    Datagram6,
}

impl Handle {
    /// The members that say so.
    const fn members(self) -> &'static str {
        match self {
            Self::Socket => r#""type":"net.Socket""#,
            Self::Server => r#""type":"net.Server""#,
            Self::Datagram4 => r#""type":"dgram.Socket","dgramType":"udp4""#,
            Self::Datagram6 => r#""type":"dgram.Socket","dgramType":"udp6""#,
        }
    }
}

/// handover's end of a channel to a Node program.
///
/// Give it each read with [`push`](Self::push) and take lines with [`next_line`](Self::next_line), as with [`Lines`](crate::wire::Lines); give it what is to be
/// said with [`send`](Self::send), and write what [`next_write`](Self::next_write) says. It acknowledges handles by itself, so the lines that it
/// gives need no `ack`, and one that is sent goes nowhere; Node's own acknowledgements come out as `ack` of the line that carried
/// the fds.
#[derive(Debug)]
pub struct Dialect<F> {
    frames: Frames<F>,
    fault: Option<Fault>,
    queue: Queue<F>,
    stop_message: Option<Payload>,
    /// The program said `{handover: {type: "hello", …}}`.
    speaks_lines: bool,
}

impl<F> Dialect<F> {
    /// With a program that is told to drain by `stop_message`, if there is one.
    pub const fn new(stop_message: Option<Payload>) -> Self {
        Self { frames: Frames::new(), fault: None, queue: Queue::new(), stop_message, speaks_lines: false }
    }

    /// The `hello` that such a program need not say; see [`Conversation::with_implied_hello`](crate::wire::Conversation::with_implied_hello).
    pub fn implied_hello(&self) -> WorkerHello {
        let drain = self.stop_message.as_ref().map(|_| Capability::Drain);
        let capabilities: Capabilities =
            drain.into_iter().chain([Capability::Messages, Capability::Fds]).collect();
        WorkerHello { version: version::NEWEST, capabilities, client: "node".to_owned() }
    }

    /// Whether the program said `hello` itself, and gets lines of ours since then.
    pub const fn speaks_lines(&self) -> bool {
        self.speaks_lines
    }

    /// Takes what one `recvmsg` brought. Fds that the kernel cut off are asked for again when their line comes.
    pub fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>) {
        if self.fault.is_none()
            && let Err(fault) = self.frames.push(bytes, fds)
        {
            self.fail(fault);
        }
    }

    /// The next thing that the program said; `None` where more has to be read first.
    ///
    /// # Errors
    ///
    /// What the program did wrong. All fds that no line took are dropped then, and the channel is to be closed.
    pub fn next_line(&mut self) -> Result<Option<Received<ToHandover, F>>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        loop {
            match self.take() {
                Ok(None) => return Ok(None),
                Ok(Some(None)) => {}
                Ok(Some(Some(received))) => return Ok(Some(received)),
                Err(fault) => return Err(self.fail(fault)),
            }
        }
    }

    /// Whether [`send`](Self::send) would take this line with so many fds: to be asked before anything is counted as said.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub fn check(&self, line: &ToWorker, fds: usize) -> Result<(), Unsendable> {
        if fds > FDS_MAX {
            return Err(Unsendable::FdsTooMany { fds });
        }
        match line {
            // Only sockets that were asked for can be parts that somebody puts together.
            ToWorker::Message { .. } | ToWorker::Reply { .. } if fds > 1 => Err(Unsendable::OneHandle),
            _ if self.speaks_lines => line.encode(fds.min(1)).map(drop),
            ToWorker::Message { reply: true, .. } => Err(Unsendable::NoReply),
            ToWorker::Message { data, .. } => check_plain(data),
            _ => Ok(()),
        }
    }

    /// Queues what is to be said, with its fds and what Node is to make of them. A program that did not say `hello` gets `message` as its
    /// `data`, `drain` as the `stop_message`, and nothing else.
    ///
    /// # Errors
    ///
    /// Where Node or the page cannot have it so. Nothing is queued then, and the fds are dropped.
    pub fn send(&mut self, line: &ToWorker, handles: Vec<(Handle, F)>) -> Result<(), Unsendable> {
        self.check(line, handles.len())?;
        if self.speaks_lines {
            return self.send_line(line, handles);
        }
        match line {
            ToWorker::Drain { .. } => {
                if let Some(message) = self.stop_message.clone() {
                    self.put(message.json(), None, None, true);
                }
            }
            ToWorker::Message { id, data, .. } => {
                self.put(data.json(), handles.into_iter().next(), *id, true);
            }
            _ => {}
        }
        Ok(())
    }

    /// What is to be written next, if anything is. Tell how much was, with [`wrote`](Self::wrote).
    pub fn next_write(&mut self) -> Option<Write<'_, F>> {
        self.queue.next_write()
    }

    /// So many bytes of the last [`next_write`](Self::next_write) were written, and its fd with the first of them.
    pub fn wrote(&mut self, bytes: usize) {
        self.queue.wrote(bytes);
    }

    /// How many lines the program has not taken, those included that wait for an acknowledgement, and how many bytes they have.
    pub fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.size())
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.frames = Frames::new();
        self.fault = Some(fault.clone());
        fault
    }

    /// `None`: there is no whole line. `Some(None)`: there was one, of which nothing follows.
    #[expect(clippy::option_option, reason = "a line of Node's own is a line, and says nothing to handover")]
    fn take(&mut self) -> Result<Option<Option<Received<ToHandover, F>>>, Fault> {
        let Self { frames, queue, speaks_lines, .. } = self;
        let Some(frame) = frames.next()? else { return frames.check_rest().map(|()| None) };
        let Frames { bytes, fds, .. } = frames;
        let text = whole(text_of(&bytes[frame])?);
        let value: &RawValue = serde_json::from_str(&text).map_err(|error| Fault::not_json(&error))?;
        let Some(members) = Members::of_value(value).filter(is_nodes_own) else {
            return said(value, Vec::new(), speaks_lines).map(Some);
        };
        let cmd: String = members.lenient("cmd").unwrap_or_default();
        let outcome = match cmd.as_str() {
            "NODE_HANDLE_ACK" => queue.acknowledged(),
            "NODE_HANDLE_NACK" => queue.lost(),
            "NODE_HANDLE" => {
                let Some(fd) = fds.pop_front() else {
                    queue.put_control(NACK);
                    return Ok(Some(None));
                };
                queue.put_control(ACK);
                let message = members.raw("msg").unwrap_or(RawValue::NULL);
                if Members::of_value(message).as_ref().is_some_and(is_nodes_own) {
                    return Ok(Some(None));
                }
                return said(message, vec![fd], speaks_lines).map(Some);
            }
            _ => Outcome::Nothing,
        };
        Ok(Some(told(&outcome)))
    }

    fn send_line(&mut self, line: &ToWorker, handles: Vec<(Handle, F)>) -> Result<(), Unsendable> {
        if matches!(line, ToWorker::Ack { .. }) {
            return Ok(());
        }
        let text = String::from_utf8(line.encode(handles.len().min(1))?).map_err(|_| Unsendable::NotALine)?;
        let text = text.trim_end();
        let parts = handles.len();
        if parts <= 1 {
            self.put(&format!("{{\"handover\":{text}}}"), handles.into_iter().next(), line.id(), true);
            return Ok(());
        }
        let open = text.strip_suffix('}').unwrap_or(text);
        for (part, handle) in handles.into_iter().enumerate() {
            let text = format!("{{\"handover\":{open},\"part\":{part},\"parts\":{parts}}}}}");
            self.put(&text, Some(handle), line.id(), part + 1 == parts);
        }
        Ok(())
    }

    fn put(&mut self, message: &str, handle: Option<(Handle, F)>, id: Option<Id>, is_last: bool) {
        let (text, fd) = match handle {
            None => (format!("{message}\n"), None),
            Some((handle, fd)) => {
                let text = format!("{{\"cmd\":\"NODE_HANDLE\",{},\"msg\":{message}}}\n", handle.members());
                (text, Some(fd))
            }
        };
        self.queue.put(Entry::new(text.into_bytes(), fd, id, is_last));
    }
}

/// A line of Node's within the limits that hold for what stands around ours, too.
fn text_of(line: &[u8]) -> Result<&str, Fault> {
    if line.len() >= LARGE_LINE_MAX {
        return Err(Fault::TooLong { limit: LARGE_LINE_MAX });
    }
    let text = std::str::from_utf8(line).map_err(|_| Fault::NotUtf8)?;
    if depth(text) > DEPTH_MAX + WRAPPING_DEPTH { Err(Fault::TooDeep) } else { Ok(text) }
}

/// Whether a program that speaks no lines can be told this.
fn check_plain(data: &Payload) -> Result<(), Unsendable> {
    if serde_json::from_str(data.json()).ok().as_ref().is_some_and(is_nodes_own) {
        return Err(Unsendable::NodesOwn);
    }
    if data.size() > DATA_MAX {
        return Err(Unsendable::DataTooLong { bytes: data.size() });
    }
    Ok(())
}

/// As Node's `isInternal`: more than the prefix alone.
fn is_nodes_own(members: &Members<'_>) -> bool {
    const PREFIX: &str = "NODE_";
    members.lenient::<String>("cmd").is_some_and(|cmd| cmd.starts_with(PREFIX) && cmd.len() > PREFIX.len())
}

/// What an acknowledgement of Node's says to handover.
fn told<F>(outcome: &Outcome) -> Option<Received<ToHandover, F>> {
    let line = match *outcome {
        Outcome::Arrived(re) => ToHandover::Ack { re },
        Outcome::Lost(re) => ToHandover::Refused(Refused {
            re: Some(re),
            error: ErrorCode::Failed,
            reason: "the fd was lost on the way, four times".to_owned(),
        }),
        Outcome::Nothing => return None,
    };
    Some(Received { line, fds: Vec::new() })
}

/// What a message of the program says.
fn said<F>(
    value: &RawValue,
    fds: Vec<F>,
    speaks_lines: &mut bool,
) -> Result<Option<Received<ToHandover, F>>, Fault> {
    let outer = Members::of_value(value);
    let inner = outer.filter(|outer| outer.total() == 1).and_then(|outer| outer.raw("handover"));
    if let Some((inner, members)) = inner.and_then(|raw| Some((raw, Members::of_value(raw)?))) {
        let line = line_of_ours(inner, &members, fds.len())?;
        *speaks_lines |= matches!(line, ToHandover::Hello(_));
        return Ok(Some(Received { line, fds }));
    }
    if fds.is_empty() && serde_json::from_str::<String>(value.get()).is_ok_and(|text| text == "ready") {
        return Ok(Some(Received { line: ToHandover::Ready, fds }));
    }
    if value.get().len() > DATA_MAX {
        return Err(Fault::DataTooLong);
    }
    if depth(value.get()) >= DEPTH_MAX {
        return Err(Fault::TooDeep);
    }
    let data = Payload::taken(value);
    let line = ToHandover::Message { id: None, to: Target::Handover, data, reply: false, timeout_ms: None };
    Ok(Some(Received { line, fds }))
}

/// Reads `{…}` of `{handover: {…}}`. How many fds it has is known from outside; it needs no id for them.
fn line_of_ours(raw: &RawValue, members: &Members<'_>, fds: usize) -> Result<ToHandover, Fault> {
    let name: String = members.lenient("type").ok_or(Fault::NoType)?;
    let known = ToHandover::KINDS.iter().find(|kind| kind.name == name);
    if depth(raw.get()) > DEPTH_MAX {
        return Err(Fault::TooDeep);
    }
    let limit = known.map_or(LINE_MAX, Kind::limit);
    if raw.get().len() >= limit {
        return Err(Fault::TooLong { limit });
    }
    if let Some(kind) = known.filter(|kind| fds > 0 && kind.carries == Carries::Nothing) {
        return Err(Fault::FdsNotCarried { kind: kind.name });
    }
    read(members, name, known)
}

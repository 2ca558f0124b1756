//! What a worker says.

use super::fault::{Fault, Unsendable};
use super::kind::Kind;
use super::limits::{CLIENT_MAX, TEXT_MAX, cut};
use super::line::parts::Parts;
use super::line::{Line, Unknown};
use super::members::{Members, Reading};
use super::payload::Payload;
use super::record::{Record, read_record, write_record};
use super::to_worker::{capabilities, refused};
use super::value::{Capabilities, Id, Refused, Target};
use super::writer::Writer;
use crate::id::{PoolName, SlotIndex, WorkerId};

/// The first line: what the worker speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerHello {
    /// The newest version that it speaks.
    pub version: u64,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it is, for people; cut at [`CLIENT_MAX`] bytes, may be empty.
    pub client: String,
}

/// The socket that a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of the pool's listeners, by its name.
    Name(String),
    /// An address, as the configuration writes it.
    Address(String),
}

/// One line from a worker to handover.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToHandover {
    /// The first line.
    Hello(WorkerHello),
    /// It can serve.
    Ready,
    /// What it does, for people.
    Status {
        /// Cut at [`TEXT_MAX`] bytes.
        text: String,
    },
    /// It turns.
    Heartbeat,
    /// It needs more time for its start or its end.
    ExtendTimeout {
        /// How much, in milliseconds from now.
        ms: u64,
    },
    /// It is ending by itself.
    Stopping,
    /// It wishes to be replaced.
    Replace {
        /// Why, for people; cut at [`TEXT_MAX`] bytes.
        reason: Option<String>,
    },
    /// It is there.
    Pong {
        /// The `ping`.
        re: Id,
    },
    /// It asks for a listening socket.
    Listen {
        /// For the `grant`.
        id: Id,
        /// Which one.
        what: Wanted,
    },
    /// A message, with fds if there are any.
    Message {
        /// For its answer; `None` where nobody waits for one.
        id: Option<Id>,
        /// Whom it is for; one receiver where it has fds or wants a reply.
        to: Target,
        /// What it says.
        data: Payload,
        /// Whether a reply is wanted.
        reply: bool,
        /// How long the reply is waited for, in milliseconds, at most
        /// [`REPLY_TIMEOUT_MS_MAX`](super::limits::REPLY_TIMEOUT_MS_MAX); `None` for
        /// [`REPLY_TIMEOUT_MS`](super::limits::REPLY_TIMEOUT_MS).
        timeout_ms: Option<u64>,
    },
    /// The reply to a message, with fds if there are any.
    Reply {
        /// The message.
        re: Id,
        /// For the acknowledgement.
        id: Option<Id>,
        /// What it says.
        data: Payload,
    },
    /// A record.
    Log(Record),
    /// The fds of a line have arrived.
    Ack {
        /// The line.
        re: Id,
    },
    /// No.
    Refused(Refused),
    /// A line whose members are right each by itself, and make no sense together: `bad_request`.
    Senseless {
        /// For the answer.
        id: Option<Id>,
        /// What makes no sense, for people.
        why: &'static str,
    },
    /// A line of a later version.
    Unknown(Unknown),
}

const HELLO: Kind = Kind::plain("hello", &["version", "capabilities", "client"]);
const READY: Kind = Kind::plain("ready", &[]);
const STATUS: Kind = Kind::plain("status", &["text"]);
const HEARTBEAT: Kind = Kind::plain("heartbeat", &[]);
const EXTEND_TIMEOUT: Kind = Kind::plain("extend_timeout", &["ms"]);
const STOPPING: Kind = Kind::plain("stopping", &[]);
const REPLACE: Kind = Kind::plain("replace", &["reason"]);
const PONG: Kind = Kind::plain("pong", &["re"]);
const LISTEN: Kind = Kind::plain("listen", &["id", "name", "address"]);
const MESSAGE: Kind = Kind::large("message", &["to", "data", "id", "reply", "timeout_ms", "fds"]);
const REPLY: Kind = Kind::large("reply", &["re", "data", "fds", "id"]);
const LOG: Kind = Kind::plain("log", &["level", "message", "target", "fields"]);
const ACK: Kind = Kind::plain("ack", &["re"]);
const REFUSED: Kind = Kind::plain("refused", &["re", "error", "reason"]);

impl Line for ToHandover {
    const KINDS: &'static [Kind] = &[
        HELLO,
        READY,
        STATUS,
        HEARTBEAT,
        EXTEND_TIMEOUT,
        STOPPING,
        REPLACE,
        PONG,
        LISTEN,
        MESSAGE,
        REPLY,
        LOG,
        ACK,
        REFUSED,
    ];

    fn kind(&self) -> Option<&'static Kind> {
        Some(match self {
            Self::Hello(_) => &HELLO,
            Self::Ready => &READY,
            Self::Status { .. } => &STATUS,
            Self::Heartbeat => &HEARTBEAT,
            Self::ExtendTimeout { .. } => &EXTEND_TIMEOUT,
            Self::Stopping => &STOPPING,
            Self::Replace { .. } => &REPLACE,
            Self::Pong { .. } => &PONG,
            Self::Listen { .. } => &LISTEN,
            Self::Message { .. } => &MESSAGE,
            Self::Reply { .. } => &REPLY,
            Self::Log(_) => &LOG,
            Self::Ack { .. } => &ACK,
            Self::Refused(_) => &REFUSED,
            Self::Senseless { .. } | Self::Unknown(_) => return None,
        })
    }

    fn id(&self) -> Option<Id> {
        match self {
            Self::Listen { id, .. } => Some(*id),
            Self::Message { id, .. } | Self::Reply { id, .. } | Self::Senseless { id, .. } => *id,
            Self::Unknown(unknown) => unknown.id,
            _ => None,
        }
    }

    fn re(&self) -> Option<Id> {
        match self {
            Self::Pong { re } | Self::Reply { re, .. } | Self::Ack { re } => Some(*re),
            Self::Refused(refused) => refused.re,
            _ => None,
        }
    }
}

impl Parts for ToHandover {
    fn read(kind: &'static Kind, line: &Reading<'_>) -> Result<Self, Fault> {
        Ok(match kind.name {
            "hello" => Self::Hello(WorkerHello {
                version: line.number("version")?,
                capabilities: capabilities(line)?,
                client: cut(line.may_text("client")?.unwrap_or_default(), CLIENT_MAX),
            }),
            "ready" => Self::Ready,
            "status" => Self::Status { text: cut(line.text("text")?, TEXT_MAX) },
            "heartbeat" => Self::Heartbeat,
            "extend_timeout" => Self::ExtendTimeout { ms: line.number("ms")? },
            "stopping" => Self::Stopping,
            "replace" => {
                Self::Replace { reason: line.may_text("reason")?.map(|reason| cut(reason, TEXT_MAX)) }
            }
            "pong" => Self::Pong { re: line.id("re")? },
            "listen" => listen(line)?,
            "message" => message(line)?,
            "reply" => {
                Self::Reply { re: line.id("re")?, id: line.may_id("id")?, data: line.payload("data")? }
            }
            "log" => Self::Log(read_record(line)?),
            "ack" => Self::Ack { re: line.id("re")? },
            _ => Self::Refused(refused(line)?),
        })
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }

    fn write(&self, line: &mut Writer) -> Result<(), Unsendable> {
        match self {
            Self::Hello(hello) => {
                line.number("version", hello.version);
                line.words("capabilities", hello.capabilities.iter());
                line.cut_text("client", &hello.client, CLIENT_MAX);
            }
            Self::Ready | Self::Heartbeat | Self::Stopping => {}
            Self::Status { text } => line.cut_text("text", text, TEXT_MAX),
            Self::ExtendTimeout { ms } => line.number("ms", *ms),
            Self::Replace { reason: None } => {}
            Self::Replace { reason: Some(reason) } => line.cut_text("reason", reason, TEXT_MAX),
            Self::Pong { re } | Self::Ack { re } => line.id("re", *re),
            Self::Listen { id, what } => {
                line.id("id", *id);
                match what {
                    Wanted::Name(name) => line.text("name", name),
                    Wanted::Address(address) => line.text("address", address),
                }
            }
            Self::Message { reply: true, id: None, .. } => return Err(Unsendable::ReplyWithoutId),
            Self::Message { id, to, data, reply, timeout_ms } => {
                line.may_id("id", *id);
                write_target(to, line)?;
                line.payload("data", data);
                line.flag("reply", *reply);
                line.may_number("timeout_ms", *timeout_ms);
            }
            Self::Reply { re, id, data } => {
                line.id("re", *re);
                line.may_id("id", *id);
                line.payload("data", data);
            }
            Self::Log(record) => write_record(record, line)?,
            Self::Refused(refused) => line.refused(refused),
            Self::Senseless { .. } | Self::Unknown(_) => return Err(Unsendable::NotALine),
        }
        Ok(())
    }
}

fn listen(line: &Reading<'_>) -> Result<ToHandover, Fault> {
    let id = line.id("id")?;
    Ok(match (line.may_text("name")?, line.may_text("address")?) {
        (Some(name), None) => ToHandover::Listen { id, what: Wanted::Name(name) },
        (None, Some(address)) => ToHandover::Listen { id, what: Wanted::Address(address) },
        (Some(_), Some(_)) => ToHandover::Senseless { id: Some(id), why: "name and address in one request" },
        (None, None) => ToHandover::Senseless { id: Some(id), why: "neither a name nor an address" },
    })
}

fn message(line: &Reading<'_>) -> Result<ToHandover, Fault> {
    let (id, reply) = (line.may_id("id")?, line.flag("reply")?);
    if reply {
        line.must("id", id)?;
    }
    let timeout_ms = line.may_number("timeout_ms")?.map(|ms| ms.min(super::limits::REPLY_TIMEOUT_MS_MAX));
    let data = line.payload("data")?;
    Ok(match target(line)? {
        Err(why) => ToHandover::Senseless { id, why },
        Ok(to) if reply && !to.is_one() => {
            ToHandover::Senseless { id, why: "a reply is wanted from more than one receiver" }
        }
        Ok(to) => ToHandover::Message { id, to, data, reply, timeout_ms },
    })
}

/// Whom a message is for, or why that makes no sense. What later versions may add makes none, and is no fault.
fn target(line: &Reading<'_>) -> Result<Result<Target, &'static str>, Fault> {
    const EXPECTED: &str = "a string, or an object with worker, or with pool and perhaps slot";
    let raw = line.must("to", line.raw("to"))?;
    // An attempt to read an object as a string makes an error with a text, which costs more than all else here.
    let word = || serde_json::from_str::<String>(raw.get()).ok();
    if let Some(word) = raw.get().starts_with('"').then(word).flatten() {
        return Ok(match word.as_str() {
            "handover" => Ok(Target::Handover),
            "all" => Ok(Target::All),
            _ => Err("no such receiver"),
        });
    }
    let wrong = || line.wrong("to", EXPECTED);
    let members = Members::of_value(raw).ok_or_else(wrong)?;
    let worker =
        members.raw("worker").map(|_| members.lenient::<u64>("worker").and_then(Id::new).ok_or_else(wrong));
    let slot = members.raw("slot").map(|_| members.lenient::<u32>("slot").ok_or_else(wrong));
    let pool = members.raw("pool").map(|_| members.lenient::<String>("pool").ok_or_else(wrong));
    Ok(match (worker.transpose()?, pool.transpose()?.map(PoolName::new), slot.transpose()?) {
        (Some(worker), None, None) => Ok(Target::Worker(WorkerId(worker.get()))),
        (None, Some(pool), None) => Ok(Target::Pool(pool)),
        (None, Some(pool), Some(slot)) => Ok(Target::Slot(pool, SlotIndex(slot))),
        (Some(_), _, _) => Err("a worker and a pool or slot as receivers of one message"),
        (None, None, Some(_)) => Err("a slot without its pool"),
        (None, None, None) => Err("no receiver that is known"),
    })
}

fn write_target(to: &Target, line: &mut Writer) -> Result<(), Unsendable> {
    let mut object = Writer::object();
    match to {
        Target::Handover | Target::All => {
            line.text("to", if *to == Target::All { "all" } else { "handover" });
            return Ok(());
        }
        Target::Worker(worker) => object.number("worker", worker.0),
        Target::Pool(pool) => object.text("pool", pool.as_str()),
        Target::Slot(pool, slot) => {
            object.text("pool", pool.as_str());
            object.number("slot", slot.0);
        }
    }
    line.json("to", &object.finish()?);
    Ok(())
}

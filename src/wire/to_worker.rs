//! What handover says.

use super::fault::{Fault, Unsendable};
use super::kind::Kind;
use super::limits::{SENT_REFUSED_MAX, TEXT_MAX, cut};
use super::line::parts::Parts;
use super::line::{Line, Unknown};
use super::members::{Members, Reading};
use super::payload::Payload;
use super::value::{Capabilities, Capability, Id, NotReached, Refused, Sender};
use super::version::Versions;
use super::writer::Writer;
use crate::id::{Generation, PoolName, SlotIndex, WorkerId};

/// The first line: what handover speaks, and who the worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverHello {
    /// The newest version that it speaks.
    pub version: u64,
    /// The oldest and the newest.
    pub versions: Versions,
    /// What it can do.
    pub capabilities: Capabilities,
    /// `HANDOVER_NAME`.
    pub name: String,
    /// `HANDOVER_POOL`.
    pub pool: PoolName,
    /// `HANDOVER_SLOT`.
    pub slot: SlotIndex,
    /// `HANDOVER_GENERATION`.
    pub generation: Generation,
    /// `HANDOVER_WORKER`.
    pub worker: WorkerId,
}

/// One line from handover to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToWorker {
    /// The first line.
    Hello(HandoverHello),
    /// Finish what you have, take nothing new, and exit.
    Drain {
        /// Why, for people; cut at [`TEXT_MAX`] bytes.
        reason: String,
        /// When the stop signal comes, in milliseconds from now; `None` for never.
        deadline_ms: Option<u64>,
    },
    /// Are you there?
    Ping {
        /// For the `pong`.
        id: Id,
    },
    /// The sockets that were asked for; they come with it.
    Grant {
        /// The `listen`.
        re: Id,
        /// What the listener is called.
        name: String,
        /// What it is bound to.
        address: String,
        /// For the acknowledgement.
        id: Id,
    },
    /// Stop accepting from a listener.
    ListenerRemoved {
        /// What it is called.
        name: String,
    },
    /// A message, with fds if there are any.
    Message {
        /// For the acknowledgement or the reply.
        id: Option<Id>,
        /// Who sent it.
        from: Sender,
        /// What it says.
        data: Payload,
        /// Whether a reply is wanted.
        reply: bool,
    },
    /// The reply of a worker that was asked, with fds if there are any.
    Reply {
        /// The message.
        re: Id,
        /// For the acknowledgement.
        id: Option<Id>,
        /// Who replied.
        from: Sender,
        /// What it says.
        data: Payload,
    },
    /// What became of a message.
    Sent {
        /// The message.
        re: Id,
        /// Into how many queues it was put.
        receivers: u64,
        /// Those that did not get it; of more than [`SENT_REFUSED_MAX`] the first.
        refused: Vec<NotReached>,
    },
    /// The fds of a line have arrived.
    Ack {
        /// The line.
        re: Id,
    },
    /// No.
    Refused(Refused),
    /// A line of a later version.
    Unknown(Unknown),
}

const HELLO: Kind = Kind::plain(
    "hello",
    &["version", "versions", "capabilities", "name", "pool", "slot", "generation", "worker"],
);
const DRAIN: Kind = Kind::plain("drain", &["reason", "deadline_ms"]);
const PING: Kind = Kind::plain("ping", &["id"]);
const GRANT: Kind = Kind::with_fds("grant", &["re", "name", "address", "fds", "id"]);
const LISTENER_REMOVED: Kind = Kind::plain("listener_removed", &["name"]);
const MESSAGE: Kind = Kind::large("message", &["from", "data", "id", "reply", "fds"]);
const REPLY: Kind = Kind::large("reply", &["re", "from", "data", "fds", "id"]);
const SENT: Kind = Kind::plain("sent", &["re", "receivers", "refused"]);
const ACK: Kind = Kind::plain("ack", &["re"]);
const REFUSED: Kind = Kind::plain("refused", &["re", "error", "reason"]);

impl Line for ToWorker {
    const KINDS: &'static [Kind] =
        &[HELLO, DRAIN, PING, GRANT, LISTENER_REMOVED, MESSAGE, REPLY, SENT, ACK, REFUSED];

    fn kind(&self) -> Option<&'static Kind> {
        Some(match self {
            Self::Hello(_) => &HELLO,
            Self::Drain { .. } => &DRAIN,
            Self::Ping { .. } => &PING,
            Self::Grant { .. } => &GRANT,
            Self::ListenerRemoved { .. } => &LISTENER_REMOVED,
            Self::Message { .. } => &MESSAGE,
            Self::Reply { .. } => &REPLY,
            Self::Sent { .. } => &SENT,
            Self::Ack { .. } => &ACK,
            Self::Refused(_) => &REFUSED,
            Self::Unknown(_) => return None,
        })
    }

    fn id(&self) -> Option<Id> {
        match self {
            Self::Ping { id } | Self::Grant { id, .. } => Some(*id),
            Self::Message { id, .. } | Self::Reply { id, .. } => *id,
            Self::Unknown(unknown) => unknown.id,
            _ => None,
        }
    }

    fn re(&self) -> Option<Id> {
        match self {
            Self::Grant { re, .. } | Self::Reply { re, .. } | Self::Sent { re, .. } | Self::Ack { re } => {
                Some(*re)
            }
            Self::Refused(refused) => refused.re,
            _ => None,
        }
    }
}

impl Parts for ToWorker {
    fn read(kind: &'static Kind, line: &Reading<'_>) -> Result<Self, Fault> {
        Ok(match kind.name {
            "hello" => Self::Hello(hello(line)?),
            "drain" => Self::Drain {
                reason: cut(line.text("reason")?, TEXT_MAX),
                deadline_ms: line.may_number("deadline_ms")?,
            },
            "ping" => Self::Ping { id: line.id("id")? },
            "grant" => Self::Grant {
                re: line.id("re")?,
                name: line.text("name")?,
                address: line.text("address")?,
                id: line.id("id")?,
            },
            "listener_removed" => Self::ListenerRemoved { name: line.text("name")? },
            "message" => {
                let (id, reply) = (line.may_id("id")?, line.flag("reply")?);
                if reply {
                    line.must("id", id)?;
                }
                Self::Message { id, from: sender(line)?, data: line.payload("data")?, reply }
            }
            "reply" => Self::Reply {
                re: line.id("re")?,
                id: line.may_id("id")?,
                from: sender(line)?,
                data: line.payload("data")?,
            },
            "sent" => Self::Sent {
                re: line.id("re")?,
                receivers: line.number("receivers")?,
                refused: not_reached(line)?,
            },
            "ack" => Self::Ack { re: line.id("re")? },
            _ => Self::Refused(refused(line)?),
        })
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }

    fn write(&self, line: &mut Writer) -> Result<(), Unsendable> {
        match self {
            Self::Hello(hello) => write_hello(hello, line)?,
            Self::Drain { reason, deadline_ms } => {
                line.cut_text("reason", reason, TEXT_MAX);
                line.may_number("deadline_ms", *deadline_ms);
            }
            Self::Ping { id } => line.id("id", *id),
            Self::Grant { re, name, address, id } => {
                line.id("re", *re);
                line.text("name", name);
                line.text("address", address);
                line.id("id", *id);
            }
            Self::ListenerRemoved { name } => line.text("name", name),
            Self::Message { reply: true, id: None, .. } => return Err(Unsendable::ReplyWithoutId),
            Self::Message { id, from, data, reply } => {
                line.may_id("id", *id);
                write_sender(from, line)?;
                line.payload("data", data);
                line.flag("reply", *reply);
            }
            Self::Reply { re, id, from, data } => {
                line.id("re", *re);
                line.may_id("id", *id);
                write_sender(from, line)?;
                line.payload("data", data);
            }
            Self::Sent { re, receivers, refused } => {
                line.id("re", *re);
                line.number("receivers", *receivers);
                write_not_reached(refused, line)?;
            }
            Self::Ack { re } => line.id("re", *re),
            Self::Refused(refused) => line.refused(refused),
            Self::Unknown(_) => return Err(Unsendable::NotALine),
        }
        Ok(())
    }
}

/// Reads the members of `refused`.
pub(super) fn refused(line: &Reading<'_>) -> Result<Refused, Fault> {
    let reason = line.may_text("reason")?.unwrap_or_default();
    Ok(Refused { re: line.may_id("re")?, error: line.error("error")?, reason: cut(reason, TEXT_MAX) })
}

/// Reads `capabilities`, without those that are not known.
pub(super) fn capabilities(line: &Reading<'_>) -> Result<Capabilities, Fault> {
    let words: Option<Vec<String>> = line.may("capabilities", "a list of strings")?;
    let words = line.must("capabilities", words)?;
    Ok(words.iter().filter_map(|word| Capability::from_word(word)).collect())
}

fn hello(line: &Reading<'_>) -> Result<HandoverHello, Fault> {
    const EXPECTED: &str = "a list of two numbers, the smaller one first";
    let versions: Option<[u64; 2]> = line.may("versions", EXPECTED)?;
    let [oldest, newest] = line.must("versions", versions)?;
    let versions = Versions::new(oldest, newest).ok_or_else(|| line.wrong("versions", EXPECTED))?;
    let version = line.number("version")?;
    if Versions::OURS.newest() < versions.oldest() || Versions::OURS.agree(version).is_none() {
        return Ok(strange(version, versions));
    }
    Ok(HandoverHello {
        version,
        versions,
        capabilities: capabilities(line)?,
        name: line.text("name")?,
        pool: PoolName::new(line.text("pool")?),
        slot: SlotIndex(line.slot("slot")?),
        generation: Generation(line.number("generation")?),
        worker: WorkerId(line.number("worker")?),
    })
}

/// A hello of a version that is not spoken here: what else stands in it may be anything.
fn strange(version: u64, versions: Versions) -> HandoverHello {
    HandoverHello {
        version,
        versions,
        capabilities: Capabilities::none(),
        name: String::new(),
        pool: PoolName::new(""),
        slot: SlotIndex(0),
        generation: Generation(0),
        worker: WorkerId(0),
    }
}

fn write_hello(hello: &HandoverHello, line: &mut Writer) -> Result<(), Unsendable> {
    if hello.versions.newest() > super::limits::NUMBER_MAX {
        return Err(Unsendable::NumberTooLarge { member: "versions" });
    }
    line.number("version", hello.version);
    line.json("versions", &format!("[{},{}]", hello.versions.oldest(), hello.versions.newest()));
    line.words("capabilities", hello.capabilities.iter());
    line.text("name", &hello.name);
    line.text("pool", hello.pool.as_str());
    line.number("slot", hello.slot.0);
    line.number("generation", hello.generation.0);
    line.number("worker", hello.worker.0);
    Ok(())
}

fn sender(line: &Reading<'_>) -> Result<Sender, Fault> {
    const EXPECTED: &str = "\"handover\", or an object with pool, slot and worker";
    let raw = line.must("from", line.raw("from"))?;
    if serde_json::from_str::<String>(raw.get()).is_ok_and(|from| from == "handover") {
        return Ok(Sender::Handover);
    }
    let worker = Members::of_value(raw).and_then(|from| {
        Some(Sender::Worker {
            pool: PoolName::new(from.lenient::<String>("pool")?),
            slot: SlotIndex(from.lenient("slot")?),
            worker: WorkerId(from.lenient::<u64>("worker").and_then(Id::new)?.get()),
        })
    });
    worker.ok_or_else(|| line.wrong("from", EXPECTED))
}

fn write_sender(from: &Sender, line: &mut Writer) -> Result<(), Unsendable> {
    match from {
        Sender::Handover => line.text("from", "handover"),
        Sender::Worker { pool, slot, worker } => {
            let mut object = Writer::object();
            object.text("pool", pool.as_str());
            object.number("slot", slot.0);
            object.number("worker", worker.0);
            line.json("from", &object.finish()?);
        }
    }
    Ok(())
}

fn not_reached(line: &Reading<'_>) -> Result<Vec<NotReached>, Fault> {
    const EXPECTED: &str = "a list of objects with worker and error";
    let list: Option<Vec<Members<'_>>> = match line.raw("refused") {
        Some(raw) => Some(serde_json::from_str(raw.get()).map_err(|_| line.wrong("refused", EXPECTED))?),
        None => None,
    };
    let read = |one: &Members<'_>| {
        let worker = WorkerId(one.lenient::<u64>("worker").and_then(Id::new)?.get());
        Some(NotReached { worker, error: one.lenient::<String>("error")?.into() })
    };
    let list = line.must("refused", list)?;
    let list: Option<Vec<NotReached>> = list.iter().map(read).collect();
    list.ok_or_else(|| line.wrong("refused", EXPECTED))
}

fn write_not_reached(refused: &[NotReached], line: &mut Writer) -> Result<(), Unsendable> {
    let mut list = Vec::new();
    for NotReached { worker, error } in refused.iter().take(SENT_REFUSED_MAX) {
        let mut object = Writer::object();
        object.number("worker", worker.0);
        object.text("error", error.word());
        list.push(object.finish()?);
    }
    line.json("refused", &format!("[{}]", list.join(",")));
    Ok(())
}

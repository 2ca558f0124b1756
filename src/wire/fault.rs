//! What can be wrong: with what came ([`Fault`]), and with what is to be sent ([`Unsendable`]).
//!
//! A fault is the channel's end: the peer does not keep the rules, and nothing that follows can be trusted. Its text says to
//! a person what the peer did. What is unsendable is a mistake on this side, and nothing of it has left.

use std::fmt;

use super::limits::{DATA_MAX, DEPTH_MAX, FDS_MAX, NUMBER_MAX};
use super::value::{ErrorCode, Id};

/// What the peer did wrong. The channel ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A line has more bytes than one of its type may have, or has no end.
    TooLong {
        /// How many it may have.
        limit: usize,
    },
    /// `data` has more than [`DATA_MAX`] bytes.
    DataTooLong,
    /// A line is not UTF-8.
    NotUtf8,
    /// A line is not JSON.
    NotJson {
        /// What the parser says of it.
        why: String,
    },
    /// A line is JSON, and no object.
    NotAnObject,
    /// A line nests deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A line has no `type`, or one that is no string.
    NoType,
    /// A member that must be there is not.
    Missing {
        /// The type of the line.
        kind: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A member is not what it must be.
    Wrong {
        /// The type of the line.
        kind: &'static str,
        /// The member.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A line says that it carries more fds than have come.
    FdsMissing {
        /// How many it says.
        said: usize,
        /// How many there are.
        there: usize,
    },
    /// Fds came that no line says.
    FdsLeft {
        /// How many.
        left: usize,
    },
    /// More fds came than the lines that came can carry.
    FdsTooMany,
    /// A line of a type that carries no fds carries some.
    FdsNotCarried {
        /// The type of the line.
        kind: &'static str,
    },
    /// The kernel dropped fds on the way (`MSG_CTRUNC`): this process is at its limit of open files.
    FdsCutOff,
    /// A line came before `hello`.
    BeforeHello {
        /// The type of the line.
        kind: String,
    },
    /// A second `hello`.
    SecondHello,
    /// A line has the id of an earlier one that is not answered yet.
    IdInUse(Id),
    /// There is no version that both sides speak.
    NoCommonVersion {
        /// The newest that the peer speaks.
        theirs: u64,
        /// The oldest that this side speaks.
        oldest: u64,
    },
}

impl Fault {
    /// What the peer is told: `version` where there is no common one, else `protocol`.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoCommonVersion { .. } => ErrorCode::Version,
            _ => ErrorCode::Protocol,
        }
    }

    /// What the parser says, about one line.
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson { why: error.to_string().replace("at line 1 column", "at byte") }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "a line is longer than {limit} bytes"),
            Self::DataTooLong => write!(f, "data of a message is longer than {DATA_MAX} bytes"),
            Self::NotUtf8 => write!(f, "a line is not UTF-8"),
            Self::NotJson { why } => write!(f, "a line is not JSON: {why}"),
            Self::NotAnObject => write!(f, "a line is not a JSON object"),
            Self::TooDeep => write!(f, "a line nests deeper than {DEPTH_MAX}"),
            Self::NoType => write!(f, "a line has no type"),
            Self::Missing { kind, member } => write!(f, "a line of type {kind} has no {member}"),
            Self::Wrong { kind, member, expected } => {
                write!(f, "{member} in a line of type {kind} is not {expected}")
            }
            Self::FdsMissing { said, there } => write!(f, "a line says {said} fds, and {there} have come"),
            Self::FdsLeft { left } => write!(f, "{left} fds came that no line says"),
            Self::FdsTooMany => write!(f, "more fds came than lines can carry"),
            Self::FdsNotCarried { kind } => write!(f, "a line of type {kind} carries fds"),
            Self::FdsCutOff => {
                write!(
                    f,
                    "fds were lost on the way: their reader is at its limit of open files\nhint: raise it (LimitNOFILE=)"
                )
            }
            Self::BeforeHello { kind } => write!(f, "a line of type {kind} came before hello"),
            Self::SecondHello => write!(f, "a second hello came"),
            Self::IdInUse(id) => write!(f, "id {id} was used again before its answer came"),
            Self::NoCommonVersion { theirs, oldest } => {
                write!(
                    f,
                    "version {theirs} of the channel is too old: the oldest that is spoken here is {oldest}"
                )
            }
        }
    }
}

impl std::error::Error for Fault {}

/// Why a line cannot be sent. Nothing of it has been.
///
/// ```
/// # #[cfg(feature = "worker")] {
/// use handover::worker::{ErrorCode, Unsendable};
///
/// let why = Unsendable::FdsTooMany { fds: 65 };
/// assert_eq!(why.code(), ErrorCode::BadRequest);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsendable {
    /// The line would have more bytes than one of its type may have.
    TooLong {
        /// How many it would have.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// `data` has more than [`DATA_MAX`] bytes.
    DataTooLong {
        /// How many it has.
        bytes: usize,
    },
    /// The line would nest deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A number is above [`NUMBER_MAX`].
    NumberTooLarge {
        /// The member.
        member: &'static str,
    },
    /// More fds than [`FDS_MAX`].
    FdsTooMany {
        /// How many.
        fds: usize,
    },
    /// A line of this type carries no fds.
    FdsNotCarried {
        /// The type of the line.
        kind: &'static str,
    },
    /// A line of this type is nothing without fds.
    FdsMissing {
        /// The type of the line.
        kind: &'static str,
    },
    /// A line with fds needs an id, for its acknowledgement.
    FdsWithoutId,
    /// A line that wants a reply needs an id.
    ReplyWithoutId,
    /// Something that only the other side can say: what contradicts itself, or is of an unknown type.
    NotALine,
    /// Node takes objects whose `cmd` begins with `NODE_` for its own, and the program would not see this one.
    NodesOwn,
    /// Node's channel carries one fd with a message.
    OneHandle,
    /// A program that speaks Node's own channel alone cannot reply.
    NoReply,
}

impl Unsendable {
    /// What somebody is told whose message cannot be passed on for this reason: `unsupported` where the receiver's channel cannot have
    /// it, else `bad_request`.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::OneHandle | Self::NoReply => ErrorCode::Unsupported,
            _ => ErrorCode::BadRequest,
        }
    }
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, limit } => {
                write!(f, "the line would have {bytes} bytes, and {limit} is the limit")
            }
            Self::DataTooLong { bytes } => write!(f, "data has {bytes} bytes, and {DATA_MAX} is the limit"),
            Self::TooDeep => {
                write!(f, "data nests deeper than a line may ({DEPTH_MAX} with the line's own object)")
            }
            Self::NumberTooLarge { member } => write!(f, "{member} is above {NUMBER_MAX}"),
            Self::FdsTooMany { fds } => write!(f, "{fds} fds are more than a line carries ({FDS_MAX})"),
            Self::FdsNotCarried { kind } => write!(f, "a line of type {kind} carries no fds"),
            Self::FdsMissing { kind } => write!(f, "a line of type {kind} needs fds"),
            Self::FdsWithoutId => write!(f, "a line with fds needs an id"),
            Self::ReplyWithoutId => write!(f, "a message that wants a reply needs an id"),
            Self::NotALine => write!(f, "this was read, and cannot be said"),
            Self::NodesOwn => write!(f, "cmd begins with NODE_, which Node keeps for itself"),
            Self::OneHandle => write!(f, "Node takes one fd with a message"),
            Self::NoReply => write!(f, "the receiver cannot reply"),
        }
    }
}

impl std::error::Error for Unsendable {}

//! The values that stand in lines: ids, errors, capabilities, who sends and who receives.

use std::collections::BTreeSet;
use std::fmt;

use super::fault::Fault;
use super::limits::NUMBER_MAX;
use crate::id::{PoolName, SlotIndex, WorkerId};

/// The number by which an answer names its question, and an acknowledgement its line. Each side counts its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// The first that a side uses.
    pub const FIRST: Self = Self(1);

    /// Takes a number of at most [`NUMBER_MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number <= NUMBER_MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next one; after [`NUMBER_MAX`] it begins again with 1.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 < NUMBER_MAX { Self(self.0 + 1) } else { Self::FIRST }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Declares an enum whose values are words on the wire, with the list of all of them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value that a word means; `None` for an unknown one.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// What a side can do beyond the base of the protocol.
    ///
    /// ```
    /// # #[cfg(feature = "worker")] {
    /// use handover::worker::Capability;
    ///
    /// assert!(Capability::ALL.iter().all(|known| Capability::from_word(known.word()) == Some(*known)));
    /// # }
    /// ```
    #[non_exhaustive]
    Capability {
        /// handover sends `drain`; a worker finishes and exits when it gets it.
        Drain = "drain",
        /// handover may send `ping`; a worker answers it.
        Ping = "ping",
        /// handover answers `listen`; a worker understands `listener_removed`.
        Listen = "listen",
        /// handover passes messages on; a worker takes them.
        Messages = "messages",
        /// handover takes `log`.
        Log = "log",
        /// A side takes fds: without it, a worker gets no `grant`, and no message or reply that carries any.
        Fds = "fds",
    }
}

words! {
    /// How bad it is, as a record of a worker says.
    ///
    /// ```
    /// # #[cfg(feature = "worker")] {
    /// use handover::worker::Level;
    ///
    /// assert_eq!((Level::from_word("warn"), Level::Warn.word(), Level::ALL.len()), (Some(Level::Warn), "warn", 5));
    /// # }
    /// ```
    Level {
        /// Something failed.
        Error = "error",
        /// Something should be looked at.
        Warn = "warn",
        /// What happens.
        Info = "info",
        /// For those who look for a fault.
        Debug = "debug",
        /// All of it.
        Trace = "trace",
    }
}

/// The capabilities of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// None: the base.
    pub const fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether `capability` is one of them.
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// All of them, in the order of [`Capability::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

impl<const N: usize> From<[Capability; N]> for Capabilities {
    fn from(capabilities: [Capability; N]) -> Self {
        capabilities.into_iter().collect()
    }
}

/// Why something was refused, for programs.
///
/// ```
/// # #[cfg(feature = "worker")] {
/// use handover::worker::ErrorCode;
///
/// let own = ErrorCode::from("no_such_table".to_owned());
/// assert!(own.word() == "no_such_table" && !ErrorCode::KNOWN.contains(&own));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The channel's end.
    Protocol,
    /// No common version.
    Version,
    /// The other side does not do that.
    Unsupported,
    /// It makes no sense.
    BadRequest,
    /// The configuration does not permit it.
    NotAllowed,
    /// It was tried and did not work.
    Failed,
    /// No such worker, or it ended.
    Gone,
    /// The receiver does not take its messages.
    QueueFull,
    /// No answer in time.
    Timeout,
    /// One of a worker's own, or of a later version: to be treated as [`Failed`](Self::Failed).
    Other(String),
}

impl ErrorCode {
    /// Those that have a name here, in the order of the page.
    pub const KNOWN: [Self; 9] = [
        Self::Protocol,
        Self::Version,
        Self::Unsupported,
        Self::BadRequest,
        Self::NotAllowed,
        Self::Failed,
        Self::Gone,
        Self::QueueFull,
        Self::Timeout,
    ];

    /// The word on the wire.
    pub fn word(&self) -> &str {
        match self {
            Self::Protocol => "protocol",
            Self::Version => "version",
            Self::Unsupported => "unsupported",
            Self::BadRequest => "bad_request",
            Self::NotAllowed => "not_allowed",
            Self::Failed => "failed",
            Self::Gone => "gone",
            Self::QueueFull => "queue_full",
            Self::Timeout => "timeout",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for ErrorCode {
    fn from(word: String) -> Self {
        Self::KNOWN.into_iter().find(|code| code.word() == word).unwrap_or(Self::Other(word))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whom a message is for.
///
/// ```
/// # #[cfg(feature = "worker")] {
/// use handover::worker::{PoolName, SlotIndex, Target};
///
/// assert!(Target::Slot(PoolName::new("jobs"), SlotIndex(0)).is_one());
/// assert!(!Target::Pool(PoolName::new("jobs")).is_one(), "so it cannot reply, nor take fds");
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// handover itself.
    Handover,
    /// This worker.
    Worker(WorkerId),
    /// The worker that serves in this slot.
    Slot(PoolName, SlotIndex),
    /// Every worker of the pool, except the sender.
    Pool(PoolName),
    /// Every worker, except the sender.
    All,
}

impl Target {
    /// Whether it is one receiver: only one can reply, or take fds.
    pub const fn is_one(&self) -> bool {
        matches!(self, Self::Handover | Self::Worker(_) | Self::Slot(..))
    }
}

/// Who sent a message.
///
/// ```
/// # #[cfg(feature = "worker")] {
/// use handover::worker::{Sender, Target};
///
/// /// To whom a message goes that is no reply.
/// fn back(sender: &Sender) -> Target {
///     match sender {
///         Sender::Worker { worker, .. } => Target::Worker(*worker),
///         _ => Target::Handover,
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sender {
    /// handover itself.
    Handover,
    /// A worker, and where it serves.
    Worker {
        /// Its pool.
        pool: PoolName,
        /// Its slot.
        slot: SlotIndex,
        /// Its number.
        worker: WorkerId,
    },
}

/// A worker that a message did not reach.
///
/// ```
/// # #[cfg(feature = "worker")] {
/// use handover::worker::{ErrorCode, NotReached};
///
/// fn is_worth_a_second_try(missed: &NotReached) -> bool {
///     missed.error == ErrorCode::QueueFull
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotReached {
    /// The worker.
    pub worker: WorkerId,
    /// Why.
    pub error: ErrorCode,
}

/// `refused`: the answer that anything may get; without `re`, the last line of a channel that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is refused; `None` for the channel as a whole.
    pub re: Option<Id>,
    /// Why, for programs.
    pub error: ErrorCode,
    /// Why, for people; at most [`TEXT_MAX`](super::limits::TEXT_MAX) bytes, may be empty.
    pub reason: String,
}

impl From<&Fault> for Refused {
    /// The last line to a peer that did this.
    fn from(fault: &Fault) -> Self {
        Self { re: None, error: fault.code(), reason: fault.to_string() }
    }
}

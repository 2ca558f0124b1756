//! What can go wrong with a pipe: with one item ([`Unsent`], [`ReceiveError::Data`]), and with the pipe as a whole ([`End`]).

use std::fmt;
use std::io;

use super::{DATA_MAX, FDS_PER_ITEM_MAX, Item, ItemId};

/// What the other side did, or the kernel, that ends a pipe. Of this module alone.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The peer does not keep the rules of the page.
    Protocol(String),
    /// The kernel dropped fds.
    FdsLost,
}

impl Fault {
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) => write!(f, "the other side broke the protocol: {what}"),
            Self::FdsLost => f.write_str("fds were lost: the receiver is at its limit of open files"),
        }
    }
}

/// Why nothing can be sent through a pipe any more.
///
/// Items that were not taken are still the sender's: see [`Sender::into_untaken`](super::Sender::into_untaken).
///
/// ```
/// use handover::pipe::{self, End};
///
/// let (mut sender, receiver) = pipe::pair::<u32>()?;
/// drop(receiver);
/// assert_eq!(sender.tend(), Err(End::Closed));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The receiver closed it, or is gone.
    Closed,
    /// The receiver gave up: `error` is for programs (`fds_lost`: it is at its limit of open files; `protocol`), `reason`
    /// for people.
    Refused {
        /// A word.
        error: String,
        /// A sentence; may be empty.
        reason: String,
    },
    /// The receiver does not keep the rules of docs/pipes.md.
    Protocol(String),
    /// The socket failed.
    Io(io::ErrorKind, String),
}

impl End {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            kind => Self::Io(kind, error.to_string()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the receiver closed the pipe"),
            Self::Refused { error, reason } => write!(f, "the receiver gave the pipe up: {error}: {reason}"),
            Self::Protocol(what) => write!(f, "the receiver broke the pipe's protocol: {what}"),
            Self::Io(_, what) => write!(f, "the pipe's socket: {what}"),
        }
    }
}

impl std::error::Error for End {}

/// Why an item was not sent. Nothing of it has left.
///
/// ```
/// use handover::pipe::{DATA_MAX, Item, Unsent};
///
/// let (mut sender, _receiver) = handover::pipe::pair()?;
/// let error = sender.send(Item::without_fds("x".repeat(DATA_MAX))).unwrap_err();
/// assert!(matches!(error.why, Unsent::TooLarge { bytes } if bytes == DATA_MAX + 2));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Unsent {
    /// All credits are in use, or the socket is full. Only where waiting was not asked for.
    WouldBlock,
    /// The data has more than [`DATA_MAX`] bytes as JSON.
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// There are more than [`FDS_PER_ITEM_MAX`] fds.
    TooManyFds {
        /// How many.
        fds: usize,
    },
    /// The data cannot be written as JSON.
    NotJson(serde_json::Error),
    /// This user has too many fds on the way (`ETOOMANYREFS`, `unix(7)`), and none of them is this pipe's, so there is nothing to wait for.
    FdsInFlight,
    /// All credits are with items that the receiver refused and nobody fetched
    /// ([`Sender::next_refused`](super::Sender::next_refused)).
    RefusedWaiting,
    /// The pipe has ended.
    Ended(End),
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("the receiver does not take more at the moment"),
            Self::TooLarge { bytes } => write!(f, "data has {bytes} bytes, and {DATA_MAX} is the limit"),
            Self::TooManyFds { fds } => write!(f, "{fds} fds are more than an item has ({FDS_PER_ITEM_MAX})"),
            Self::NotJson(error) => write!(f, "data cannot be written as JSON: {error}"),
            Self::FdsInFlight => {
                write!(
                    f,
                    "too many fds of this user are on the way\nhint: raise the limit of open files, or lower the receivers' credits"
                )
            }
            Self::RefusedWaiting => f.write_str("refused items wait to be fetched"),
            Self::Ended(end) => end.fmt(f),
        }
    }
}

impl std::error::Error for Unsent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotJson(error) => Some(error),
            _ => None,
        }
    }
}

/// An item that was not sent, with its fds, and why.
///
/// ```
/// use handover::pipe::{Item, SendError};
///
/// /// What became of it: sent, or served here.
/// fn give(sender: &mut handover::pipe::Sender<String>, item: Item<String>) -> Option<Item<String>> {
///     sender.try_send(item).err().map(|SendError { item, why, .. }| {
///         eprintln!("{why}");
///         item
///     })
/// }
/// ```
#[non_exhaustive]
pub struct SendError<T> {
    /// The item, as it was given.
    pub item: Item<T>,
    /// Why.
    pub why: Unsent,
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why a receiver has no item to give.
///
/// ```
/// use handover::pipe::{Item, ReceiveError, Receiver, Sender};
///
/// let (here, there) = std::os::unix::net::UnixStream::pair()?;
/// let (mut sender, mut receiver) = (Sender::new(here), Receiver::<u32>::new(there));
/// sender.send(Item::without_fds("no number"))?;
/// let error = receiver.recv().unwrap_err();
/// assert!(matches!(error, ReceiveError::Data { .. }) && !error.is_end());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// An item's data is no `T`. It was refused, its fds are closed here, and its sender still has them. **The pipe goes on.**
    Data {
        /// Its number.
        id: ItemId,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// This process is at its limit of open files (or a security module forbade it to have an fd), and fds were lost on the way. The pipe has ended;
    /// the sender was told, and has its copies.
    FdsLost {
        /// Items that had come, in part or behind one that had, and were given up; at least 1.
        items: usize,
    },
    /// The sender does not keep the rules of docs/pipes.md. The pipe has ended.
    Protocol(String),
    /// The socket failed. The pipe has ended.
    Io(io::Error),
}

impl ReceiveError {
    /// Whether nothing will come any more: all but [`Data`](Self::Data).
    pub const fn is_end(&self) -> bool {
        !matches!(self, Self::Data { .. })
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { id, error } => write!(f, "item {id}: its data is not what is expected: {error}"),
            Self::FdsLost { items } => {
                write!(
                    f,
                    "fds were lost with {items} items\nhint: this process is at its limit of open files (RLIMIT_NOFILE)"
                )
            }
            Self::Protocol(what) => write!(f, "the sender broke the pipe's protocol: {what}"),
            Self::Io(error) => write!(f, "the pipe's socket: {error}"),
        }
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Data { error, .. } => Some(error),
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

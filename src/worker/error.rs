//! What can go wrong for a worker, worded for whoever has to act.

use std::fmt;
use std::io;

use crate::wire::{ErrorCode, Refused, Unsendable};

/// Why a call of a [`Worker`](super::Worker) did not work. Nothing that is merely absent (no handover, no service manager) is an
/// error where a call can do without.
///
/// ```
/// use handover::worker::{Error, ErrorCode};
///
/// fn is_not_there(error: &Error) -> bool {
///     matches!(error, Error::Refused { error: ErrorCode::Gone, .. })
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// This process has taken what it was started with before.
    ConnectedBefore,
    /// `LISTEN_FDS` and its like contradict what is there.
    Environment(String),
    /// There is no listener of this name, and no address to bind instead.
    NoListener(String),
    /// A listener is not what the program wants of it.
    Listener {
        /// Its name.
        name: String,
        /// What it is, or is not.
        why: String,
    },
    /// This cannot be read as an address.
    Address(String),
    /// An address cannot be bound.
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// handover, or the worker that was asked, says no.
    Refused {
        /// Why, for programs.
        error: ErrorCode,
        /// Why, for people; may be empty.
        reason: String,
    },
    /// There is no channel to handover, or not for this.
    NotConnected,
    /// The channel ended before the answer came.
    Lost,
    /// So much waits to be written that no more is taken.
    Full,
    /// It is more than may be sent.
    Unsendable(Unsendable),
    /// A value cannot be written as JSON, or JSON is not of the type that is wanted.
    Json(serde_json::Error),
    /// The system says no.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectedBefore => {
                write!(f, "this process is connected already: sockets can be taken once")
            }
            Self::Environment(what) => write!(f, "{what}"),
            Self::NoListener(name) => write!(
                f,
                "listener {name:?} was not passed\nhint: name it in listeners of the pool (under systemd: FileDescriptorName=), or give an address to bind"
            ),
            Self::Listener { name, why } => write!(f, "listener {name:?}: {why}"),
            Self::Address(text) => write!(
                f,
                "{text:?} is not an address\nhint: tcp://127.0.0.1:8080, udp://, unix:///path, unix-dgram:///path or unix:@name"
            ),
            Self::Bind { address, source } => write!(f, "bind {address}: {source}"),
            Self::Refused { error, reason } if reason.is_empty() => write!(f, "refused: {error}"),
            Self::Refused { error, reason } => write!(f, "refused: {error}: {reason}"),
            Self::NotConnected => write!(f, "there is no channel to handover"),
            Self::Lost => write!(f, "the channel to handover ended before the answer came"),
            Self::Full => write!(f, "too much waits to be sent to handover"),
            Self::Unsendable(why) => write!(f, "{why}"),
            Self::Json(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<Unsendable> for Error {
    fn from(error: Unsendable) -> Self {
        Self::Unsendable(error)
    }
}

impl Error {
    pub(super) fn refused(refused: Refused) -> Self {
        Self::Refused { error: refused.error, reason: refused.reason }
    }
}

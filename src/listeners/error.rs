//! Why a listener cannot be bound, in the words of the person who has to act.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::os::words;

/// A listener that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// What the system said.
    #[error("{subject}: {what}")]
    Failed {
        /// The address or path.
        subject: String,
        /// What went wrong, and a hint.
        what: String,
    },
    /// What was given for it is no socket.
    #[error("what was given is no socket: {0}")]
    Given(String),
    /// Another daemon holds the path.
    #[error("{}: address already in use: another handover holds it{}", .0.display(), by(.1))]
    HeldByAnother(PathBuf, Option<u32>),
    /// Something else is at the path.
    #[error("{}: occupied by something that is not a socket; it is left alone", .0.display())]
    Occupied(PathBuf),
    /// A socket at the path answers.
    #[error("{}: address already in use: a live socket answers there", .0.display())]
    Live(PathBuf),
}

fn by(holder: &Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

impl BindError {
    pub(super) fn of(subject: impl fmt::Display, error: io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "address already in use",
            io::ErrorKind::AddrNotAvailable => {
                "address not available: no interface of this machine has it\n\
                 hint: free_bind = true binds it all the same"
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied\n\
                 hint: a port below 1024 needs CAP_NET_BIND_SERVICE, or a socket that systemd passes; \
                 a path needs a directory that may be written"
            }
            io::ErrorKind::NotFound => "no such directory\nhint: the directory of a socket must exist before",
            io::ErrorKind::ReadOnlyFilesystem => "read-only file system",
            _ => {
                return Self::Failed { subject: subject.to_string(), what: words(&error) };
            }
        };
        Self::Failed { subject: subject.to_string(), what: hint.to_owned() }
    }
}

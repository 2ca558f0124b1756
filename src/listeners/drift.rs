//! What workers can do to a socket that they share, and how bad that is.

use std::fmt;

/// What workers have done to a shared socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It does not listen any more.
    NotListening,
    /// It did not listen any more, and was bound afresh.
    BoundAfresh,
    /// Its queue had another length; it was set again where the socket is ours.
    Backlog {
        /// What it should be.
        wanted: u32,
        /// What it was made.
        found: u32,
        /// It is as it should be again.
        mended: bool,
    },
    /// `O_NONBLOCK` was changed; it is left alone, since other holders may rely on it by now.
    Nonblocking {
        /// What it is now.
        now: bool,
    },
    /// The file of a Unix socket is gone, or another one is in its place: nobody can connect.
    FileLost,
}

impl Drift {
    /// Clients notice it, or workers could, and it was not mended. A changed `O_NONBLOCK` is worth showing,
    /// but most programs set it on whatever they listen on.
    pub fn harms(&self) -> bool {
        match self {
            Self::NotListening | Self::FileLost => true,
            Self::Backlog { mended, .. } => !mended,
            Self::BoundAfresh | Self::Nonblocking { .. } => false,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListening => f.write_str("it does not listen any more"),
            Self::BoundAfresh => f.write_str("a worker ended it for all; it was bound afresh"),
            Self::Backlog { wanted, found, mended } => {
                write!(f, "a worker set its backlog to {found} instead of {wanted}")?;
                if *mended { f.write_str(" (set back)") } else { Ok(()) }
            }
            Self::Nonblocking { now } => {
                write!(f, "a worker made it {}", if *now { "nonblocking" } else { "blocking" })
            }
            Self::FileLost => f.write_str("its file is gone"),
        }
    }
}

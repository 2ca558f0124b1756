//! Sockets: asking them what they are, and the few options that no library sets.

mod bind;
mod facts;
#[cfg(target_os = "linux")]
mod holder_linux;
#[cfg(target_os = "macos")]
mod holder_macos;
#[cfg(target_os = "macos")]
mod info_macos;
mod notify;
mod options;
mod queue;

pub use bind::bind_closed;
pub use facts::{Facts, Family, Kind, Local, facts};
#[cfg(target_os = "linux")]
pub use holder_linux::{holder, is_bound_by_somebody};
#[cfg(target_os = "macos")]
pub use holder_macos::{holder, is_bound_by_somebody};
pub use notify::bind_notify_socket;
#[cfg(test)]
pub(crate) use options::fast_open;
pub use options::{listen, refuse_fds, set_defer_accept, set_device, set_fast_open, set_free_bind, set_mark};
pub use queue::{Queue, accept_queue};

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// One of those that have it.
    pub pid: u32,
    /// What `ps` calls it.
    pub name: String,
}

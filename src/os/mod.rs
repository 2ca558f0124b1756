//! The operating system: the only place with unsafe code.
//!
//! Knows nothing of workers, listeners or configurations: it takes and gives plain values, so that each file
//! can be read beside the manual page it stands for. It takes no decisions either; where the kernel leaves a
//! choice, the caller makes it. Every fd is an `OwnedFd` from its first line and close-on-exec from birth.
//!
//! - `clock`: the only reader of clocks
//! - `spawn`: starting a program through the exec helper
//! - `process`: pidfds, process groups, orphans
//! - `signal`: the daemon's signals as a stream
//! - `passing`: fds and credentials over Unix sockets
//! - `foreign`: fds that we do not close ourselves
//! - `stream`, `poll`: waiting for one stream socket, or for several fds, without a runtime
//! - `accept`: accepting from a socket that others share
//! - `watch`: an fd on tokio's reactor; `hangup`: many, for nothing but the end of the other side
//! - `interrupt`, `handed`: for a program that is a worker: signals that ask it to end, fds that it was started with
//! - `socket`: making sockets, and asking them what they are
//! - `waiting`: who waits on a socket
//! - `environment`: what the environment says, read once
//! - `launchd`: the sockets that launchd holds for us
//! - `open_directory`, `walk`: a directory that is open, and what is in it by name
//! - `sealed`: memory that is passed on and cannot change
//! - `regular`: opening what others name
//! - `kind`, `same`, `user`, `program`, `limits`, `directory`, `lock`, `peer`, `pin`,
//!   `terminal`, `threads`: one question each
//!
//! Linux and macOS have the same functions with the same signatures. Calls that only one of them has stand in
//! `linux.rs` and `macos.rs`; a file that is one system's own ends in its name. What behaves differently is in
//! docs/macos.md. What needs libc alone is there for the worker SDK and the pipes, too; the rest
//! comes with the feature `supervisor`.
// Safe wrappers exist for most of what is needed (nix, socket2), but not for pidfds, ancillary data and
// fds with exact numbers. Those few calls live here, each with its reason to be sound.
#![allow(unsafe_code)]

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("handover runs on Linux and macOS");

pub mod accept;
pub mod clock;
#[cfg(feature = "supervisor")]
pub mod directory;
#[cfg(feature = "supervisor")]
pub mod environment;
#[cfg(feature = "supervisor")]
pub mod fd;
#[cfg(feature = "supervisor")]
pub mod foreign;
#[cfg(feature = "worker")]
pub(crate) mod handed;
#[cfg(all(feature = "supervisor", target_os = "linux"))]
#[path = "hangup_linux.rs"]
pub mod hangup;
#[cfg(all(feature = "supervisor", target_os = "macos"))]
#[path = "hangup_macos.rs"]
pub mod hangup;
pub mod interrupt;
pub mod kind;
#[cfg(feature = "supervisor")]
pub mod launchd;
#[cfg(feature = "supervisor")]
pub mod limits;
#[cfg(all(feature = "supervisor", target_os = "linux"))]
mod linux;
#[cfg(feature = "supervisor")]
pub mod lock;
#[cfg(all(feature = "supervisor", target_os = "macos"))]
mod macos;
#[cfg(feature = "supervisor")]
pub mod open_directory;
pub mod passing;
#[cfg(feature = "supervisor")]
pub mod peer;
#[cfg(feature = "supervisor")]
pub mod pin;
pub mod poll;
#[cfg(feature = "supervisor")]
pub mod process;
#[cfg(feature = "supervisor")]
pub mod program;
#[cfg(feature = "supervisor")]
pub mod regular;
#[cfg(feature = "supervisor")]
pub mod same;
#[cfg(feature = "supervisor")]
pub(crate) mod sealed;
#[cfg(feature = "supervisor")]
pub mod signal;
#[cfg(feature = "supervisor")]
pub mod socket;
#[cfg(feature = "supervisor")]
pub mod spawn;
pub mod stream;
#[cfg(feature = "supervisor")]
pub mod terminal;
pub mod threads;
#[cfg(feature = "supervisor")]
pub mod user;
#[cfg(feature = "supervisor")]
pub mod waiting;
#[cfg(feature = "supervisor")]
mod walk;
#[cfg(feature = "tokio")]
pub mod watch;
#[cfg(feature = "supervisor")]
mod words;

#[cfg(feature = "supervisor")]
pub use words::words;

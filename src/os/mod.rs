//! The operating system: the only place with unsafe code.
//!
//! Knows nothing of workers, listeners or configurations: it takes and gives plain values, so that each file
//! can be read beside the manual page it stands for. It takes no decisions either; where the kernel leaves a
//! choice, the caller makes it. Every fd is an `OwnedFd` from its first line and close-on-exec from birth.
//!
//! - [`clock`]: the only reader of clocks
//! - [`spawn`]: starting a program through the exec helper
//! - [`process`]: pidfds, process groups, orphans
//! - [`signal`]: the daemon's signals as a stream
//! - [`passing`]: fds and credentials over Unix sockets
//! - [`socket`]: making sockets, and asking them what they are
//! - [`environment`]: what the environment says, read once
//! - [`user`], [`program`], [`limits`], [`directory`], [`lock`], [`peer`]: one question each
//!
//! Calls that only Linux has stand in `linux.rs`, in `process` and in `socket::queue`.
// Safe wrappers exist for most of what is needed (nix, socket2), but not for pidfds, ancillary data and
// fds with exact numbers. Those few calls live here, each with its reason to be sound.
#![allow(unsafe_code)]

pub mod clock;
pub mod directory;
pub mod environment;
pub mod fd;
pub mod limits;
#[cfg(target_os = "linux")]
mod linux;
pub mod lock;
pub mod passing;
pub mod peer;
pub mod process;
pub mod program;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod user;
mod words;

pub use words::words;

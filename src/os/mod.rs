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
//! - [`launchd`]: the sockets that launchd holds for us
//! - `sealed`: memory that is passed on and cannot change
//! - [`user`], [`program`], [`limits`], [`directory`], [`lock`], [`peer`], [`pin`],
//!   [`threads`]: one question each
//!
//! Linux and macOS have the same functions with the same signatures. Calls that only one of them has stand in
//! `linux.rs` and `macos.rs`; a file that is one system's own ends in its name. What behaves differently is in
//! docs/macos.md.
// Safe wrappers exist for most of what is needed (nix, socket2), but not for pidfds, ancillary data and
// fds with exact numbers. Those few calls live here, each with its reason to be sound.
#![allow(unsafe_code)]

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("handover runs on Linux and macOS");

pub mod clock;
pub mod directory;
pub mod environment;
pub mod fd;
pub mod launchd;
pub mod limits;
#[cfg(target_os = "linux")]
mod linux;
pub mod lock;
#[cfg(target_os = "macos")]
mod macos;
pub mod passing;
pub mod peer;
pub mod pin;
pub mod process;
pub mod program;
pub(crate) mod sealed;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod threads;
pub mod user;
mod words;

pub use words::words;

//! Starting a program with exactly the fds, environment and surroundings that are asked for.
//!
//! Between `fork` and `exec` almost nothing is allowed, and a `fork` of a large program stalls it. So the
//! program is not started directly: we start ourselves again (`posix_spawn`, no copy of our memory) as the
//! *exec helper*, which is told over a socket pair what to do, does it in ordinary code with one thread,
//! reports the stage that failed in words, and executes the program. The pid is the program's from the
//! start. docs/decisions holds the alternatives and the measurements.
//!
//! `probe.rs` asks a program whether it is such a helper. `parent.rs` is our side, `helper.rs` the other; `spec.rs` is what they say to each other, `place.rs`
//! gives fds their numbers, and `script.rs` knows why a script is not executed. What it takes to become another
//! user is in `identity.rs`, and that a worker does not outlive us in `parent_death_….rs`. `closer_….rs` is the helper as the process that
//! closes fds for us, `harmless.rs` what it knows of them.

#[cfg(target_os = "linux")]
#[path = "closer_linux.rs"]
mod closer;
#[cfg(target_os = "macos")]
#[path = "closer_macos.rs"]
mod closer;
#[cfg(target_os = "linux")]
mod harmless;
mod helper;
mod identity;
mod parent;
#[cfg(target_os = "linux")]
mod parent_death_linux;
#[cfg(target_os = "macos")]
mod parent_death_macos;
mod place;
mod probe;
mod script;
mod spec;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

pub use closer::{Answer, Ask, Closer};
pub use helper::{helper_main, helper_main_was_called, is_meant_to_be_helper};
pub use parent::{Handshake, Helper, Starting, Streams, spawn};
pub use probe::{NoHelper, probe};
pub use spec::{Identity, StartFault, StartSpec};

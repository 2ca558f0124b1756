//! Processes: watching, signalling and reaping them, and the process groups that they leave.
//!
//! A pid is a number that the kernel gives out again; a pidfd is not. So a process is held by its pidfd, and
//! where only a number will do (a process group; everything on macOS), it is that of a child which is still
//! unreaped. handover owns every wait in its process: no `wait` for "any child" happens anywhere, since that
//! would take what another place waits for.

#[cfg(target_os = "macos")]
mod child_macos;
mod group;
#[cfg(target_os = "linux")]
mod members_linux;
#[cfg(target_os = "macos")]
mod members_macos;
mod name;
mod orphans;
#[cfg(target_os = "linux")]
mod pidfd;
mod state;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
mod wait;

#[cfg(target_os = "macos")]
pub use child_macos::{Pidfd, own_inode};
pub use group::kill_group;
#[cfg(target_os = "linux")]
pub use members_linux::{group_empty, group_members, group_sizes};
#[cfg(target_os = "macos")]
pub use members_macos::{group_empty, group_members, group_sizes};
pub use name::process_name;
pub use orphans::{Reaped, become_subreaper, count_orphans, reap_hidden_orphans, reap_orphans};
#[cfg(target_os = "linux")]
pub use pidfd::{Pidfd, own_inode};
pub use state::{State, state};
pub use wait::Exit;

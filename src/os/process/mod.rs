//! Processes: watching, signalling and reaping them, and the process groups that they leave.
//!
//! A pid is a number that the kernel gives out again; a pidfd is not. So a process is held by its pidfd, and
//! where only a number will do (a process group), its leader is still unreaped. handover owns every wait in
//! its process: no `wait` for "any child" happens anywhere, since that would take what another place waits for.

mod group;
mod orphans;
mod pidfd;
#[cfg(test)]
mod tests;

pub use group::{group_empty, group_members, group_sizes, kill_group};
pub use orphans::{become_subreaper, count_orphans, reap_orphans};
pub use pidfd::{Exit, Pidfd, own_inode};

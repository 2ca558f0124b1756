//! Listening sockets while they are held: what workers have changed on them.

pub(in crate::daemon) mod drift;

//! Clients: the control socket, their commands, messages of theirs to workers, and the status document.

pub(in crate::daemon) mod command;
pub(in crate::daemon) mod commands;
pub(in crate::daemon) mod control_socket;
pub(in crate::daemon) mod report;
pub(in crate::daemon) mod send;

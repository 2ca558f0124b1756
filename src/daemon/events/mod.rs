//! What happened, told once: to readers of events, to the log, and to the service manager.

pub(in crate::daemon) mod bus;
pub(in crate::daemon) mod log;
pub(in crate::daemon) mod service_manager;

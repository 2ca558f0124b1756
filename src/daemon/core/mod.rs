//! The event loop: waiting, giving events to the machine, carrying its actions out.

pub(in crate::daemon) mod execute;
pub(in crate::daemon) mod projection;
pub(in crate::daemon) mod timing;
pub(in crate::daemon) mod turn;

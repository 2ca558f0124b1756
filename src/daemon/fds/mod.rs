//! File descriptors that others sent: taking them without waiting, how many may be held, and closing them elsewhere.

pub(in crate::daemon) mod closer;
pub(in crate::daemon) mod intake;
pub(in crate::daemon) mod quota;

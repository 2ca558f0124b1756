//! Workers: starting one, all that is held of one while it lives, and what is kept of it afterwards.

pub(in crate::daemon) mod address_hint;
pub(in crate::daemon) mod line_queue;
pub(in crate::daemon) mod monitor;
pub(in crate::daemon) mod orphans;
pub(in crate::daemon) mod output;
pub(in crate::daemon) mod output_budget;
pub(in crate::daemon) mod pace;
pub(in crate::daemon) mod process;
pub(in crate::daemon) mod readiness;
pub(in crate::daemon) mod start;
pub(in crate::daemon) mod stored;
pub(in crate::daemon) mod table;

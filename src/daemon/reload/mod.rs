//! Making the next generation: reading its inputs, planning the change, preparing and committing it.

pub(in crate::daemon) mod blocking_jobs;
pub(in crate::daemon) mod config_source;
pub(in crate::daemon) mod dry_run;
pub(in crate::daemon) mod generation;
pub(in crate::daemon) mod inputs;
pub(in crate::daemon) mod plan;
pub(in crate::daemon) mod prepare;
pub(in crate::daemon) mod program;

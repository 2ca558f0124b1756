//! Starting and ending: taking over a process or a part of one, the runtime directory, and the order of it all.

pub(in crate::daemon) mod bootstrap;
pub(in crate::daemon) mod embed_host;
pub(in crate::daemon) mod location;
pub(in crate::daemon) mod run;
pub(in crate::daemon) mod runtime_dir;

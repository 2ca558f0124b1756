//! What can be the value of a key: one type each, with its own check.
//!
//! `plain` has the types that any program's configuration has, `own` those that only make sense here.

mod own;
mod plain;

pub(super) use own::{
    Account, EnvironmentPath, Limits, Mode, RESOURCES, SignalName, Template, TemplatePath, Variables, Workers,
};
pub(super) use plain::{AbsolutePath, Name, Number, Positive, Size};

//! The pure state machine that takes every decision about workers.

mod action;
mod event;
mod status;

pub use action::{Action, ManagerState, Note, Outcome, Place, Retirement, RolloutFailure, WorkerFailure};
pub use event::{Event, ExitStatus, Request, Scope, StartFailure};
pub use status::{PoolStatus, RolloutStatus, SlotStatus, Status, WorkerState, WorkerStatus};

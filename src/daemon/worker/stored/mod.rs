//! Fds that workers put away with `FDSTORE=1`, for those that follow them in their slots (docs/workers.md, decision 0018).
//!
//! - `store`: what is kept, by slot: added, removed, given to a start, let go of
//! - `keeping`: what workers say about it, and which of it a start gets
//!
//! They belong to the slot and to nobody else: the machine decides when there is a slot, and no generation or rollout makes a
//! difference here. What is kept is bounded for each slot, and for all together by a pot of its own (`allowance`).

mod keeping;
mod store;

pub(in crate::daemon) use keeping::Given;
pub(in crate::daemon) use store::Store;

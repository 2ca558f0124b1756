//! The named sockets that handover holds: taken over from whoever started it, or bound.
//!
//! [`plan`] is pure and decides which inherited socket serves which listener; [`systemd`] takes what the
//! environment offers, [`launchd`] what launchd has; `bind` and `unix_file` make sockets; [`Held`] is a
//! listener's sockets while they are held, and notices what workers do to them. What generation holds which
//! listener is the daemon's affair.

mod bind;
#[cfg(test)]
mod contested;
mod drift;
mod error;
mod held;
mod inherited;
pub mod launchd;
pub mod plan;
pub mod systemd;
mod unix_file;

pub use bind::is_free;
pub use drift::Drift;
pub use error::BindError;
pub use held::{Held, Origin};
pub use inherited::Inherited;

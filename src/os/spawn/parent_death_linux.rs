//! A worker does not outlive its supervisor, on Linux: `PR_SET_PDEATHSIG`.

use std::io;

/// Before the change of user: nothing to do here.
pub(super) fn before_identity(_parent: u32, _signal: i32) -> io::Result<()> {
    Ok(())
}

/// After everything that clears it: asks for the signal.
pub(super) fn after_identity(signal: i32) -> io::Result<()> {
    crate::os::linux::set_parent_death_signal(signal)
}

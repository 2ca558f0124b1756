//! How children ended: `waitid(2)`.

use std::io;

use nix::errno::Errno;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// It left a core file.
        core: bool,
    },
    /// It is not our child, so the kernel tells us nothing.
    Unknown,
}

impl Exit {
    /// What [`waitid`] found.
    pub(super) fn of(info: &libc::siginfo_t) -> Self {
        // SAFETY: waitid has filled in the fields of a child's state.
        let status = unsafe { info.si_status() };
        match info.si_code {
            libc::CLD_EXITED => Self::Code(status),
            libc::CLD_KILLED => Self::Signal { signal: status, core: false },
            libc::CLD_DUMPED => Self::Signal { signal: status, core: true },
            _ => Self::Unknown,
        }
    }
}

/// `waitid(2)` for a child, with `WEXITED | WNOHANG` and `more` flags. `None`: it has not ended.
///
/// Not nix's: that knows no real-time signals, and a child that one of them ended would be an error; and on
/// macOS it has none.
pub(super) fn waitid(kind: libc::idtype_t, id: u32, more: i32) -> io::Result<Option<libc::siginfo_t>> {
    // SAFETY: all bytes zero are a valid siginfo_t; it is how a caller sees that nothing was found. (macOS
    // leaves it as it is then.)
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is a valid place for one siginfo_t.
        let done = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG | more) };
        match Errno::result(done) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            // SAFETY: after success the kernel has filled in the fields of a child's state, or none.
            Ok(_) if unsafe { info.si_pid() } == 0 => return Ok(None),
            Ok(_) => return Ok(Some(info)),
        }
    }
}

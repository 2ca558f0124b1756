//! The signals that ask a program to end, as something to wait for: `sigaction(2)`, `signal-safety(7)`.
//!
//! For programs without a runtime; the daemon has `os::signal` instead. Needs libc alone.

use std::io::{self, PipeReader};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// The writing end of the pipe; it is never closed. -1: nobody asked.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// From now on `SIGTERM` and `SIGINT` write their number, one byte, into the pipe whose reading end this gives. The first of each
/// does; then that signal has its default effect again, so that a second one ends a program that hangs.
///
/// # Errors
/// `AlreadyExists` where this was done before in this process; any of `pipe(2)` and `sigaction(2)`.
pub fn termination() -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    let number = writer.into_raw_fd();
    if PIPE.compare_exchange(-1, number, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        // SAFETY: this number is ours, and nobody has seen it.
        unsafe { libc::close(number) };
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all bytes zero are a valid sigaction: no flags, an empty mask. The handler calls only write(2).
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = arrived as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(reader)
}

extern "C" fn arrived(signal: libc::c_int) {
    let byte = signal.to_ne_bytes();
    let byte = if cfg!(target_endian = "little") { &byte[0] } else { &byte[byte.len() - 1] };
    // SAFETY: one byte, alive; write(2) may be called in a handler. An empty pipe has room for both signals, so it does not fail,
    // and errno stays as it was.
    unsafe { libc::write(PIPE.load(Ordering::SeqCst), std::ptr::from_ref(byte).cast(), 1) };
}

/// The name of a signal that [`termination`] reports.
pub const fn name(signal: u8) -> &'static str {
    if signal as libc::c_int == libc::SIGINT { "SIGINT" } else { "SIGTERM" }
}

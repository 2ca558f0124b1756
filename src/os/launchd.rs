//! The sockets that launchd holds for us: `launch_activate_socket(3)`.
//!
//! The call gives an array of fds that the caller frees, and that go to every child unless they are made
//! close-on-exec. It is taken through a pointer, so that a stand-in can take its place where there is no
//! launchd.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// The type of `launch_activate_socket`: the name of an entry in `Sockets`; where to put the address of an
/// array of fds, to be freed with `free(3)`; where to put their number. The result is an errno, or 0.
pub type Activate =
    unsafe extern "C" fn(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int;

/// What is called: launchd's own, or a stand-in.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// See [`Activate`].
    pub activate: Activate,
    /// `free(3)`, for the array.
    pub free: unsafe extern "C" fn(*mut c_void),
}

#[cfg(target_os = "macos")]
unsafe extern "C" {
    fn launch_activate_socket(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int;
}

/// Takes over the sockets that the job's property list has under this name in `Sockets`; each name once in the
/// life of a process. They are close-on-exec from here on.
///
/// # Errors
/// `ESRCH`: this process is not launchd's; always so elsewhere than on macOS. `ENOENT`: no such name.
/// `EALREADY`: they were taken before.
#[cfg(target_os = "macos")]
pub fn activate(name: &str) -> io::Result<Vec<OwnedFd>> {
    // SAFETY: this is the function that the type describes.
    unsafe { activate_by(Calls { activate: launch_activate_socket, free: libc::free }, name) }
}

/// See the other.
#[cfg(not(target_os = "macos"))]
pub fn activate(_name: &str) -> io::Result<Vec<OwnedFd>> {
    Err(Errno::ESRCH.into())
}

/// The same through `calls`.
///
/// # Errors
/// As [`activate`]: what the call returns, and `InvalidInput` for a name with a NUL in it.
///
/// # Safety
/// Where `activate` returns 0 it must have put the address of an array into `fds`, or a null pointer, and its
/// length into `count`; the array must be one that `free` may have, and its fds nobody else's.
pub unsafe fn activate_by(calls: Calls, name: &str) -> io::Result<Vec<OwnedFd>> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let (mut array, mut count) = (std::ptr::null_mut::<c_int>(), 0);
    // SAFETY: the name ends in a NUL, and the other two point at places for what is returned.
    match unsafe { (calls.activate)(name.as_ptr(), &raw mut array, &raw mut count) } {
        0 => {}
        errno => return Err(Errno::from_raw(errno).into()),
    }
    if array.is_null() {
        return Ok(Vec::new());
    }
    // Each gets its owner before anything can fail. An array of none may be any address that can be freed.
    // SAFETY: by the contract of this function `count` fds stand there, and we are the first to own them.
    let fds: Vec<OwnedFd> =
        (0..count).map(|index| unsafe { OwnedFd::from_raw_fd(array.add(index).read()) }).collect();
    // SAFETY: it may be freed, by the same contract, and is not used any more.
    unsafe { (calls.free)(array.cast()) };
    for fd in &fds {
        super::fd::set_close_on_exec(fd.as_raw_fd(), true)?;
    }
    Ok(fds)
}

#[cfg(test)]
pub(crate) mod stand_in;

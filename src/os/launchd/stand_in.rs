//! A stand-in for launchd, in C's clothes: what it gives is what `launch_activate_socket(3)` gives, arrays from
//! `malloc(3)` with fds that are open across exec.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use super::{Calls, activate_by};
use crate::os::fd::set_close_on_exec;

thread_local! {
    /// Arrays that were given and are not freed.
    static ARRAYS: Cell<usize> = const { Cell::new(0) };
    /// Where the listening sockets are that were given.
    static GIVEN: RefCell<Vec<SocketAddr>> = const { RefCell::new(Vec::new()) };
}

/// `http`: two sockets, of IPv4 and IPv6. `dns`: one for datagrams. `empty` and `null`: none. `taken`: taken before.
/// `stream`: a socket that does not listen. Else there is no such name.
fn sockets(name: &str) -> Result<Vec<OwnedFd>, c_int> {
    let tcp = |address: &str| {
        let listener = TcpListener::bind(address).unwrap();
        GIVEN.with_borrow_mut(|given| given.push(listener.local_addr().unwrap()));
        OwnedFd::from(listener)
    };
    Ok(match name {
        "http" => vec![tcp("127.0.0.1:0"), tcp("[::1]:0")],
        "dns" => vec![UdpSocket::bind("127.0.0.1:0").unwrap().into()],
        "stream" => vec![std::os::unix::net::UnixStream::pair().unwrap().0.into()],
        "file" => vec![std::fs::File::open("/dev/null").unwrap().into()],
        "empty" | "null" => Vec::new(),
        "taken" => return Err(libc::EALREADY),
        "broken" => return Err(libc::ENOMEM),
        _ => return Err(libc::ENOENT),
    })
}

unsafe extern "C" fn give(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int {
    // SAFETY: the caller gives a text that ends in a NUL.
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap();
    let numbers: Vec<c_int> = match sockets(name) {
        Ok(sockets) => sockets.into_iter().map(IntoRawFd::into_raw_fd).collect(),
        Err(errno) => return errno,
    };
    numbers.iter().for_each(|number| set_close_on_exec(*number, false).unwrap());
    let bytes = (numbers.len() * size_of::<c_int>()).max(1);
    // SAFETY: room for so many fds, one byte where there are none; the places are the caller's.
    unsafe {
        let array = if name == "null" { std::ptr::null_mut() } else { libc::malloc(bytes).cast::<c_int>() };
        for (index, number) in numbers.iter().enumerate() {
            array.add(index).write(*number);
        }
        ARRAYS.set(ARRAYS.get() + usize::from(!array.is_null()));
        fds.write(array);
        count.write(numbers.len());
    }
    0
}

unsafe extern "C" fn free(array: *mut c_void) {
    assert!(!array.is_null());
    ARRAYS.set(ARRAYS.get() - 1);
    // SAFETY: the stand-in took it from malloc.
    unsafe { libc::free(array) };
}

/// [`activate`](super::activate) by the stand-in.
pub(crate) fn activate(name: &str) -> io::Result<Vec<OwnedFd>> {
    // SAFETY: the stand-in does as the contract says.
    let fds = unsafe { activate_by(Calls { activate: give, free }, name) };
    assert_eq!(ARRAYS.get(), 0, "every array is freed");
    fds
}

/// How many of the listening sockets that were given to this thread are open, and how many were given.
pub(crate) fn open_of_given() -> (usize, usize) {
    GIVEN.with_borrow(|given| {
        let open = given.iter().filter(|address| TcpStream::connect(address).is_ok());
        (open.count(), given.len())
    })
}

/// Whether no child gets it.
pub(crate) fn is_close_on_exec(fd: &OwnedFd) -> bool {
    // SAFETY: F_GETFD only asks.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

#[test]
fn two_sockets_of_one_name_have_owners_and_are_close_on_exec() {
    let fds = activate("http").unwrap();
    assert_eq!(fds.len(), 2);
    assert!(fds.iter().all(is_close_on_exec));
    assert_eq!(open_of_given(), (2, 2));
    drop(fds);
    assert_eq!(open_of_given(), (0, 2), "they went with their owners");
}

#[test]
fn no_sockets_are_none_whatever_the_address_of_the_array() {
    assert!(activate("empty").unwrap().is_empty());
    assert!(activate("null").unwrap().is_empty());
}

#[test]
fn an_errno_is_an_error() {
    assert_eq!(activate("taken").unwrap_err().raw_os_error(), Some(libc::EALREADY));
    assert_eq!(activate("nobody").unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(activate("a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
#[cfg(not(target_os = "macos"))]
fn without_launchd_nothing_is_managed_by_it() {
    assert_eq!(super::activate("http").unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

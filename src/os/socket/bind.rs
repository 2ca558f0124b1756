//! Binding a Unix socket to a path so that nobody else can use it yet.

use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::Mode;
use socket2::{SockAddr, SockRef};

/// Nobody but the owner.
const CLOSED: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Binds a Unix socket; its file has mode 0600 less the umask from the moment that it is there.
///
/// # Errors
/// Any of `bind(2)`.
#[cfg(target_os = "linux")]
pub fn bind_closed(socket: impl AsFd, address: &SockAddr) -> io::Result<()> {
    // The file gets the socket's own mode, less the umask (unix_bind in net/unix/af_unix.c).
    nix::sys::stat::fchmod(&socket, CLOSED)?;
    SockRef::from(&socket).bind(address)
}

/// See the other. The file gets 0777 less the umask (`unp_bind` in bsd/kern/uipc_usrreq.c), and a socket has no
/// mode of its own. The umask is the whole process's; its one other thread makes no files.
#[cfg(target_os = "macos")]
pub fn bind_closed(socket: impl AsFd, address: &SockAddr) -> io::Result<()> {
    let before = nix::sys::stat::umask(CLOSED.complement());
    let bound = SockRef::from(&socket).bind(address);
    nix::sys::stat::umask(before);
    bound
}

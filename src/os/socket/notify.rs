//! The datagram socket to which a worker reports.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::stat::Mode;

use super::bind::bind_closed_in;
use crate::os::open_directory::{OpenDirectory, is_trusted};

/// Everybody may write to it.
const OPEN: Mode = Mode::from_bits_truncate(0o666);

/// Makes the datagram socket to which a worker reports (`sd_notify(3)`), nonblocking, with the sender's
/// credentials on every message where [`SENDERS_ARE_KNOWN`](crate::os::passing::SENDERS_ARE_KNOWN). Everybody may send to it, whatever our umask: a program that has given up
/// its privileges, too. Who may find it is for the directory to say, and
/// `path` stands nowhere else: every user can read under which path a socket was bound (`/proc/net/unix`), so it is bound at
/// `draft`, in the same directory, and renamed.
///
/// # Errors
/// `AddrInUse`: something is at `draft`; what is at `path` is replaced. `InvalidInput`: one of them is longer than 107 bytes (macOS: 103).
pub fn bind_notify_socket(path: &Path, draft: &Path) -> io::Result<UnixDatagram> {
    // Those who send to it need its path, too.
    socket2::SockAddr::unix(path)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    // Before it can be reached, so that no message comes without credentials.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_passcred(true)?;
    // Where it is full, a sender gets ENOBUFS and does not wait, and its 4 KiB are full after two long messages
    // (net.local.dgram.recvspace).
    #[cfg(target_os = "macos")]
    socket2::SockRef::from(&socket).set_recv_buffer_size(256 << 10)?;
    let (directory, name) = OpenDirectory::of(path)?;
    let owner = directory.status()?.st_uid;
    // The parents of our directory may be somebody else's, who can put one of his own in its place.
    if !is_trusted(owner) {
        return Err(io::Error::other(format!("{}: belongs to uid {owner}", directory.path().display())));
    }
    let draft = draft.file_name().unwrap_or_default();
    let in_place = bind_closed_in(&socket, &directory, draft)
        .and_then(|made| made.set_mode(OPEN))
        .and_then(|()| directory.rename(draft, name));
    in_place.inspect_err(|_| drop(directory.remove(draft)))?;
    Ok(socket)
}

//! The datagram socket to which a worker reports.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Makes the datagram socket to which a worker reports (`sd_notify(3)`), nonblocking, with the sender's
/// credentials on every message where [`SENDERS_ARE_KNOWN`](crate::os::passing::SENDERS_ARE_KNOWN). Everybody may send to it, whatever our umask: a program that has given up
/// its privileges, too. Who may find it is for the directory to say.
///
/// # Errors
/// `AddrInUse`: something is at `path`. `InvalidInput`: it is longer than 107 bytes (macOS: 103).
pub fn bind_notify_socket(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    // Before it can be reached, so that no message comes without credentials.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_passcred(true)?;
    // Where it is full, a sender gets ENOBUFS and does not wait, and its 4 KiB are full after two long messages
    // (net.local.dgram.recvspace).
    #[cfg(target_os = "macos")]
    socket2::SockRef::from(&socket).set_recv_buffer_size(256 << 10)?;
    socket2::SockRef::from(&socket).bind(&socket2::SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

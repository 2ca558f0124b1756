//! What this worker says on `$NOTIFY_SOCKET`, and to the test.

use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use sendfd::SendWithFd;

/// Sends `text` as one datagram to `$NOTIFY_SOCKET`; nothing happens where that is not set.
pub(crate) fn send(text: &[u8]) -> std::io::Result<()> {
    match std::env::var("NOTIFY_SOCKET") {
        Ok(path) => send_to(&path, text),
        Err(_) => Ok(()),
    }
}

/// Puts an fd of its own away under a name.
pub(crate) fn store(name: &str) -> std::io::Result<()> {
    let path = std::env::var("NOTIFY_SOCKET").map_err(std::io::Error::other)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let file = std::fs::File::open("/dev/null")?;
    socket.send_with_fd(format!("FDSTORE=1\nFDNAME={name}").as_bytes(), &[file.as_raw_fd()]).map(drop)
}

/// Sends `text` as one datagram to the socket at `path` (`@name`: an abstract one).
pub(crate) fn send_to(path: &str, text: &[u8]) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(path))?,
    };
    socket.send_to_addr(text, &address).map(drop)
}

//! `NOTIFY_SOCKET`: what a worker says where there is no channel, and what only goes there: `sd_notify(3)`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::os::passing;
use crate::os::poll::{Entry, poll};

/// How long a worker waits for a service manager that does not read its socket.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where to send.
#[derive(Debug)]
pub(super) struct Notify(SocketAddr);

impl Notify {
    /// Takes a path or `@name`; `None` for what is neither (`vsock:`), or too long.
    pub(super) fn at(address: &OsStr) -> Option<Self> {
        match address.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(address).ok().map(Self),
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => {
                use std::os::linux::net::SocketAddrExt;
                SocketAddr::from_abstract_name(name).ok().map(Self)
            }
            _ => None,
        }
    }

    /// Sends fields, one a line, with fds if there are any. Waits up to a second for room.
    pub(super) fn send(&self, fields: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&self.0)?;
        let sent = match passing::send_now(socket.as_fd(), fields.as_bytes(), fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [Entry::either(socket.as_fd(), false, true)], Some(PATIENCE))?;
                passing::send_now(socket.as_fd(), fields.as_bytes(), fds)
            }
            sent => sent,
        };
        sent.map(drop)
    }
}

/// A text as the value of a field: on one line.
pub(super) fn value(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_bring_a_field_of_its_own() {
        assert_eq!(value("bad\nMAINPID=1"), "bad MAINPID=1");
    }

    #[test]
    fn fields_and_fds_arrive_at_both_kinds_of_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::at(path.as_os_str()).unwrap();
        notify.send("FDSTORE=1\nFDNAME=x", &[manager.as_fd()]).unwrap();
        let mut buffer = [0; 100];
        let got = passing::receive(manager.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..got.length], got.fds.len()), (&b"FDSTORE=1\nFDNAME=x"[..], 1));
        assert!(Notify::at(OsStr::new("vsock:2:1")).is_none());
        assert_eq!(Notify::at(OsStr::new("@some")).is_some(), cfg!(target_os = "linux"));
    }
}

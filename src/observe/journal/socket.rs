//! Sends datagrams to the journal, small ones as they are, large ones in sealed memory.
//!
//! The rules are those of systemd's page on the journal's native protocol: one record is one datagram; what is
//! too large for one is passed as an fd of sealed memory, with no byte beside it; a datagram that is empty and has no
//! fd is thrown away, which makes it a question whether somebody is there.
//!
//! Sending blocks. The socket is connected, so that a sender that waits for room wakes when the journal goes away.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use sendfd::SendWithFd;

use crate::os::sealed::sealed;

/// See the module.
pub(super) struct Socket {
    path: PathBuf,
    connected: Option<UnixDatagram>,
}

impl Socket {
    /// To this path; nothing is opened yet.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), connected: None }
    }

    /// Opens it where it is not open. Does not block.
    ///
    /// # Errors
    /// `NotFound`, `ConnectionRefused`: nobody is there.
    pub(super) fn connect(&mut self) -> io::Result<&UnixDatagram> {
        if self.connected.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            self.connected = Some(socket);
        }
        self.connected.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Sends one record, and waits for room.
    ///
    /// # Errors
    /// Nobody is there, or there is no memory for a large one: nothing was sent.
    pub(super) fn send(&mut self, record: &[u8]) -> io::Result<()> {
        self.again(|socket| match send(socket, record) {
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => send_large(socket, record),
            result => result,
        })
    }

    /// Waits until the journal has room, and says whether it is there.
    ///
    /// # Errors
    /// Nobody is there.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        self.again(|socket| send(socket, &[]))
    }

    /// Once more where the journal has made its socket anew.
    fn again(&mut self, mut call: impl FnMut(&UnixDatagram) -> io::Result<()>) -> io::Result<()> {
        let was_open = self.connected.is_some();
        match call(self.connect()?) {
            Err(_) if was_open => {
                self.connected = None;
                call(self.connect()?).inspect_err(|_| self.connected = None)
            }
            Err(error) => {
                self.connected = None;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }
}

fn send(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    uninterrupted(|| socket.send(bytes))
}

fn send_large(socket: &UnixDatagram, record: &[u8]) -> io::Result<()> {
    let memory = sealed(c"handover-log", record)?;
    uninterrupted(|| socket.send_with_fd(&[], &[memory.as_raw_fd()]))
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use std::os::fd::AsFd;

    use crate::os::passing::receive;

    #[test]
    fn a_record_too_large_for_a_datagram_comes_as_sealed_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::at(&path);
        let record = vec![b'x'; 1 << 20];
        socket.send(&record).unwrap();
        let mut received = receive(server.as_fd(), &mut [0; 16]).unwrap();
        assert_eq!((received.length, received.fds.len()), (0, 1));
        let mut file = std::fs::File::from(received.fds.pop().unwrap());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, record);
        assert!(file.set_len(0).is_err(), "it is sealed");
    }

    #[test]
    fn a_socket_made_anew_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut socket = Socket::at(&path);
        assert!(socket.probe().is_err());
        for text in [b"one", b"two"] {
            let server = UnixDatagram::bind(&path).unwrap();
            socket.probe().unwrap();
            socket.send(text).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(server.recv(&mut buffer).unwrap(), 0, "the question");
            assert_eq!(server.recv(&mut buffer).unwrap(), 3);
            drop(server);
            assert_eq!(socket.probe().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            std::fs::remove_file(&path).unwrap();
        }
    }
}

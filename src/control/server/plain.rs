//! A connection through which bytes come and nothing else.
//!
//! A client may send fds with them, which nobody here wants, and closing one may take as long as the client likes. Where the kernel
//! can, it refuses them to the client (`SO_PASSRIGHTS`, Linux 6.16). Elsewhere a message with fds is seen before it is taken, and
//! left where it is: that is the connection's end, and its socket goes to whoever closes for us.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::os::foreign::Guarded;

/// See the module.
#[derive(Debug)]
pub(super) struct Plain(Guarded<UnixStream>);

impl Plain {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self(Guarded::new(stream))
    }
}

impl AsyncRead for Plain {
    #[cfg(target_os = "linux")]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        use std::os::fd::AsFd;

        use tokio::io::Interest;

        let stream = &*self.0;
        loop {
            std::task::ready!(stream.poll_read_ready(context))?;
            let room = into.initialize_unfilled();
            let read = stream.try_io(Interest::READABLE, || {
                let seen = crate::os::passing::look(stream.as_fd(), room, false)?;
                if seen.has_fds {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "fds came"));
                }
                crate::os::passing::take_without_fds(stream.as_fd(), &mut room[..seen.length])
            });
            match read {
                Ok(length) => {
                    into.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, bytes)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::os::foreign::Outbox;
    use crate::os::passing::send_now;

    #[tokio::test]
    async fn bytes_pass_and_fds_end_the_connection_without_being_taken_or_closed() {
        let outbox = Outbox::of_this_thread();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut watched, end) = std::io::pipe().unwrap();
        nix::fcntl::fcntl(&watched, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut plain = Plain::new(ours);
        send_now(theirs.as_fd(), b"GET", &[]).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(plain.read(&mut buffer).await.unwrap(), 3);
        send_now(theirs.as_fd(), b" / ", &[end.as_fd()]).unwrap();
        drop(end);
        assert_eq!(plain.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(plain);
        assert_eq!(outbox.len(), 1, "the socket, with what is in it");
        let still_open = io::Read::read(&mut watched, &mut buffer).unwrap_err();
        assert_eq!(still_open.kind(), io::ErrorKind::WouldBlock);
    }
}

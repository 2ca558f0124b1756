//! What goes through a pipe.

use std::fmt;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::os::stream::is_stream;

/// The number of an item: each pipe counts from 1, in the order in which it sends.
///
/// ```
/// let (mut sender, _receiver) = handover::pipe::pair()?;
/// let id = sender.send(handover::pipe::Item::without_fds("first"))?;
/// assert_eq!((id.get(), id.to_string().as_str()), (1, "1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub(super) u64);

impl ItemId {
    /// The number, as it stands in the line.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Data with the fds that belong to it.
///
/// ```
/// use handover::pipe::Item;
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, writer) = std::io::pipe()?;
/// let item = Item { data: "both ends", fds: vec![reader.into(), writer.into()] };
/// assert_eq!(item.fds.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Item<T> {
    /// Anything that serde writes as JSON; at most [`DATA_MAX`](super::DATA_MAX) bytes of it.
    pub data: T,
    /// At most [`FDS_PER_ITEM_MAX`](super::FDS_PER_ITEM_MAX), and they arrive in this order; may be none.
    pub fds: Vec<OwnedFd>,
}

impl<T> Item<T> {
    /// Data with one fd: a connection of std, a file, or any [`OwnedFd`].
    ///
    /// ```
    /// let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let item = handover::pipe::Item::with_fd(7, ours);
    /// assert_eq!((item.data, item.fds.len()), (7, 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_fd(data: T, fd: impl Into<OwnedFd>) -> Self {
        Self { data, fds: vec![fd.into()] }
    }

    /// Data alone.
    ///
    /// ```
    /// assert!(handover::pipe::Item::without_fds("hello").fds.is_empty());
    /// ```
    pub const fn without_fds(data: T) -> Self {
        Self { data, fds: Vec::new() }
    }

    /// The data and the one fd.
    ///
    /// ```
    /// use handover::pipe::Item;
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let (data, _fd) = Item::with_fd(7, reader).into_fd().expect("it has one");
    /// assert_eq!(data, 7);
    /// assert!(Item::without_fds(7).into_fd().is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The item as it is, where it has none or several.
    pub fn into_fd(mut self) -> Result<(T, OwnedFd), Self> {
        match self.fds.pop() {
            Some(fd) if self.fds.is_empty() => Ok((self.data, fd)),
            fd => {
                self.fds.extend(fd);
                Err(self)
            }
        }
    }

    /// The data and the one TCP connection, which is made to block: a sender on tokio has it the other way round, and the mode
    /// travels with the connection.
    ///
    /// It may be dead already, as any connection may; then its first read says so.
    ///
    /// ```
    /// use handover::pipe::Item;
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (data, connection) = Item::with_fd("web", client).into_tcp_stream().expect("it is one");
    /// assert_eq!(connection.peer_addr()?, listener.local_addr()?);
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// assert!(Item::with_fd("web", reader).into_tcp_stream().is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The item as it is, where it has not one fd, or that is no TCP socket.
    pub fn into_tcp_stream(self) -> Result<(T, TcpStream), Self> {
        let (data, stream) = self.into_stream(|stream: &TcpStream| stream.local_addr().is_ok())?;
        match stream.set_nonblocking(false) {
            Ok(()) => Ok((data, stream)),
            Err(_) => Err(Self::with_fd(data, stream)),
        }
    }

    /// The data and the one Unix stream socket, which is made to block.
    ///
    /// ```
    /// let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let (data, _socket) = handover::pipe::Item::with_fd(7, ours).into_unix_stream().expect("it is one");
    /// assert_eq!(data, 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The item as it is, where it has not one fd, or that is no Unix stream socket.
    pub fn into_unix_stream(self) -> Result<(T, UnixStream), Self> {
        let (data, stream) = self.into_stream(|stream: &UnixStream| stream.local_addr().is_ok())?;
        match stream.set_nonblocking(false) {
            Ok(()) => Ok((data, stream)),
            Err(_) => Err(Self::with_fd(data, stream)),
        }
    }

    /// The data and the one fd, as a socket of a family that `is_of_family` knows.
    fn into_stream<S>(self, is_of_family: impl Fn(&S) -> bool) -> Result<(T, S), Self>
    where
        S: From<OwnedFd> + Into<OwnedFd>,
    {
        let (data, fd) = self.into_fd()?;
        if !is_stream(fd.as_fd()) {
            return Err(Self::with_fd(data, fd));
        }
        let stream = S::from(fd);
        if is_of_family(&stream) { Ok((data, stream)) } else { Err(Self::with_fd(data, stream)) }
    }
}

/// Connections of tokio. All of these need its runtime, with I/O.
#[cfg(feature = "tokio")]
impl<T> Item<T> {
    /// Data with a TCP connection of tokio.
    ///
    /// ```
    /// use handover::pipe::Item;
    /// use tokio::net::{TcpListener, TcpStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let item = Item::with_tokio_tcp_stream("web", client)?;
    /// let (data, stream) = item.into_tokio_tcp_stream()?;
    /// assert_eq!((data, stream.peer_addr()?), ("web", listener.local_addr()?));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where tokio cannot let go of it (`TcpStream::into_std`).
    pub fn with_tokio_tcp_stream(data: T, stream: ::tokio::net::TcpStream) -> std::io::Result<Self> {
        Ok(Self::with_fd(data, stream.into_std()?))
    }

    /// Data with a Unix connection of tokio.
    ///
    /// ```
    /// use handover::pipe::Item;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (ours, _theirs) = tokio::net::UnixStream::pair()?;
    /// let (data, _stream) = Item::with_tokio_unix_stream(7, ours)?.into_tokio_unix_stream()?;
    /// assert_eq!(data, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where tokio cannot let go of it (`UnixStream::into_std`).
    pub fn with_tokio_unix_stream(data: T, stream: ::tokio::net::UnixStream) -> std::io::Result<Self> {
        Ok(Self::with_fd(data, stream.into_std()?))
    }

    /// As [`into_tcp_stream`](Self::into_tcp_stream), for tokio.
    ///
    /// # Errors
    /// `InvalidInput` where it has not one fd, or that is no TCP socket; else what tokio says. The fds are then closed.
    pub fn into_tokio_tcp_stream(self) -> std::io::Result<(T, ::tokio::net::TcpStream)> {
        let wrong = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let (data, stream) = self.into_tcp_stream().map_err(wrong)?;
        stream.set_nonblocking(true)?;
        Ok((data, ::tokio::net::TcpStream::from_std(stream)?))
    }

    /// As [`into_unix_stream`](Self::into_unix_stream), for tokio.
    ///
    /// # Errors
    /// `InvalidInput` where it has not one fd, or that is no Unix stream socket; else what tokio says. The fds are then closed.
    pub fn into_tokio_unix_stream(self) -> std::io::Result<(T, ::tokio::net::UnixStream)> {
        let wrong = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let (data, stream) = self.into_unix_stream().map_err(wrong)?;
        stream.set_nonblocking(true)?;
        Ok((data, ::tokio::net::UnixStream::from_std(stream)?))
    }
}

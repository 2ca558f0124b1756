//! The pipe of programs on tokio: the same items, lines and rules as in [`pipe`](super), where waiting is a future.
//!
//! Everything needs a runtime with I/O. Futures may be dropped at any time; each says what is then of its item.
//!
//! ```
//! use handover::pipe::{self, Item};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut sender, mut receiver) = pipe::tokio::pair::<u16>()?;
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let _client = TcpStream::connect(listener.local_addr()?).await?;
//! let (connection, peer) = listener.accept().await?;
//! sender.send(Item::with_tokio_tcp_stream(peer.port(), connection)?).await?;
//!
//! let item = receiver.recv().await?.expect("the sender is there");
//! let (port, connection) = item.into_tokio_tcp_stream()?;
//! assert_eq!(connection.peer_addr()?.port(), port);
//! sender.settle().await?;
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::error::{End, ReceiveError, SendError, Unsent};
use super::receiving::Receiving;
use super::sending::{Refused, Sending};
use super::{CREDITS, Item, ItemId};
use crate::os::passing::receive_now;
use crate::os::stream::Until;

/// As [`pipe::pair`](super::pair).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut sender, mut receiver) = handover::pipe::tokio::pair()?;
/// sender.send(handover::pipe::Item::without_fds(7)).await?;
/// assert_eq!(receiver.recv().await?.map(|item| item.data), Some(7));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Any of `socketpair(2)`, and of registering the sockets.
pub fn pair<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (here, there) = UnixStream::pair()?;
    Ok((Sender::new(here), Receiver::new(there)))
}

/// Attempts until it is not blocked. What an attempt says that it is blocked on, it has found blocked itself: only
/// then is readiness cleared.
async fn drive<R>(
    socket: &UnixStream,
    mut interest: Interest,
    mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<R, Interest>,
) -> io::Result<R> {
    loop {
        let made = socket.async_io(interest, || match attempt(socket.as_fd()) {
            Ok(result) => Ok(Ok(result)),
            Err(blocked) if blocked == interest => Err(io::ErrorKind::WouldBlock.into()),
            Err(blocked) => Ok(Err(blocked)),
        });
        match made.await? {
            Ok(result) => return Ok(result),
            Err(blocked) => interest = blocked,
        }
    }
}

const EITHER: Interest = Interest::READABLE.add(Interest::WRITABLE);

const fn interest(until: Until) -> Interest {
    match until {
        Until::Readable => Interest::READABLE,
        Until::Writable => Interest::WRITABLE,
        Until::Either => EITHER,
    }
}

/// As [`pipe::Sender`](super::Sender).
///
/// While nothing is sent, [`tended`](Self::tended) should be awaited beside what the program waits for, so that copies of taken connections
/// are closed:
///
/// ```no_run
/// # use handover::pipe::{Item, tokio::Sender};
/// # async fn f(listener: tokio::net::TcpListener, mut sender: Sender<String>) -> Result<(), Box<dyn std::error::Error>> {
/// loop {
///     tokio::select! {
///         accepted = listener.accept() => {
///             let (connection, peer) = accepted?;
///             sender.send(Item::with_tokio_tcp_stream(peer.to_string(), connection)?).await?;
///         }
///         end = sender.tended() => return Err(end.into()),
///     }
/// }
/// # }
/// ```
///
/// ```
/// use std::collections::VecDeque;
/// use handover::pipe::{Item, tokio::{Receiver, Sender}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = tokio::net::UnixStream::pair()?;
/// let (mut sender, mut receiver) = (Sender::new(here), Receiver::new(there));
/// sender.ready().await?;
/// let first = sender.try_send(Item::without_fds(1))?;
/// sender.send_all(&mut VecDeque::from([Item::without_fds(2), Item::without_fds(3)])).await?;
/// assert!(sender.in_flight() == 3 && sender.in_flight_ids().next() == Some(first));
/// assert_eq!(receiver.recv().await?.map(|item| item.data), Some(1));
/// drop(receiver);
/// assert!(sender.settle().await.is_err() && sender.ended().is_some() && sender.next_refused().is_none());
/// assert!(!sender.is_in_flight(first) && sender.taken() == 1);
/// assert_eq!(sender.into_untaken().len(), 2);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Sender<T> {
    socket: UnixStream,
    sending: Sending<T>,
}

impl<T> Sender<T> {
    /// As [`pipe::Sender::new`](super::Sender::new).
    pub fn new(socket: UnixStream) -> Self {
        let sending = Sending::new(socket.as_fd());
        Self { socket, sending }
    }

    /// How many items are under way: sent, and as far as is known not taken.
    pub fn in_flight(&self) -> usize {
        self.sending.in_flight().len()
    }

    /// Which items are under way, in their order.
    pub fn in_flight_ids(&self) -> impl Iterator<Item = ItemId> {
        self.sending.in_flight().ids()
    }

    /// Whether this item is under way. If not, it was taken, or refused and is with [`next_refused`](Self::next_refused).
    pub fn is_in_flight(&self, id: ItemId) -> bool {
        self.sending.in_flight().contains(id.0)
    }

    /// How many items were taken in all.
    pub const fn taken(&self) -> u64 {
        self.sending.taken()
    }

    /// Why the pipe has ended; `None` while it has not, as far as is known.
    pub const fn ended(&self) -> Option<&End> {
        self.sending.ended()
    }

    /// An item that the receiver refused, with its fds, if there is one. Until it is fetched it holds a credit.
    pub fn next_refused(&mut self) -> Option<Refused<T>> {
        self.sending.next_refused()
    }

    /// Takes note of acknowledgements and refusals until the pipe has ended, and says why it has. May be dropped at any time: nothing is lost.
    pub async fn tended(&mut self) -> End {
        self.tend_until(|_| false).await.err().unwrap_or(End::Closed)
    }

    /// Waits until each item that is under way was taken or refused. May be dropped at any time.
    ///
    /// # Errors
    /// That the pipe has ended.
    pub async fn settle(&mut self) -> Result<(), End> {
        self.tend_until(|sending| sending.in_flight().is_empty() && !sending.has_rest()).await
    }

    async fn tend_until(&mut self, done: impl Fn(&Sending<T>) -> bool) -> Result<(), End> {
        let Self { socket, sending } = self;
        let tended = drive(socket, EITHER, |socket| {
            sending.tend_whole(socket);
            sending.flush(socket);
            match sending.ended() {
                _ if done(sending) => Ok(Ok(())),
                Some(end) => Ok(Err(end.clone())),
                None if sending.has_rest() => Err(EITHER),
                None => Err(Interest::READABLE),
            }
        });
        tended.await.unwrap_or_else(|error| Err(End::of(&error)))
    }

    /// Waits until each item was taken or refused, or the receiver is gone, and gives what was not taken back. Dropped, it gives up the pipe.
    ///
    /// # Errors
    /// Where the socket cannot be waited for.
    pub async fn close(mut self) -> io::Result<Vec<(ItemId, Item<T>)>> {
        match self.settle().await {
            Err(End::Io(kind, what)) => Err(io::Error::new(kind, what)),
            _ => Ok(self.into_untaken()),
        }
    }

    /// As [`pipe::Sender::into_untaken`](super::Sender::into_untaken).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut sender, receiver) = handover::pipe::tokio::pair()?;
    /// sender.send(handover::pipe::Item::without_fds(7)).await?;
    /// drop(receiver);
    /// assert_eq!(sender.close().await?.len(), 1); // waits, as `into_untaken` does not
    /// # Ok(()) }
    /// ```
    pub fn into_untaken(mut self) -> Vec<(ItemId, Item<T>)> {
        self.sending.withdraw(self.socket.as_fd())
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends an item; waits for a credit and for room. Dropped before it is done, its item is closed, if it was not sent: where that
    /// matters, await [`ready`](Self::ready) and then call [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// The item, and why it was not sent; never [`Unsent::WouldBlock`].
    pub async fn send(&mut self, item: Item<T>) -> Result<ItemId, SendError<T>> {
        let mut items = VecDeque::from([item]);
        let sent = self.send_all(&mut items).await;
        sent.or_else(|why| match items.pop_front() {
            Some(item) => Err(SendError { item, why }),
            // It is in flight, and comes back as untaken.
            None => Ok(self.sending.last()),
        })
    }

    /// Waits until [`try_send`](Self::try_send) has a credit and room. May be dropped at any time.
    ///
    /// # Errors
    /// Why nothing can be sent; never [`Unsent::WouldBlock`].
    pub async fn ready(&mut self) -> Result<(), Unsent> {
        let Self { socket, sending } = self;
        let ready = drive(socket, EITHER, |socket| match sending.ready(socket) {
            Err(Unsent::WouldBlock) => Err(interest(sending.blocked())),
            result => Ok(result),
        });
        ready.await.unwrap_or_else(|error| Err(Unsent::Ended(End::of(&error))))
    }

    /// Sends an item if that can be done at once.
    ///
    /// # Errors
    /// The item, and why it was not sent; [`Unsent::WouldBlock`] where the receiver does not take more now.
    pub fn try_send(&mut self, item: Item<T>) -> Result<ItemId, SendError<T>> {
        let mut items = VecDeque::from([item]);
        let sent = self.sending.offer(self.socket.as_fd(), &mut items);
        sent.or_else(|why| match items.pop_front() {
            Some(item) => Err(SendError { item, why }),
            None => Ok(self.sending.last()),
        })
    }

    /// Sends items from the front, all of them, as many as possible in each system call. May be dropped at any time: what
    /// is still in `items` was not sent.
    ///
    /// # Errors
    /// Why the item that is now in front was not sent; those before it were. An empty queue is answered with
    /// [`Unsent::WouldBlock`]: there is nothing to number.
    pub async fn send_all(&mut self, items: &mut VecDeque<Item<T>>) -> Result<ItemId, Unsent> {
        let Self { socket, sending } = self;
        let mut last = Err(Unsent::WouldBlock);
        let sent = drive(socket, EITHER, |socket| {
            while !items.is_empty() {
                last = sending.offer(socket, items);
                match &last {
                    Ok(_) => {}
                    Err(Unsent::WouldBlock) => return Err(interest(sending.blocked())),
                    Err(_) => return Ok(()),
                }
            }
            sending.flush(socket);
            sending.tend_whole(socket);
            if sending.has_rest() { Err(EITHER) } else { Ok(()) }
        });
        sent.await.map_err(|error| Unsent::Ended(End::of(&error)))?;
        last
    }
}

impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// As [`pipe::Receiver`](super::Receiver).
///
/// ```
/// use handover::pipe::{Item, tokio::{Receiver, Sender}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = tokio::net::UnixStream::pair()?;
/// let mut sender = Sender::new(here);
/// let mut receiver: Receiver<String> = Receiver::with_credits(there, 2);
/// sender.send(Item::without_fds("hello".to_owned())).await?;
/// let mut items = Vec::new();
/// assert_eq!(receiver.recv_many(10, &mut items).await?, 1);
/// assert!(Sender::close(sender).await?.is_empty() && receiver.dropped() == 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Receiver<T> {
    socket: UnixStream,
    receiving: Receiving<T>,
    single: Vec<Item<T>>,
}

impl<T> Receiver<T> {
    /// As [`pipe::Receiver::new`](super::Receiver::new).
    pub fn new(socket: UnixStream) -> Self {
        Self::with_credits(socket, CREDITS)
    }

    /// As [`pipe::Receiver::with_credits`](super::Receiver::with_credits).
    pub fn with_credits(socket: UnixStream, credits: usize) -> Self {
        let receiving = Receiving::new(socket.as_fd(), credits);
        Self { socket, receiving, single: Vec::new() }
    }

    /// How many items came whose sender was gone, or had taken them back, before they could be acknowledged. They were
    /// dropped here.
    pub const fn dropped(&self) -> u64 {
        self.receiving.dropped()
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Waits for the next item, and acknowledges it; `None`: the sender has closed the pipe. May be dropped at any time: no item is lost.
    ///
    /// # Errors
    /// See [`ReceiveError`]. After one that [ends](ReceiveError::is_end) the pipe, `None`.
    pub async fn recv(&mut self) -> Result<Option<Item<T>>, ReceiveError> {
        let Self { socket, receiving, single } = self;
        poll(socket, receiving, 1, single).await?;
        Ok(single.pop())
    }

    /// Waits for an item, and takes those that have come by then, at most `max` (at least 1): they are appended to `items` and acknowledged together, which costs less than
    /// to do it for each. Gives how many; 0: the sender has closed the pipe. May be dropped at any time.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); items that came before the error are given out first.
    pub async fn recv_many(&mut self, max: usize, items: &mut Vec<Item<T>>) -> Result<usize, ReceiveError> {
        poll(&self.socket, &mut self.receiving, max.max(1), items).await
    }
}

async fn poll<T: DeserializeOwned>(
    socket: &UnixStream,
    receiving: &mut Receiving<T>,
    max: usize,
    items: &mut Vec<Item<T>>,
) -> Result<usize, ReceiveError> {
    let interest = if receiving.wants_write() { Interest::WRITABLE } else { Interest::READABLE };
    let polled = drive(socket, interest, |socket| match receiving.poll(socket, max, items, receive_now) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending if receiving.wants_write() => Err(Interest::WRITABLE),
        Poll::Pending => Err(Interest::READABLE),
    });
    polled.await.unwrap_or_else(|error| Err(ReceiveError::Io(error)))
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

//! The pipe of programs that wait: what `sending` and `receiving` cannot do at once is waited for with `poll(2)`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{End, ReceiveError, SendError, Unsent};
use super::receiving::Receiving;
use super::sending::{Refused, Sending};
use super::{CREDITS, Item, ItemId};
use crate::os::passing::{receive, receive_now};
use crate::os::stream::{Until, wait};

/// A new pipe within this process, whose ends may be used in different threads, or one of them given to a child.
///
/// ```
/// let (mut sender, mut receiver) = handover::pipe::pair()?;
/// sender.send(handover::pipe::Item::without_fds(7))?;
/// assert_eq!(receiver.recv()?.map(|item| item.data), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Any of `socketpair(2)`.
pub fn pair<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (here, there) = UnixStream::pair()?;
    Ok((Sender::new(here), Receiver::new(there)))
}

/// The end of a pipe that gives items.
///
/// It keeps its own copy of each fd until the receiver has taken the item. **While it has one, the connection is open**: when the receiver
/// closes its copy, the client is not told before the sender's is closed, too. So take note of acknowledgements promptly: calls that send do, at most once in a millisecond while there are credits; a program with a loop of its own watches the
/// pipe ([`AsFd`]) and calls [`tend`](Self::tend) when it can be read; one without calls [`settle`](Self::settle).
///
/// Dropping it gives up what was not taken: the receiver then drops it, too. [`close`](Self::close) waits instead.
///
/// ```
/// use std::collections::VecDeque;
/// use handover::pipe::{self, Item};
///
/// let (mut sender, mut receiver) = pipe::pair()?;
/// let first = sender.send(Item::without_fds(1))?;
/// let mut more = VecDeque::from([Item::without_fds(2), Item::without_fds(3)]);
/// sender.try_send_all(&mut more)?;
/// assert!(sender.in_flight() == 3 && sender.in_flight_ids().next() == Some(first));
/// assert_eq!(receiver.recv()?.map(|item| item.data), Some(1));
/// sender.tend()?; // when the socket can be read; and written, if this says so:
/// assert!(!sender.wants_write() && !sender.is_in_flight(first) && sender.taken() == 1);
/// drop(receiver);
/// assert!(sender.settle().is_err() && sender.ended().is_some());
/// assert_eq!(sender.into_untaken().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sender<T> {
    socket: UnixStream,
    sending: Sending<T>,
    /// Where the item of a single send lies meanwhile; else empty.
    single: VecDeque<Item<T>>,
}

impl<T> Sender<T> {
    /// Makes a connected Unix stream socket the sending end of a pipe. Nothing else may use that socket.
    ///
    /// ```
    /// use handover::pipe::{Item, Receiver, Sender};
    ///
    /// let (here, there) = std::os::unix::net::UnixStream::pair()?; // or one that was connected or accepted
    /// let mut sender = Sender::new(here);
    /// let mut receiver = Receiver::new(there);
    /// sender.send(Item::without_fds("hello".to_owned()))?;
    /// let item: Option<Item<String>> = receiver.recv()?;
    /// assert_eq!(item.map(|item| item.data).as_deref(), Some("hello"));
    /// assert!(sender.close()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(socket: UnixStream) -> Self {
        let sending = Sending::new(socket.as_fd());
        Self { socket, sending, single: VecDeque::new() }
    }

    /// How many items are under way: sent, and as far as is known not taken. [`tend`](Self::tend) brings it up to date.
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
    ///
    /// ```
    /// use handover::pipe::{Item, Receiver, Sender};
    ///
    /// let (here, there) = std::os::unix::net::UnixStream::pair()?;
    /// let (mut sender, mut receiver) = (Sender::new(here), Receiver::<u32>::new(there));
    /// sender.send(Item::without_fds("no number"))?;
    /// assert!(!receiver.recv().unwrap_err().is_end());
    /// sender.settle()?;
    /// let refused = sender.next_refused().expect("it was");
    /// assert_eq!((refused.item.data, refused.error.as_str()), ("no number", "bad_request"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_refused(&mut self) -> Option<Refused<T>> {
        self.sending.next_refused()
    }

    /// Takes note of acknowledgements and refusals that have come, closes the copies of what was taken, and writes what is left of
    /// a line. Never waits. Call it when the socket can be read.
    ///
    /// # Errors
    /// That the pipe has ended.
    pub fn tend(&mut self) -> Result<(), End> {
        self.sending.tend_whole(self.socket.as_fd());
        self.sending.flush(self.socket.as_fd());
        self.sending.ended().map_or(Ok(()), |end| Err(end.clone()))
    }

    /// Whether a line is begun that had no room: [`tend`](Self::tend) should be called when the socket can be written, too. Only after one of the `try_` calls.
    pub fn wants_write(&self) -> bool {
        self.sending.has_rest()
    }

    /// Waits until each item that is under way was taken or refused.
    ///
    /// # Errors
    /// That the pipe has ended, or the socket cannot be waited for.
    pub fn settle(&mut self) -> Result<(), End> {
        loop {
            let ended = self.tend();
            if self.in_flight() == 0 && !self.wants_write() {
                return Ok(());
            }
            ended?;
            match self.wants_write() {
                true => self.wait(Until::Either)?,
                false => self.wait_for_answers()?,
            }
        }
    }

    /// Waits until each item was taken or refused, or the receiver is gone, and gives what was not taken back: the sender serves it itself, or
    /// gives it to another.
    ///
    /// # Errors
    /// Where the socket cannot be waited for. (The receiver's end is no error: what it did not take is in the answer.)
    pub fn close(mut self) -> io::Result<Vec<(ItemId, Item<T>)>> {
        match self.settle() {
            Err(End::Io(kind, what)) => Err(io::Error::new(kind, what)),
            _ => Ok(self.into_untaken()),
        }
    }

    /// Ends the pipe at once, and gives back what was not taken, in the order in which it was sent, refused items among them.
    ///
    /// It is exact: an acknowledgement that is under way is either seen here, or cannot be made any more, and then the receiver drops the item. (On macOS the
    /// receiver can still acknowledge for a moment, because closing for reading discards there what has come.)
    ///
    /// ```
    /// let (mut sender, mut receiver) = handover::pipe::pair()?;
    /// sender.send(handover::pipe::Item::without_fds(1))?;
    /// sender.send(handover::pipe::Item::without_fds(2))?;
    /// assert_eq!(receiver.recv()?.map(|item| item.data), Some(1));
    /// let untaken = sender.into_untaken();
    /// assert_eq!(untaken.len(), 1);
    /// assert_eq!(untaken[0].1.data, 2);
    /// assert!(receiver.recv()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_untaken(mut self) -> Vec<(ItemId, Item<T>)> {
        self.sending.withdraw(self.socket.as_fd())
    }

    /// Waits for what stood in the way of the last attempt.
    fn wait_for_room(&mut self) -> Result<(), End> {
        match self.sending.blocked() {
            Until::Readable => self.wait_for_answers(),
            until => self.wait(until),
        }
    }

    /// Waits for something to read, and takes note of it.
    fn wait_for_answers(&mut self) -> Result<(), End> {
        // One system call instead of two, on a socket that waits by itself.
        if !self.sending.tend_patiently(self.socket.as_fd()) {
            self.wait(Until::Readable)?;
        }
        Ok(())
    }

    fn wait(&self, until: Until) -> Result<(), End> {
        wait(self.socket.as_fd(), until).map_err(|error| End::of(&error))
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends an item; waits for a credit and for room. When this returns, its line is written.
    ///
    /// # Errors
    /// The item, and why it was not sent; never [`Unsent::WouldBlock`].
    pub fn send(&mut self, item: Item<T>) -> Result<ItemId, SendError<T>> {
        self.single.push_back(item);
        let mut items = std::mem::take(&mut self.single);
        let sent = self.send_all(&mut items);
        self.put_back(items, sent)
    }

    /// Sends an item if that can be done at once.
    ///
    /// ```
    /// use handover::pipe::{CREDITS, Item, Unsent};
    ///
    /// let (mut sender, _receiver) = handover::pipe::pair()?;
    /// for number in 0..CREDITS {
    ///     sender.try_send(Item::without_fds(number))?;
    /// }
    /// let refused = sender.try_send(Item::without_fds(CREDITS)).unwrap_err();
    /// assert!(matches!(refused.why, Unsent::WouldBlock));
    /// assert_eq!(refused.item.data, CREDITS);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The item, and why it was not sent; [`Unsent::WouldBlock`] where the receiver does not take more now.
    pub fn try_send(&mut self, item: Item<T>) -> Result<ItemId, SendError<T>> {
        self.single.push_back(item);
        let mut items = std::mem::take(&mut self.single);
        let sent = self.sending.offer(self.socket.as_fd(), &mut items);
        self.put_back(items, sent)
    }

    /// Sends items from the front, all of them, as many as possible in each system call; waits for credits and room.
    /// Gives the number of the last; they count up by one.
    ///
    /// ```
    /// use std::collections::VecDeque;
    /// use handover::pipe::Item;
    ///
    /// let (mut sender, mut receiver) = handover::pipe::pair()?;
    /// let mut items = VecDeque::from(["a", "b", "c"].map(|name| Item::without_fds(name.to_owned())));
    /// sender.send_all(&mut items)?;
    /// let mut got = Vec::new();
    /// assert_eq!(receiver.recv_many(10, &mut got)?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Why the item that is now in front was not sent; those before it were. An empty queue is answered with
    /// [`Unsent::WouldBlock`]: there is nothing to number.
    pub fn send_all(&mut self, items: &mut VecDeque<Item<T>>) -> Result<ItemId, Unsent> {
        let mut last = Err(Unsent::WouldBlock);
        while !items.is_empty() {
            last = self.sending.offer(self.socket.as_fd(), items);
            match &last {
                Ok(_) => self.finish(),
                Err(Unsent::WouldBlock) => self.wait_for_room().map_err(Unsent::Ended)?,
                Err(_) => break,
            }
        }
        last
    }

    /// As [`send_all`](Self::send_all), but only what can be sent in one call and at once; the rest stays in `items`.
    ///
    /// # Errors
    /// Why nothing was sent.
    pub fn try_send_all(&mut self, items: &mut VecDeque<Item<T>>) -> Result<ItemId, Unsent> {
        if items.is_empty() {
            return Err(Unsent::WouldBlock);
        }
        self.sending.offer(self.socket.as_fd(), items)
    }

    /// Writes the rest of a line. If that cannot be, the item is in flight, and comes back as untaken.
    fn finish(&mut self) {
        while self.sending.has_rest() && self.wait(Until::Either).is_ok() {
            let _ = self.tend();
        }
    }

    fn put_back(
        &mut self,
        mut items: VecDeque<Item<T>>,
        sent: Result<ItemId, Unsent>,
    ) -> Result<ItemId, SendError<T>> {
        let item = items.pop_front();
        self.single = items;
        match (sent, item) {
            (Err(why), Some(item)) => Err(SendError { item, why }),
            // It is in flight, and comes back as untaken.
            (Err(_), None) => Ok(self.sending.last()),
            (Ok(id), _) => Ok(id),
        }
    }
}

impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The end of a pipe that takes items. An iterator over them, too.
///
/// Dropping it leaves what it has not given out to the sender.
///
/// ```
/// use handover::pipe::{Item, Receiver, Sender};
///
/// let (here, there) = std::os::unix::net::UnixStream::pair()?;
/// let (mut sender, mut receiver) = (Sender::new(here), Receiver::<u32>::new(there));
/// sender.send(Item::without_fds(7))?;
/// drop(sender); // and takes the item back
/// assert!(receiver.next().is_none() && receiver.dropped() == 1);
/// assert!(!receiver.wants_write());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Receiver<T> {
    socket: UnixStream,
    receiving: Receiving<T>,
    single: Vec<Item<T>>,
}

impl<T> Receiver<T> {
    /// Makes a connected Unix stream socket the receiving end of a pipe, with [`CREDITS`] credits. Nothing else may use that socket: a plain read would lose fds.
    ///
    /// It accepts whatever a sender of that socket says: who may connect is for the socket's owner to decide.
    pub fn new(socket: UnixStream) -> Self {
        Self::with_credits(socket, CREDITS)
    }

    /// As [`new`](Self::new); at most `credits` items (1 to [`CREDITS_MAX`](super::CREDITS_MAX), else the nearest) are under way.
    ///
    /// ```
    /// use handover::pipe::{Item, Receiver, Sender, Unsent};
    ///
    /// let (here, there) = std::os::unix::net::UnixStream::pair()?;
    /// let mut sender = Sender::new(here);
    /// let _receiver = Receiver::<u32>::with_credits(there, 1);
    /// sender.try_send(Item::without_fds(1))?;
    /// assert!(matches!(sender.try_send(Item::without_fds(2)).unwrap_err().why, Unsent::WouldBlock));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_credits(socket: UnixStream, credits: usize) -> Self {
        let receiving = Receiving::new(socket.as_fd(), credits);
        Self { socket, receiving, single: Vec::new() }
    }

    /// How many items came whose sender was gone, or had taken them back, before they could be acknowledged. They were
    /// dropped here.
    pub const fn dropped(&self) -> u64 {
        self.receiving.dropped()
    }

    /// Whether the socket must be watched for writing instead of reading after [`try_recv`](Self::try_recv) was `Pending`: an acknowledgement had no room.
    pub const fn wants_write(&self) -> bool {
        self.receiving.wants_write()
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Waits for the next item, and acknowledges it; `None`: the sender has closed the pipe.
    ///
    /// # Errors
    /// See [`ReceiveError`]. After one that [ends](ReceiveError::is_end) the pipe, `None`.
    pub fn recv(&mut self) -> Result<Option<Item<T>>, ReceiveError> {
        let mut single = std::mem::take(&mut self.single);
        let received = self.recv_many(1, &mut single);
        let item = single.pop();
        self.single = single;
        received.map(|_| item)
    }

    /// The next item if there is one; `Pending` where there is none now.
    ///
    /// ```
    /// use std::task::Poll;
    ///
    /// let (mut sender, mut receiver) = handover::pipe::pair()?;
    /// assert!(receiver.try_recv().is_pending());
    /// sender.send(handover::pipe::Item::without_fds(1))?;
    /// assert!(matches!(receiver.try_recv(), Poll::Ready(Ok(Some(_)))));
    /// drop(sender);
    /// assert!(matches!(receiver.try_recv(), Poll::Ready(Ok(None))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&mut self) -> Poll<Result<Option<Item<T>>, ReceiveError>> {
        self.receiving
            .poll(self.socket.as_fd(), 1, &mut self.single, receive_now)
            .map_ok(|_| self.single.pop())
    }

    /// Waits for an item, and takes those that have come by then, at most `max` (at least 1): they are appended to `items` and acknowledged together, which costs less than
    /// to do it for each. Gives how many; 0: the sender has closed the pipe.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); items that came before the error are given out first.
    pub fn recv_many(&mut self, max: usize, items: &mut Vec<Item<T>>) -> Result<usize, ReceiveError> {
        loop {
            let socket = self.socket.as_fd();
            if let Poll::Ready(result) = self.receiving.poll(socket, max.max(1), items, receive) {
                return result;
            }
            self.wait()?;
        }
    }

    fn wait(&self) -> Result<(), ReceiveError> {
        let until = if self.receiving.wants_write() { Until::Writable } else { Until::Readable };
        wait(self.socket.as_fd(), until).map_err(ReceiveError::Io)
    }
}

impl<T: DeserializeOwned> Iterator for Receiver<T> {
    type Item = Result<Item<T>, ReceiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

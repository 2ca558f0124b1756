//! Pipes for connections: what one process accepted, another one serves.
//!
//! A pipe carries [`Item`]s, each some fds with data that belongs to them, over any Unix stream socket, from one
//! process to another, whatever language that is written in (docs/pipes.md has the lines, and a receiver in Python). No daemon is
//! needed. This is what passing fds by hand gets wrong:
//!
//! - **An item has one owner.** It is the sender's until the receiver has acknowledged it, and that is said before the receiving
//!   program gets it. So the sender can give whatever was not taken to another, and no item is served twice.
//! - **Back-pressure.** The receiver says how many items may be under way ([`CREDITS`]); then the sender waits, or is told that it would have to.
//! - **No mix-up.** Every line says how many fds are its own. Fds that are missing, cut off or too many end the pipe, and are closed.
//! - Every fd is close-on-exec from birth, partial writes are completed, and many items go out in one system call.
//!
//! [`Sender`] and [`Receiver`] block; with the feature `tokio` there are asynchronous ones in `pipe::tokio`. Both use the same
//! `sending` and `receiving`, which never wait; only the shells around them do. The mode of a socket (`O_NONBLOCK`) plays no part
//! in the blocking ones, and is never changed by them.
//!
//! ```
//! use handover::pipe::{self, Item};
//! use std::net::{TcpListener, TcpStream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut sender, mut receiver) = pipe::pair::<String>()?; // the two ends are usually in two processes
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let _client = TcpStream::connect(listener.local_addr()?)?;
//! let (connection, peer) = listener.accept()?;
//! sender.send(Item::with_fd(peer.to_string(), connection))?;
//!
//! let item = receiver.recv()?.expect("the sender is there");
//! let (peer, connection) = item.into_tcp_stream().expect("it is a TCP connection");
//! assert_eq!(connection.peer_addr()?.to_string(), peer);
//!
//! sender.settle()?; // acknowledged: only the receiver has the connection now
//! assert_eq!(sender.in_flight(), 0);
//! # Ok(())
//! # }
//! ```

mod blocking;
mod encode;
mod error;
mod flight;
mod item;
mod lines;
mod members;
mod receiving;
mod sending;
#[cfg(test)]
mod tests;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use blocking::{Receiver, Sender, pair};
pub use error::{End, ReceiveError, SendError, Unsent};
pub use item::{Item, ItemId};
pub use sending::Refused;

/// How many items may be under way where the receiver says nothing else: sent, and not yet taken by the receiving program.
///
/// ```
/// let (mut sender, _receiver) = handover::pipe::pair()?;
/// for number in 0..handover::pipe::CREDITS {
///     sender.try_send(handover::pipe::Item::without_fds(number))?;
/// }
/// assert!(sender.try_send(handover::pipe::Item::without_fds(0)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const CREDITS: usize = 64;

/// The most items that may be under way. More makes nothing faster, and as many acknowledgements fit into the socket of a sender that does not read them for a while.
///
/// ```
/// let (_here, there) = std::os::unix::net::UnixStream::pair()?;
/// let receiver = handover::pipe::Receiver::<u32>::with_credits(there, handover::pipe::CREDITS_MAX);
/// # drop(receiver);
/// # Ok::<(), std::io::Error>(())
/// ```
pub const CREDITS_MAX: usize = 128;

/// The longest data of an item in bytes, as JSON.
///
/// ```
/// let (mut sender, _receiver) = handover::pipe::pair()?;
/// let text = "x".repeat(handover::pipe::DATA_MAX); // and two quotation marks
/// assert!(sender.try_send(handover::pipe::Item::without_fds(text)).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub const DATA_MAX: usize = 1_000_000;

/// The most fds of an item.
///
/// ```
/// use handover::pipe::{FDS_PER_ITEM_MAX, Item};
///
/// let (mut sender, _receiver) = handover::pipe::pair()?;
/// let fds = (0..=FDS_PER_ITEM_MAX).map(|_| std::io::pipe().map(|(end, _)| end.into()));
/// assert!(sender.try_send(Item { data: "one too many", fds: fds.collect::<Result<_, _>>()? }).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub const FDS_PER_ITEM_MAX: usize = 64;

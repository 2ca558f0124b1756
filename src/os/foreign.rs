//! Fds whose closing can block: fds that others sent, and sockets of ours that others can change or fill.
//!
//! `close(2)` waits where it is the last one and the socket lingers (`SO_LINGER`, `socket(7)`), or where what is closed with it
//! does: fds on their way in a Unix socket's queue. So such an fd is not closed here. It goes into the [`Outbox`] of its
//! thread, from there into a [`Parking`], and another process takes it out and closes it (`spawn::closer`).

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::passing::{self, FDS_MAX};

thread_local! {
    static OF_THREAD: RefCell<Option<Outbox>> = const { RefCell::new(None) };
}

/// Fds that the closer process is to close.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// `None`: the outbox is closed.
    fds: Mutex<Option<Vec<OwnedFd>>>,
    filled: Notify,
}

impl Outbox {
    /// One for this thread: what is dropped here from now on goes into it.
    #[must_use]
    pub fn of_this_thread() -> Self {
        let new = Self::default();
        *new.lock() = Some(Vec::new());
        OF_THREAD.replace(Some(new.clone()));
        new
    }

    /// Closes the outbox: gives back what is in it. What would go into it later is closed in place.
    pub fn close(&self) -> Vec<OwnedFd> {
        self.lock().take().unwrap_or_default()
    }

    /// All that is in it.
    #[must_use]
    pub fn take(&self) -> Vec<OwnedFd> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts back what could not be passed on.
    pub fn put_back(&self, fds: Vec<OwnedFd>) {
        if let Some(inside) = &mut *self.lock() {
            inside.extend(fds);
        }
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, Vec::len)
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when something was put into it.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    fn give(&self, fd: OwnedFd) {
        match &mut *self.lock() {
            Some(inside) => inside.push(fd),
            None => return,
        }
        self.0.filled.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<OwnedFd>>> {
        self.0.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands an fd to the closer process; closes it here where the thread has no [`Outbox`].
pub fn let_go(fd: OwnedFd) {
    drop(Foreign::new(fd));
}

/// An fd that goes into the [`Outbox`] of the thread that made this, wherever it is dropped.
#[derive(Debug)]
pub struct Foreign {
    fd: Option<OwnedFd>,
    outbox: Option<Outbox>,
}

impl Foreign {
    /// See [`Foreign`].
    pub fn new(fd: OwnedFd) -> Self {
        // A thread that is ending has none any more.
        let outbox = OF_THREAD.try_with(|of_thread| of_thread.borrow().clone()).ok().flatten();
        Self { fd: Some(fd), outbox }
    }

    /// The fd alone: its new owner closes it.
    pub fn into_owned(mut self) -> Option<OwnedFd> {
        self.fd.take()
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("it is there until the end").as_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let (Some(fd), Some(outbox)) = (self.fd.take(), &self.outbox) {
            outbox.give(fd);
        }
    }
}

/// A socket of tokio's that can be taken back from it.
pub trait IntoFd {
    /// The fd, without the runtime.
    ///
    /// # Errors
    /// Where the runtime cannot let go of it; it is closed then.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl IntoFd for tokio::net::UnixStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

impl IntoFd for tokio::net::UnixDatagram {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

/// Another handle on such a socket.
impl IntoFd for OwnedFd {
    fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(self)
    }
}

/// A socket of ours, nobody else's, in whose queue others may have put fds: unless that is empty, it is not closed here, as with
/// [`Foreign`].
#[derive(Debug)]
pub struct Guarded<S: IntoFd>(Option<S>);

impl<S: IntoFd> Guarded<S> {
    /// See [`Guarded`].
    pub const fn new(socket: S) -> Self {
        Self(Some(socket))
    }
}

impl<S: IntoFd> Deref for Guarded<S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl<S: IntoFd + AsRawFd> AsRawFd for Guarded<S> {
    fn as_raw_fd(&self) -> RawFd {
        (**self).as_raw_fd()
    }
}

impl<S: IntoFd> std::ops::DerefMut for Guarded<S> {
    fn deref_mut(&mut self) -> &mut S {
        self.0.as_mut().expect("it is there until the end")
    }
}

impl<S: IntoFd> Drop for Guarded<S> {
    fn drop(&mut self) {
        if let Some(Ok(fd)) = self.0.take().map(IntoFd::into_fd)
            && !is_spent(fd.as_fd())
        {
            let_go(fd);
        }
    }
}

/// Nothing is in its queue, and nothing will come any more: this sees to that.
#[cfg(target_os = "linux")]
fn is_spent(socket: BorrowedFd<'_>) -> bool {
    use super::kind::{Type, kind};
    // Senders get EPIPE from now on; what is queued stays. A socket that is no longer connected gets nothing either.
    let _ = super::stream::shut_down(socket, std::net::Shutdown::Read);
    let is_stream = kind(socket).is_ok_and(|(_, carried)| carried == Type::Stream);
    match passing::look(socket, &mut [0; 1], false) {
        Ok(seen) => is_stream && seen.length == 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// See the other.
#[cfg(not(target_os = "linux"))]
fn is_spent(_socket: BorrowedFd<'_>) -> bool {
    true
}

/// A socket that workers have as well: they can have made it linger, and others may have put fds into its queue.
#[derive(Debug)]
pub struct Shared(Option<OwnedFd>);

impl Shared {
    /// See [`Shared`].
    pub const fn new(socket: OwnedFd) -> Self {
        Self(Some(socket))
    }
}

impl Deref for Shared {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take()
            && !closes_at_once(fd.as_fd())
        {
            let_go(fd);
        }
    }
}

/// An IP socket that listens, or takes datagrams: whatever its options are, closing it waits for nothing, and it must be gone
/// when somebody binds its address anew.
#[cfg(target_os = "linux")]
fn closes_at_once(socket: BorrowedFd<'_>) -> bool {
    use super::kind::{Family, Type, kind, listens};
    match kind(socket) {
        Ok((Family::Ip, Type::Datagram)) => true,
        Ok((Family::Ip, Type::Stream)) => listens(socket),
        _ => false,
    }
}

/// See the other.
#[cfg(not(target_os = "linux"))]
fn closes_at_once(_socket: BorrowedFd<'_>) -> bool {
    true
}

/// Where fds wait to be closed: the queue of a socket pair, both ends of which are ours. The queue keeps a reference to each fd, so
/// that our close is not the last one even if the closer process dies. A queued fd uses no fd number.
#[derive(Debug)]
pub struct Parking {
    entrance: OwnedFd,
    exit: OwnedFd,
}

impl Parking {
    /// An empty one.
    ///
    /// # Errors
    /// Any of `socketpair(2)`.
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Self> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (entrance, exit) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok(Self { entrance, exit })
    }

    /// There is none on this system.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The end at which they are taken out, for the process that closes them.
    pub fn exit(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }

    /// Puts fds into it; those for which there is no room now come back. Ours are closed, which is never the last time.
    pub fn put(&self, mut fds: Vec<OwnedFd>) -> Vec<OwnedFd> {
        while !fds.is_empty() {
            let some: Vec<BorrowedFd<'_>> = fds.iter().take(FDS_MAX).map(AsFd::as_fd).collect();
            let count = some.len();
            if passing::send_now(self.entrance.as_fd(), b"f", &some).is_err() {
                break;
            }
            fds.drain(..count);
        }
        fds
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_dropped_is_closed_only_by_whoever_takes_it_out() {
        let (mut watched, end) = std::io::pipe().unwrap();
        let outbox = Outbox::of_this_thread();
        let foreign = Foreign::new(end.into());
        std::thread::spawn(move || drop(foreign)).join().unwrap();
        assert_eq!(outbox.len(), 1, "wherever it is dropped");
        let parking = Parking::new().unwrap();
        assert!(parking.put(outbox.take()).is_empty());
        let mut nothing = Vec::new();
        nix::fcntl::fcntl(&watched, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        assert!(watched.read_to_end(&mut nothing).is_err(), "it is open");
        passing::take_without_fds(parking.exit(), &mut [0; 1]).unwrap();
        assert_eq!(watched.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_full_parking_gives_back_what_it_cannot_take() {
        let parking = Parking::new().unwrap();
        let (_read, write) = std::io::pipe().unwrap();
        let mut put = 0;
        let back = loop {
            let back = parking.put(vec![write.as_fd().try_clone_to_owned().unwrap()]);
            if !back.is_empty() || put > 10_000 {
                break back;
            }
            put += 1;
        };
        assert_eq!(back.len(), 1, "after {put}");
    }

    #[test]
    fn a_queue_that_is_empty_stays_so_and_one_with_fds_is_not_closed_here() {
        use std::os::unix::net::{UnixDatagram, UnixStream};
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(is_spent(ours.as_fd()));
        assert_eq!(
            passing::send_now(theirs.as_fd(), b"x", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let (ours, theirs) = UnixStream::pair().unwrap();
        passing::send_now(theirs.as_fd(), b"x", &[theirs.as_fd()]).unwrap();
        drop(theirs);
        assert!(!is_spent(ours.as_fd()));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let ours = UnixDatagram::bind(&path).unwrap();
        let theirs = UnixDatagram::unbound().unwrap();
        theirs.send_to(b"", &path).unwrap();
        assert!(!is_spent(ours.as_fd()), "an empty datagram is one");
        let ours = UnixDatagram::bind(directory.path().join("t")).unwrap();
        assert!(is_spent(ours.as_fd()));
        let sent = theirs.send_to(b"x", directory.path().join("t"));
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_socket_that_listens_is_closed_here_and_any_other_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(closes_at_once(listener.as_fd()));
        socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both).unwrap();
        assert!(!closes_at_once(listener.as_fd()));
        assert!(!closes_at_once(std::os::unix::net::UnixStream::pair().unwrap().0.as_fd()));
    }

    #[test]
    fn without_an_outbox_it_is_closed_at_once() {
        std::thread::spawn(|| {
            let (mut watched, end) = std::io::pipe().unwrap();
            drop(Foreign::new(end.into()));
            assert_eq!(watched.read(&mut [0]).unwrap(), 0);
            let outbox = Outbox::of_this_thread();
            drop(outbox.close());
            let (mut watched, end) = std::io::pipe().unwrap();
            drop(Foreign::new(end.into()));
            assert_eq!(watched.read(&mut [0]).unwrap(), 0);
        })
        .join()
        .unwrap();
    }
}

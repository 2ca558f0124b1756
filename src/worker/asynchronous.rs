//! Listeners for programs on tokio.
//!
//! Drains, answers and messages are futures for any runtime; only sockets need tokio. Its reactor is edge-triggered, so a listener that others
//! share is accepted from one connection at a time, with a turn of the runtime in between: siblings get their share.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::error::Error;
use super::handle::Worker;
use super::incoming::{is_exhaustion, is_of_one};
use super::listener::Listener;
use super::pulse::Pulse;
use super::waiting::Waiting;
use crate::os::accept::Acceptor;
use crate::os::kind::{Family, is_nonblocking};
use crate::os::watch;

/// How long nothing is accepted when the process or the system has no fds or memory left for it.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A connection that was accepted, registered with the runtime.
///
/// ```no_run
/// use handover::worker::AsyncConnection;
///
/// fn peer(connection: &AsyncConnection) -> Option<std::net::SocketAddr> {
///     match connection {
///         AsyncConnection::Tcp(stream) => stream.peer_addr().ok(),
///         _ => None,
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum AsyncConnection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl AsyncConnection {
    /// One that goes over TCP.
    ///
    /// # Errors
    /// The connection, where it does not.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            other => Err(other),
        }
    }

    /// One that goes over a Unix socket.
    ///
    /// # Errors
    /// The connection, where it does not.
    pub fn into_unix(self) -> Result<UnixStream, Self> {
        match self {
            Self::Unix(stream) => Ok(stream),
            other => Err(other),
        }
    }
}

/// A listener on a runtime: from [`Listener::into_async`]. Works whether its socket is nonblocking or not, and never changes that.
///
/// ```no_run
/// # async fn f(http: handover::worker::AsyncListener) -> std::io::Result<()> {
/// while let Some(connection) = http.accept().await? {
///     drop(connection);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AsyncListener {
    listener: Arc<Listener>,
    sockets: Vec<(Family, AsyncFd<OwnedFd>)>,
    /// Which socket is looked at first.
    turn: AtomicUsize,
}

impl Listener {
    /// Registers its sockets with the runtime. [Pings](super::Pulse) are answered by a task of that runtime from then on.
    ///
    /// ```no_run
    /// # use handover::worker::{Error, Worker};
    /// # async fn serve(_: handover::worker::AsyncConnection) {}
    /// # async fn f(worker: Worker) -> Result<(), Error> {
    /// let http = worker.listener("http").or_bind("tcp://127.0.0.1:8080")?.into_async()?;
    /// worker.ready();
    /// while let Some(connection) = http.accept().await? {
    ///     tokio::spawn(serve(connection));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Listener`] where it is no stream socket; [`Error::Io`] where it cannot be registered.
    ///
    /// # Panics
    /// Outside of a runtime with I/O. A lack of fds is waited out with its timers.
    pub fn into_async(mut self) -> Result<AsyncListener, Error> {
        let sockets = std::mem::take(&mut self.sockets);
        let sockets = sockets
            .into_iter()
            .map(|socket| Ok((self.family(&socket)?, watch::readable(socket)?)))
            .collect::<Result<_, Error>>()?;
        answer_pings(&self);
        Ok(AsyncListener { listener: Arc::new(self), sockets, turn: AtomicUsize::new(0) })
    }

    /// The only socket as tokio's own, for what takes nothing else (axum). That needs a nonblocking one.
    ///
    /// ```no_run
    /// # use handover::worker::{Error, Worker};
    /// # async fn f(worker: Worker) -> Result<(), Error> {
    /// let http = worker.listener("http").or_bind("tcp://127.0.0.1:8080")?.into_tokio_tcp()?;
    /// worker.ready();
    /// // axum::serve(http, app).with_graceful_shutdown(async move { worker.drained().await; }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Listener`] where it is another kind, or blocking and not [its own](Self::is_own): the mode belongs to all who share it.
    ///
    /// # Panics
    /// Outside of a runtime with I/O.
    pub fn into_tokio_tcp(self) -> Result<TcpListener, Error> {
        self.make_nonblocking()?;
        answer_pings(&self);
        Ok(TcpListener::from_std(self.into_tcp()?)?)
    }

    /// As [`into_tokio_tcp`](Self::into_tokio_tcp), for a Unix socket.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn into_tokio_unix(self) -> Result<UnixListener, Error> {
        self.make_nonblocking()?;
        answer_pings(&self);
        Ok(UnixListener::from_std(self.into_unix()?)?)
    }

    fn make_nonblocking(&self) -> Result<(), Error> {
        for socket in &self.sockets {
            if is_nonblocking(socket.as_fd())? {
                continue;
            }
            if !self.is_own {
                return Err(self.wrong(
                    "its socket is blocking, and that belongs to all who share it\nhint: set nonblocking = true in its section (systemd: NonBlocking=yes), or use into_async()"
                        .to_owned(),
                ));
            }
            // It is ours alone, whatever its kind: the flag is the description's.
            std::net::TcpListener::from(socket.try_clone()?).set_nonblocking(true)?;
        }
        Ok(())
    }
}

/// One task of the runtime beats for it, once.
fn answer_pings(listener: &Listener) {
    if listener.core.has_async_pulse.swap(true, Ordering::SeqCst) {
        return;
    }
    // Without an fd to be woken by, it needs none.
    if let Ok(pulse) = Pulse::new(Arc::clone(&listener.core), false) {
        tokio::spawn(async move { pulse.turns().await });
    }
}

impl AsyncListener {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.listener.name()
    }

    /// The next connection; `None` when draining has begun or the listener is removed, and, of a socket that the process bound itself, the
    /// queue is empty. Errors of a single connection are passed over. Cancel safe.
    ///
    /// # Errors
    /// What ends it: any of `accept(2)` that is not about one connection and not a lack of fds.
    pub async fn accept(&self) -> io::Result<Option<AsyncConnection>> {
        // A turn of the runtime between two connections.
        tokio::task::yield_now().await;
        loop {
            if self.is_over() {
                return if self.listener.is_own { self.take_left() } else { Ok(None) };
            }
            let Some(at) = self.readable().await? else { continue };
            match self.accept_at(at).await {
                Ok(None) => {}
                Ok(Some(fd)) => return self.connection(at, fd).map(Some),
                Err(error) if is_of_one(&error) => {}
                Err(error) if is_exhaustion(&error) => tokio::time::sleep(EXHAUSTED).await,
                Err(error) => return Err(error),
            }
        }
    }

    fn is_over(&self) -> bool {
        let state = self.listener.core.lock();
        state.is_draining() || state.removed.contains(self.listener.name())
    }

    /// Which socket has something; `None` when it is time to look whether this is over.
    async fn readable(&self) -> io::Result<Option<usize>> {
        let mut waiting = Waiting::new(Arc::clone(&self.listener.core));
        std::future::poll_fn(|context| {
            let over = waiting.poll(context, |state| {
                (state.is_draining() || state.removed.contains(self.listener.name())).then_some(())
            });
            if over.is_ready() {
                return std::task::Poll::Ready(Ok(None));
            }
            let turn = self.turn.load(Ordering::Relaxed);
            for at in (0..self.sockets.len()).map(|step| (turn + step) % self.sockets.len()) {
                match self.sockets[at].1.poll_read_ready(context) {
                    std::task::Poll::Ready(Ok(_)) => {
                        self.turn.store(at + 1, Ordering::Relaxed);
                        return std::task::Poll::Ready(Ok(Some(at)));
                    }
                    std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
                    std::task::Poll::Pending => {}
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Takes one, or clears the readiness that was none.
    async fn accept_at(&self, at: usize) -> io::Result<Option<OwnedFd>> {
        let (_, socket) = &self.sockets[at];
        let mut ready = socket.readable().await?;
        let accepted = if is_nonblocking(socket.get_ref().as_fd())? {
            Acceptor::new().accept(socket.get_ref().as_fd(), true)
        } else if ready_now(socket.get_ref())? {
            // It may wait for 20 ms where a sibling is quicker, which is nothing for a thread of the runtime.
            let copy = socket.get_ref().try_clone()?;
            let taken = tokio::task::spawn_blocking(move || Acceptor::new().accept(copy.as_fd(), true));
            taken.await.unwrap_or_else(|_| Ok(None))
        } else {
            Ok(None)
        };
        if matches!(accepted, Ok(None)) && !ready_now(socket.get_ref())? {
            ready.clear_ready();
        }
        accepted
    }

    fn connection(&self, at: usize, fd: OwnedFd) -> io::Result<AsyncConnection> {
        Ok(match self.sockets[at].0 {
            Family::Unix => AsyncConnection::Unix(UnixStream::from_std(fd.into())?),
            _ => AsyncConnection::Tcp(TcpStream::from_std(fd.into())?),
        })
    }

    fn take_left(&self) -> io::Result<Option<AsyncConnection>> {
        for (at, (_, socket)) in self.sockets.iter().enumerate() {
            while ready_now(socket.get_ref())? {
                match Acceptor::new().accept(socket.get_ref().as_fd(), true) {
                    Ok(Some(fd)) => return self.connection(at, fd).map(Some),
                    Ok(None) => {}
                    Err(error) if is_of_one(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

fn ready_now(socket: &OwnedFd) -> io::Result<bool> {
    use crate::os::poll::{Entry, poll};
    poll(&mut [Entry::readable(socket.as_fd())], Some(Duration::ZERO))
}

impl Worker {
    /// Answers pings from this runtime from now on, for a program that has no [`AsyncListener`]. Once is enough.
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn beat_on_runtime(&self) -> Result<(), Error> {
        if !self.core.has_async_pulse.swap(true, Ordering::SeqCst) {
            let pulse = Pulse::new(Arc::clone(&self.core), false)?;
            tokio::spawn(async move { pulse.turns().await });
        }
        Ok(())
    }
}

//! Listeners for programs on tokio.
//!
//! Drains, answers and messages are futures for any runtime; only sockets need tokio. Its reactor is edge-triggered, so a listener that others
//! share is accepted from one connection at a time, with a turn of the runtime in between: siblings get their share.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::core::Core;
use super::error::Error;
use super::handle::Worker;
use super::incoming::{is_exhaustion, is_of_one};
use super::listener::Listener;
use super::pulse::Pulse;
use super::taking::{Taken, Taking};
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::worker::Error> {
    /// # let worker = handover::worker::Worker::connect()?;
    /// # let bound = worker.listener("http").or_bind("tcp://127.0.0.1:0")?;
    /// # let address = std::net::TcpListener::from(bound.sockets()[0].try_clone()?).local_addr()?;
    /// let http = bound.into_async()?;
    /// assert_eq!(http.name(), "http");
    /// let _client = tokio::net::TcpStream::connect(address).await?;
    /// let connection = http.accept().await?.expect("it does not end");
    /// let Err(connection) = connection.into_unix() else { panic!("it goes over TCP") };
    /// assert_eq!(connection.into_tcp().expect("it does").local_addr()?, address);
    /// # Ok(()) }
    /// ```
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
    taking: Taking,
}

/// What says that a socket can be read.
type Ready<'socket> = AsyncFdReadyGuard<'socket, OwnedFd>;

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
        answer_pings(&self.core);
        Ok(AsyncListener {
            listener: Arc::new(self),
            sockets,
            turn: AtomicUsize::new(0),
            taking: Taking::default(),
        })
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
        answer_pings(&self.core);
        Ok(TcpListener::from_std(self.into_tcp()?)?)
    }

    /// As [`into_tokio_tcp`](Self::into_tokio_tcp), for a Unix socket.
    ///
    /// ```no_run
    /// # use handover::worker::{Error, Worker};
    /// # async fn f(worker: Worker) -> Result<(), Error> {
    /// let control = worker.listener("control").or_bind("unix:///run/myapp/control")?.into_tokio_unix()?;
    /// # drop(control); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn into_tokio_unix(self) -> Result<UnixListener, Error> {
        self.make_nonblocking()?;
        answer_pings(&self.core);
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

/// One task of the runtime beats for it, once; the next runtime's, when that has ended.
fn answer_pings(core: &Arc<Core>) {
    if core.has_async_pulse.swap(true, Ordering::SeqCst) {
        return;
    }
    // Without an fd to be woken by, it needs none.
    if let Ok(pulse) = Pulse::new(Arc::clone(core), false) {
        let beating = Beating { core: Arc::clone(core), pulse };
        tokio::spawn(async move { beating.pulse.turns().await });
    }
}

/// The task that beats.
struct Beating {
    core: Arc<Core>,
    pulse: Pulse,
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.core.has_async_pulse.store(false, Ordering::SeqCst);
    }
}

impl AsyncListener {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.listener.name()
    }

    /// The next connection; `None` when draining has begun or the listener is removed, and, of a socket that the process bound itself, the
    /// queue is empty. Errors of a single connection are passed over. Several tasks may call it at once. May be dropped at any time: no connection
    /// is lost, as long as it is called again until it gives `None`.
    ///
    /// # Errors
    /// What ends it: any of `accept(2)` that is not about one connection and not a lack of fds.
    pub async fn accept(&self) -> io::Result<Option<AsyncConnection>> {
        // A turn of the runtime between two connections.
        tokio::task::yield_now().await;
        loop {
            let taken = match self.taking.next() {
                Some(taken) => Some(taken),
                None if self.is_over() && !self.taking.is_under_way() => match self.take_left() {
                    None => return Ok(None),
                    left => left,
                },
                None => match self.readable().await? {
                    None => None,
                    Some((at, ready)) => {
                        let accepted = self.accept_at(at, ready).await;
                        accepted.transpose().map(|accepted| (at, accepted))
                    }
                },
            };
            match taken {
                None => {}
                Some((at, Ok(fd))) => return self.connection(at, fd).map(Some),
                Some((_, Err(error))) if is_of_one(&error) => {}
                Some((_, Err(error))) if is_exhaustion(&error) => tokio::time::sleep(EXHAUSTED).await,
                Some((_, Err(error))) => return Err(error),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.listener.is_over(&self.listener.core.lock())
    }

    /// Which socket has something; `None` when it is time to look what was taken, or whether this is over.
    async fn readable(&self) -> io::Result<Option<(usize, Ready<'_>)>> {
        let count = self.sockets.len();
        let turn = self.turn.load(Ordering::Relaxed);
        // For each who waits: `poll_read_ready` would wake only the last.
        let mut sockets: Vec<_> = (0..count)
            .map(|step| (turn + step) % count)
            .map(|at| (at, Box::pin(self.sockets[at].1.readable())))
            .collect();
        let mut waiting = Waiting::new(Arc::clone(&self.listener.core));
        std::future::poll_fn(|context| {
            let mut is_over = false;
            let look = waiting.poll(context, |state| {
                is_over = self.listener.is_over(state);
                let is_time = self.taking.has_some() || (is_over && !self.taking.is_under_way());
                is_time.then_some(())
            });
            if look.is_ready() {
                return Poll::Ready(Ok(None));
            }
            for (at, socket) in sockets.iter_mut().filter(|_| !is_over) {
                if let Poll::Ready(ready) = socket.as_mut().poll(context) {
                    self.turn.store(*at + 1, Ordering::Relaxed);
                    return Poll::Ready(ready.map(|ready| Some((*at, ready))));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Takes one, or clears the readiness that was none. Of a blocking socket it goes into the queue.
    async fn accept_at(&self, at: usize, mut ready: Ready<'_>) -> io::Result<Option<OwnedFd>> {
        let socket = self.sockets[at].1.get_ref();
        let mut accepted = None;
        if is_nonblocking(socket.as_fd())? {
            accepted = Acceptor::new().accept(socket.as_fd(), true)?;
        } else if ready_now(socket)? {
            self.taking.take(at, socket.try_clone()?, &self.listener.core).await;
        }
        if accepted.is_none() && !ready_now(socket)? {
            ready.clear_ready();
        }
        Ok(accepted)
    }

    fn connection(&self, at: usize, fd: OwnedFd) -> io::Result<AsyncConnection> {
        Ok(match self.sockets[at].0 {
            Family::Unix => AsyncConnection::Unix(UnixStream::from_std(fd.into())?),
            _ => AsyncConnection::Tcp(TcpStream::from_std(fd.into())?),
        })
    }

    /// What is left in the queue of a socket that nobody else has.
    fn take_left(&self) -> Option<Taken> {
        let own = self.sockets.iter().enumerate().filter(|_| self.listener.is_own);
        for (at, (_, socket)) in own {
            while ready_now(socket.get_ref()).is_ok_and(|ready| ready) {
                match Acceptor::new().accept(socket.get_ref().as_fd(), true) {
                    Ok(None) => {}
                    Ok(Some(fd)) => return Some((at, Ok(fd))),
                    Err(error) => return Some((at, Err(error))),
                }
            }
        }
        None
    }
}

fn ready_now(socket: &OwnedFd) -> io::Result<bool> {
    use crate::os::poll::{Entry, poll};
    poll(&mut [Entry::readable(socket.as_fd())], Some(Duration::ZERO))
}

impl Worker {
    /// Answers pings from this runtime from now on, for a program that has no [`AsyncListener`]. Once is enough.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), handover::worker::Error> {
    /// let worker = handover::worker::Worker::connect()?;
    /// worker.beat_on_runtime()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn beat_on_runtime(&self) -> Result<(), Error> {
        answer_pings(&self.core);
        Ok(())
    }
}

//! Listening sockets by name: passed by handover or systemd, asked for, or bound.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;

use super::bind::Place;
use super::core::{Core, State};
use super::error::Error;
use super::handle::Worker;
use super::incoming::Incoming;
use crate::os::kind::{Family, Type, kind};
use crate::wire::{Capability, Wanted};

/// A wish for a listener: from [`Worker::listener`]. Say what happens where nobody passed one.
///
/// Looked for, in this order: the sockets that the process was started with (`LISTEN_FDS`), by name; handover, which is asked for the
/// name, or for the address where the name is one (`allow_listen`); passed sockets without a name of their own, by address, or because
/// there is only one; the address, which is bound.
///
/// ```no_run
/// # fn main() -> Result<(), handover::worker::Error> {
/// # let worker = handover::worker::Worker::connect()?;
/// let http = worker.listener("http").or_bind("tcp://127.0.0.1:8080")?;
/// let admin = worker.listener("admin").get()?;
/// let metrics = worker.listener("tcp://127.0.0.1:0").get()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "say what happens where nobody passed it: get() or or_bind()"]
pub struct Request<'worker> {
    worker: &'worker Worker,
    name: String,
}

impl<'worker> Request<'worker> {
    pub(super) const fn new(worker: &'worker Worker, name: String) -> Self {
        Self { worker, name }
    }

    /// The listener, if somebody passes it. A name that is an address is bound where there is no handover.
    ///
    /// # Errors
    /// [`Error::NoListener`]; [`Error::Refused`] where handover does not give it; [`Error::Bind`].
    pub fn get(self) -> Result<Listener, Error> {
        let place = Place::parse(&self.name).ok();
        let text = self.name.clone();
        self.find(place.as_ref(), &text)
    }

    /// The listener, or one that is bound to this address: `tcp://127.0.0.1:8080`, `udp://…`, `unix:///path`, `unix-dgram:///path`, `unix:@name`,
    /// or `127.0.0.1:8080`.
    ///
    /// Under handover nothing is bound here: a name that the pool does not have is [`Error::Refused`], because the next worker could not have the same
    /// socket.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Address`].
    pub fn or_bind(self, address: &str) -> Result<Listener, Error> {
        let place = Place::parse(address)?;
        self.find(Some(&place), address)
    }

    /// The listener, if the process was started with it (`LISTEN_FDS`); nobody is asked. Each is given once.
    ///
    /// ```
    /// use handover::worker::Error;
    ///
    /// # let worker = handover::worker::Worker::connect()?;
    /// assert!(matches!(worker.listener("http").passed(), Err(Error::NoListener(_))), "nobody passed one");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoListener`]
    pub fn passed(self) -> Result<Listener, Error> {
        let passed = self.worker.inherited.take(&self.name);
        if passed.is_empty() {
            Err(Error::NoListener(self.name))
        } else {
            Ok(self.listener(passed, None, false))
        }
    }

    /// The listener once more from handover: the same sockets in new fds, by name or by address. What was passed at the start is left alone.
    ///
    /// ```
    /// use handover::worker::Error;
    ///
    /// # let worker = handover::worker::Worker::connect()?;
    /// assert!(matches!(worker.listener("http").ask_again(), Err(Error::NotConnected)), "there is no handover");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::NotConnected`], [`Error::Lost`].
    pub fn ask_again(self) -> Result<Listener, Error> {
        self.ask()
    }

    fn find(self, place: Option<&Place>, address: &str) -> Result<Listener, Error> {
        let passed = self.worker.inherited.take(&self.name);
        if !passed.is_empty() {
            return Ok(self.listener(passed, None, false));
        }
        if self.worker.can(Capability::Listen) {
            return self.ask();
        }
        let passed = self.worker.inherited.take_nameless(place);
        if !passed.is_empty() {
            return Ok(self.listener(passed, None, false));
        }
        let Some(place) = place else { return Err(Error::NoListener(self.name)) };
        let bound = place.bind().map_err(|source| Error::Bind { address: address.to_owned(), source })?;
        Ok(self.listener(vec![bound], None, true))
    }

    fn ask(self) -> Result<Listener, Error> {
        let is_address = Place::parse(&self.name).is_ok() || self.name.contains("://");
        let name = self.name.clone();
        let wanted = if is_address { Wanted::Address(name) } else { Wanted::Name(name) };
        let grant = self.worker.ask_listener(wanted)?.wait()?;
        let mut listener = self.listener(grant.fds, Some(grant.address), false);
        listener.name = grant.name;
        Ok(listener)
    }

    fn listener(self, sockets: Vec<OwnedFd>, address: Option<String>, is_own: bool) -> Listener {
        let core = Arc::clone(&self.worker.core);
        Listener { core, name: self.name, address, sockets, is_own }
    }
}

/// The listening sockets of one name.
///
/// Use it with [`incoming`](Self::incoming), or turn it into what the standard library has. Others may share each socket:
/// `O_NONBLOCK` is left as it is, and [`TcpListener::set_nonblocking`] would change it for all.
///
/// ```no_run
/// # fn main() -> Result<(), handover::worker::Error> {
/// # let worker = handover::worker::Worker::connect()?;
/// let dns: std::net::UdpSocket = worker.listener("dns").or_bind("udp://127.0.0.1:5300")?.into_udp()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Listener {
    pub(super) core: Arc<Core>,
    name: String,
    address: Option<String>,
    pub(super) sockets: Vec<OwnedFd>,
    /// Bound here, so that nobody else takes what waits in its queue.
    pub(super) is_own: bool,
}

impl Listener {
    /// What it is called.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// let http = worker.listener("http").or_bind("tcp://127.0.0.1:0")?;
    /// assert_eq!((http.name(), http.granted_address(), http.sockets().len()), ("http", None, 1));
    /// assert!(http.is_own() && !http.is_removed());
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What handover says that it is bound to; `None` where it was passed or bound here (ask the socket then).
    pub fn granted_address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Its sockets; one, where the name does not have several.
    pub fn sockets(&self) -> &[OwnedFd] {
        &self.sockets
    }

    /// Whether the process bound it itself.
    pub const fn is_own(&self) -> bool {
        self.is_own
    }

    /// Whether a reload has taken it away: it should not be accepted from any more.
    pub fn is_removed(&self) -> bool {
        self.core.lock().removed.contains(&self.name)
    }

    /// Whether nothing more is to be accepted.
    pub(super) fn is_over(&self, state: &State) -> bool {
        state.is_draining() || state.removed.contains(&self.name)
    }

    /// Connections as they come, until draining begins, for a thread of its own.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// let http = worker.listener("http").or_bind("tcp://127.0.0.1:0")?;
    /// worker.begin_drain("an example ends");
    /// for connection in http.incoming()? {
    ///     drop(connection?);
    /// }
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Listener`] where it is no stream socket; [`Error::Io`] where the process has no fds left.
    pub fn incoming(&self) -> Result<Incoming<'_>, Error> {
        let families = self.sockets.iter().map(|socket| self.family(socket)).collect::<Result<_, _>>()?;
        Incoming::new(self, families)
    }

    /// The only socket, as one for TCP.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// let http = worker.listener("http").or_bind("tcp://127.0.0.1:0")?.into_tcp()?;
    /// assert!(http.local_addr()?.port() > 0);
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Listener`] where it is another kind, or there are several.
    pub fn into_tcp(self) -> Result<TcpListener, Error> {
        self.into_one(Family::Ip, Type::Stream).map(TcpListener::from)
    }

    /// The only socket, as one for UDP.
    ///
    /// # Errors
    /// As [`into_tcp`](Self::into_tcp).
    pub fn into_udp(self) -> Result<UdpSocket, Error> {
        self.into_one(Family::Ip, Type::Datagram).map(UdpSocket::from)
    }

    /// The only socket, as a Unix one.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let address = |name: &str| format!("unix://{}", directory.path().join(name).display());
    /// # let worker = handover::worker::Worker::connect()?;
    /// let control = worker.listener("control").or_bind(&address("control"))?.into_unix()?;
    /// # drop(control);
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`into_tcp`](Self::into_tcp).
    pub fn into_unix(self) -> Result<UnixListener, Error> {
        self.into_one(Family::Unix, Type::Stream).map(UnixListener::from)
    }

    /// The only socket, as a Unix one for datagrams.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let address = |name: &str| format!("unix-dgram://{}", directory.path().join(name).display());
    /// # let worker = handover::worker::Worker::connect()?;
    /// let log = worker.listener("log").or_bind(&address("log"))?.into_unix_datagram()?;
    /// # drop(log);
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`into_tcp`](Self::into_tcp).
    pub fn into_unix_datagram(self) -> Result<UnixDatagram, Error> {
        self.into_one(Family::Unix, Type::Datagram).map(UnixDatagram::from)
    }

    /// All sockets, whatever they are.
    ///
    /// ```
    /// # let worker = handover::worker::Worker::connect()?;
    /// let sockets = worker.listener("http").or_bind("tcp://127.0.0.1:0")?.into_fds();
    /// assert_eq!(sockets.len(), 1);
    /// # Ok::<(), handover::worker::Error>(())
    /// ```
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.sockets
    }

    fn into_one(mut self, family: Family, carried: Type) -> Result<OwnedFd, Error> {
        let count = self.sockets.len();
        let (Some(socket), 1) = (self.sockets.pop(), count) else {
            return Err(self.wrong(format!("it has {count} sockets, and one is wanted")));
        };
        let found = kind(socket.as_fd())?;
        if found != (family, carried) {
            return Err(self.wrong(format!("it is {}, not {}", name_of(found), name_of((family, carried)))));
        }
        Ok(socket)
    }

    pub(super) fn family(&self, socket: &OwnedFd) -> Result<Family, Error> {
        match kind(socket.as_fd())? {
            (family @ (Family::Ip | Family::Unix), Type::Stream) => Ok(family),
            other => Err(self.wrong(format!("connections do not come from {}", name_of(other)))),
        }
    }

    pub(super) fn wrong(&self, why: String) -> Error {
        Error::Listener { name: self.name.clone(), why }
    }
}

const fn name_of(kind: (Family, Type)) -> &'static str {
    match kind {
        (Family::Ip, Type::Stream) => "a TCP socket",
        (Family::Ip, Type::Datagram) => "a UDP socket",
        (Family::Unix, Type::Stream) => "a Unix socket",
        (Family::Unix, Type::Datagram) => "a Unix datagram socket",
        (Family::Unix, Type::Seqpacket) => "a Unix seqpacket socket",
        _ => "a socket of another kind",
    }
}

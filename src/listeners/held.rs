//! A listener's sockets while they are held.
//!
//! All workers share the socket, so each of them can harm it for all: `shutdown` ends it, `listen` cuts its
//! queue (Node does, to 511), `O_NONBLOCK` surprises those that expected to block. [`Held::drift`] compares
//! what the socket is with what it was, and mends what can be mended.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use socket2::SockRef;

use super::bind::{self, DEFAULT_BACKLOG};
use super::drift::Drift;
use super::error::BindError;
use super::inherited::Inherited;
use super::unix_file::UnixFile;
use crate::config::change::{self, OptionChange};
use crate::config::model::{Address, Listener, SocketOptions, UnixName};
use crate::os::foreign::Shared;
use crate::os::socket::{self, Facts, Local, Queue, accept_queue, facts};

/// Where a listener's sockets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Whoever started us passed them.
    Inherited,
    /// We bound them.
    Bound,
}

/// One socket, and what it was when it was taken or made.
#[derive(Debug)]
struct Socket {
    fd: Shared,
    facts: Facts,
    /// The length of its queue; `None` where it has none.
    backlog: Cell<Option<u32>>,
}

/// See the module.
#[derive(Debug)]
pub struct Held {
    sockets: Vec<Socket>,
    origin: Origin,
    /// As the configuration has it, with the options that are in force.
    listener: RefCell<Listener>,
    file: RefCell<Option<UnixFile>>,
}

impl Held {
    /// Holds sockets that were passed to us. They are taken as they are configured; only `nonblocking` is
    /// applied, where it is set.
    ///
    /// # Errors
    /// [`BindError`], from `fcntl(2)`.
    pub fn adopt(listener: &Listener, inherited: Vec<Inherited>) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for Inherited { socket, mut facts, offer } in inherited {
            if let Some(nonblocking) = listener.options.nonblocking {
                let set = SockRef::from(&socket).set_nonblocking(nonblocking);
                set.map_err(|error| BindError::of(&offer.name, error))?;
                facts.nonblocking = nonblocking;
            }
            sockets.push(Socket::new(socket, facts));
        }
        let listener = RefCell::new(listener.clone());
        Ok(Self { sockets, origin: Origin::Inherited, listener, file: RefCell::new(None) })
    }

    /// Binds a listener.
    ///
    /// # Errors
    /// [`BindError`]; nothing is left behind.
    pub fn bind(address: &Address, options: &SocketOptions) -> Result<Self, BindError> {
        Self::of_bound(address, options, bind::bind(address, options)?)
    }

    /// Binds the listener afresh at the same address, after a worker has ended its socket for all. The old
    /// sockets stay open until nobody holds `self` any more.
    ///
    /// # Errors
    /// [`BindError`]; an inherited listener, which only its owner can make anew, is one.
    pub fn rebind(&self, options: &SocketOptions) -> Result<Self, BindError> {
        let address = self.listener.borrow().address.clone().filter(|_| self.origin == Origin::Bound);
        let Some(address) = address else {
            let error = io::Error::other("only its owner can make an inherited socket anew");
            return Err(BindError::of(self.shown(), error));
        };
        Self::of_bound(&address, options, bind::bind_over(&address, options, self.file.take())?)
    }

    fn of_bound(address: &Address, options: &SocketOptions, bound: bind::Bound) -> Result<Self, BindError> {
        let facts = facts(&bound.socket).map_err(|error| BindError::of(address, error))?;
        Ok(Self {
            sockets: vec![Socket::new(bound.socket.into(), facts)],
            origin: Origin::Bound,
            listener: RefCell::new(Listener { address: Some(address.clone()), options: options.clone() }),
            file: RefCell::new(bound.file),
        })
    }

    /// The file of its Unix socket is gone, or another one is in its place: nobody can connect any more.
    pub fn has_lost_its_file(&self) -> bool {
        let is_path = matches!(self.listener.borrow().address, Some(Address::Unix(_, UnixName::Path(_))));
        // One that was bound afresh has given its file to its successor, which may be gone by now.
        let in_place = self.file.borrow().as_ref().is_some_and(UnixFile::is_ours);
        self.origin == Origin::Bound && is_path && !in_place
    }

    /// The options that are in force.
    pub fn options(&self) -> SocketOptions {
        self.listener.borrow().options.clone()
    }

    /// Its sockets; more than one only where several were passed under one name.
    pub fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter().map(|socket| &*socket.fd)
    }

    /// Where they come from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// It is the socket of this listener, whatever the name. Port 0 says nothing, nor does no address.
    pub fn serves(&self, listener: &Listener) -> bool {
        let wanted = change::identity(listener);
        wanted.is_some() && change::identity(&self.listener.borrow()) == wanted
    }

    /// Can it be given these options while it is held?
    ///
    /// # Errors
    /// The option that is fixed, for a person.
    pub fn can_have(&self, options: &SocketOptions) -> Result<(), String> {
        if self.origin == Origin::Inherited {
            return Ok(());
        }
        change::option_changes(&self.listener.borrow().options, options).map(drop)
    }

    /// Where it is bound, for a person; with the real port where 0 was asked for.
    pub fn shown(&self) -> String {
        let real = self.sockets.first().map(|socket| &socket.facts.local);
        match (&self.listener.borrow().address, real) {
            (Some(Address::Tcp(_)), Some(Local::Inet(at))) => Address::Tcp(*at).to_string(),
            (Some(Address::Udp(_)), Some(Local::Inet(at))) => Address::Udp(*at).to_string(),
            (Some(address), _) => address.to_string(),
            (None, Some(Local::Inet(at))) => at.to_string(),
            (None, Some(Local::Path(path))) => path.display().to_string(),
            (None, Some(Local::Abstract(name))) => format!("@{}", String::from_utf8_lossy(name)),
            (None, _) => "unknown".to_owned(),
        }
    }

    /// What each socket was when it was taken or made, and its queue now.
    pub fn look(&self) -> impl Iterator<Item = (&Facts, Option<Queue>)> {
        self.sockets.iter().map(|socket| (&socket.facts, accept_queue(&*socket.fd, &socket.facts)))
    }

    /// Gives it other options; those of inherited sockets are their owner's affair.
    ///
    /// # Errors
    /// An option that is fixed; any of `setsockopt(2)`, `listen(2)`, `chown(2)` and `chmod(2)`. What came
    /// before stays changed.
    pub fn apply(&self, options: &SocketOptions) -> io::Result<()> {
        if self.origin == Origin::Inherited {
            return Ok(());
        }
        let changes = change::option_changes(&self.listener.borrow().options, options);
        for change in changes.map_err(io::Error::other)? {
            self.sockets.iter().try_for_each(|socket| self.apply_one(socket, &change))?;
        }
        self.listener.borrow_mut().options = options.clone();
        Ok(())
    }

    fn apply_one(&self, held: &Socket, change: &OptionChange) -> io::Result<()> {
        let sock = SockRef::from(&*held.fd);
        match change {
            OptionChange::Backlog(backlog) => {
                socket::listen(&*held.fd, backlog.unwrap_or(DEFAULT_BACKLOG))?;
                held.backlog.set(held.queue_limit());
                Ok(())
            }
            OptionChange::DeferAccept(within) => socket::set_defer_accept(&*held.fd, *within),
            OptionChange::FastOpen(queue) => socket::set_fast_open(&*held.fd, queue.unwrap_or(0)),
            OptionChange::Keepalive(on) => sock.set_keepalive(*on),
            OptionChange::Nodelay(on) => sock.set_tcp_nodelay(*on),
            OptionChange::ReceiveBuffer(bytes) => sock.set_recv_buffer_size(*bytes as usize),
            OptionChange::SendBuffer(bytes) => sock.set_send_buffer_size(*bytes as usize),
            OptionChange::Mark(mark) => socket::set_mark(&sock, *mark),
            OptionChange::Owner(user, group) => {
                self.with_file(|file| file.set_owner(user.as_ref(), group.as_ref()))
            }
            OptionChange::Mode(mode) => self.with_file(|file| file.set_mode(*mode)),
        }
    }

    fn with_file(&self, change: impl FnOnce(&UnixFile) -> io::Result<()>) -> io::Result<()> {
        self.file.borrow().as_ref().map_or(Ok(()), change)
    }

    /// Compares the sockets with what they were, and sets a backlog back where the socket is ours.
    pub fn drift(&self) -> Vec<Drift> {
        let mut found: Vec<Drift> = self.sockets.iter().flat_map(|socket| self.drift_of(socket)).collect();
        if self.has_lost_its_file() {
            found.push(Drift::FileLost);
        }
        found
    }

    fn drift_of(&self, socket: &Socket) -> Vec<Drift> {
        let Ok(now) = facts(&*socket.fd) else { return Vec::new() };
        let queue = accept_queue(&*socket.fd, &now);
        if socket.facts.listening && (!now.listening || queue.is_some_and(|queue| queue.shut)) {
            return vec![Drift::NotListening];
        }
        let mut found = Vec::new();
        if let Some((wanted, queue)) = socket.backlog.get().zip(queue)
            && queue.limit != wanted
        {
            let ours = self.origin == Origin::Bound;
            let mended = ours && socket::listen(&*socket.fd, wanted).is_ok();
            found.push(Drift::Backlog { wanted, found: queue.limit, mended });
        }
        if now.nonblocking != socket.facts.nonblocking {
            found.push(Drift::Nonblocking { now: now.nonblocking });
        }
        found
    }

    /// Connections that wait to be accepted, in all sockets.
    pub fn waiting(&self) -> u32 {
        self.look().filter_map(|(_, queue)| queue).map(|queue| queue.waiting).sum()
    }
}

impl Socket {
    fn new(fd: OwnedFd, facts: Facts) -> Self {
        let socket = Self { fd: Shared::new(fd), facts, backlog: Cell::new(None) };
        socket.backlog.set(socket.queue_limit());
        socket
    }

    fn queue_limit(&self) -> Option<u32> {
        accept_queue(&*self.fd, &self.facts).map(|queue| queue.limit)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::model::UnixKind;

    fn unix(kind: UnixKind, path: &Path) -> Address {
        Address::Unix(kind, UnixName::Path(path.to_owned()))
    }

    fn tcp() -> Address {
        Address::Tcp("127.0.0.1:0".parse().unwrap())
    }

    fn bind(address: &Address) -> Result<Held, String> {
        Held::bind(address, &SocketOptions::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_socket_is_known_by_address_and_device_but_not_by_port_0() {
        let listener = |address: Address, device: Option<&str>| Listener {
            address: Some(address),
            options: SocketOptions { device: device.map(str::to_owned), ..SocketOptions::default() },
        };
        let held = bind(&tcp()).unwrap();
        assert!(!held.serves(&listener(tcp(), None)), "another port each time");
        let at = Address::Tcp("127.0.0.1:1".parse().unwrap());
        held.listener.borrow_mut().address = Some(at.clone());
        assert!(held.serves(&listener(at.clone(), None)));
        assert!(!held.serves(&listener(at, Some("eth1"))));
    }

    #[test]
    fn a_shortened_backlog_is_noticed_and_set_back() {
        let options = SocketOptions { backlog: Some(100), ..SocketOptions::default() };
        let held = Held::bind(&tcp(), &options).unwrap();
        assert_eq!(held.drift(), []);
        socket::listen(held.sockets().next().unwrap(), 5).unwrap();
        assert_eq!(held.drift(), [Drift::Backlog { wanted: 100, found: 5, mended: true }]);
        assert_eq!(held.drift(), []);
    }

    #[test]
    fn what_a_reload_changes_is_set_on_the_held_socket() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let held = bind(&unix(UnixKind::Stream, &path)).unwrap();
        let none = SocketOptions::default();
        held.apply(&SocketOptions { backlog: Some(33), mode: Some(0o600), ..none.clone() }).unwrap();
        assert_eq!(held.look().next().unwrap().1.unwrap().limit, 33);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(held.drift(), []);

        let held = bind(&tcp()).unwrap();
        let within = Some(Duration::from_secs(3));
        held.apply(&SocketOptions { keepalive: Some(true), defer_accept: within, ..none.clone() }).unwrap();
        assert!(SockRef::from(held.sockets().next().unwrap()).keepalive().unwrap());
        held.apply(&none).unwrap();
        assert!(!SockRef::from(held.sockets().next().unwrap()).keepalive().unwrap());
        assert!(held.can_have(&SocketOptions { free_bind: true, ..none }).is_err());
    }

    #[test]
    fn a_socket_that_was_shut_down_is_noticed_and_can_be_bound_afresh() {
        let held = bind(&tcp()).unwrap();
        let shared = SockRef::from(held.sockets().next().unwrap());
        let port = held.shown();
        shared.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(held.drift(), [Drift::NotListening]);
        let at = port.trim_start_matches("tcp://").parse().unwrap();
        held.listener.borrow_mut().address = Some(Address::Tcp(at));
        let fresh = held.rebind(&SocketOptions::default()).unwrap();
        assert_eq!((fresh.shown(), fresh.drift()), (port, vec![]));
    }

    #[test]
    fn a_unix_socket_that_was_shut_down_is_noticed_and_bound_afresh_at_its_path() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let held = bind(&unix(UnixKind::Stream, &path)).unwrap();
        SockRef::from(held.sockets().next().unwrap()).shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(held.drift(), [Drift::NotListening]);
        let fresh = held.rebind(&SocketOptions::default()).unwrap();
        drop(held);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fresh.drift(), []);
    }

    #[test]
    fn a_changed_blocking_mode_is_shown_and_left_alone() {
        let held = bind(&tcp()).unwrap();
        SockRef::from(held.sockets().next().unwrap()).set_nonblocking(true).unwrap();
        assert_eq!(held.drift(), [Drift::Nonblocking { now: true }]);
        assert_eq!(held.drift(), [Drift::Nonblocking { now: true }]);
    }

    #[test]
    fn a_unix_socket_has_exactly_the_mode_that_was_asked_for_and_goes_with_its_holder() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        for kind in [UnixKind::Stream, UnixKind::Datagram, UnixKind::SeqPacket] {
            let options = SocketOptions { mode: Some(0o622), ..SocketOptions::default() };
            let held = Held::bind(&unix(kind, &path), &options).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o622);
            drop(held);
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left");
        }
    }

    #[test]
    fn a_stale_file_is_replaced_and_anything_else_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let address = unix(UnixKind::Stream, &path);
        drop(UnixListener::bind(&path).unwrap());
        let held = bind(&address).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(bind(&address).unwrap_err().contains("another handover holds it"));
        drop(held);

        let live = UnixListener::bind(&path).unwrap();
        assert!(bind(&address).unwrap_err().contains("a live socket answers there"));
        drop(live);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(bind(&address).unwrap_err().contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_somebody_replaced_is_not_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let held = bind(&unix(UnixKind::Stream, &path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        assert_eq!(held.drift(), [Drift::FileLost]);
        drop(held);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
        drop(theirs);
    }

    #[test]
    fn a_lost_file_is_still_lost_when_the_socket_that_was_bound_afresh_is_given_up() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let held = bind(&unix(UnixKind::Stream, &path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        // A reload binds it afresh, and its rollout fails.
        drop(held.rebind(&held.options()).unwrap());
        assert_eq!(held.drift(), [Drift::FileLost]);
        let fresh = held.rebind(&held.options()).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(fresh.drift(), []);
    }

    #[test]
    fn what_went_wrong_is_said_with_the_address() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(taken.local_addr().unwrap());
        let text = bind(&address).unwrap_err();
        assert!(text.starts_with(&format!("{}: address already in use", address)), "{text}");
        let text = bind(&Address::Tcp("192.0.2.1:1".parse().unwrap())).unwrap_err();
        assert!(text.contains("no interface of this machine has it"), "{text}");
        let text = bind(&unix(UnixKind::Stream, Path::new("/no/such/directory/s"))).unwrap_err();
        assert!(text.contains("no such directory"), "{text}");
    }
}

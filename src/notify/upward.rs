//! Sending to the service manager without ever waiting for it.
//!
//! A manager that does not read fills its queue (`net.unix.max_dgram_qlen`, often 10), and a blocking send would
//! then stop the whole supervisor. So each text is tried at once, and what does not go is kept in order and sent
//! when the socket can be written again. Texts that a newer one makes worthless (watchdog, status, more time) are
//! replaced; READY, RELOADING and STOPPING are not lost while the manager lives.
//!
//! The socket is connected: only then does the kernel say when the manager's queue has room (`unix(7)`,
//! `unix_dgram_poll` in Linux). A manager that has made its socket anew is connected to again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as std_unix;
use std::rc::Rc;

use nix::sys::socket::{MsgFlags, UnixAddr, connect, send};
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::text::{Kind, Text};

/// READY, RELOADING and STOPPING that are kept while the manager does not read. When there are more, the
/// oldest reload that both began and ended in the queue is left out, which no manager can tell apart.
const STATES_MAX: usize = 64;

/// Why `NOTIFY_SOCKET` cannot be used. The daemon goes on without it and says so in a warning.
#[derive(Debug, Error)]
pub enum AddressError {
    /// A virtual machine's way to its host: not spoken here.
    #[error(
        "NOTIFY_SOCKET {0}: vsock is not supported\nhint: the service manager is not told about this service"
    )]
    Vsock(String),
    /// Neither an absolute path nor `@name`.
    #[error("NOTIFY_SOCKET {0}: neither an absolute path nor an abstract name")]
    Form(String),
    /// The path or name does not fit into a socket address, or abstract names do not exist on this system.
    #[error("NOTIFY_SOCKET {0}: {1}")]
    Address(String, #[source] nix::Error),
}

/// What became of a text.
#[derive(Debug)]
pub enum Delivery {
    /// The manager's queue has it.
    Sent,
    /// It is kept until the manager reads.
    Queued,
    /// There is no service manager.
    Nobody,
    /// It is lost.
    Failed(io::Error),
}

/// The service manager that started us, if one did. Cheap to clone; all clones are the same queue.
///
/// Belongs to one thread: sending needs a tokio runtime, and a queue is emptied by a task of the `LocalSet`
/// in which it was sent.
#[derive(Clone)]
pub struct ServiceManager {
    link: Option<Rc<Link>>,
}

struct Link {
    address: UnixAddr,
    socket: RefCell<Option<Rc<UnixDatagram>>>,
    queue: RefCell<VecDeque<Text>>,
    draining: Cell<bool>,
    lost: Cell<u64>,
}

/// `CLOCK_MONOTONIC` in microseconds, for [`Text::reloading`].
///
/// # Errors
///
/// As `clock_gettime(2)`.
pub fn monotonic_usec() -> io::Result<i128> {
    match NotifyState::monotonic_usec_now()? {
        NotifyState::MonotonicUsec(usec) => Ok(usec),
        other => Err(io::Error::other(format!("unexpected notification {other}"))),
    }
}

impl ServiceManager {
    /// No service manager: every text goes nowhere.
    pub fn nobody() -> Self {
        Self { link: None }
    }

    /// The manager at the value of `NOTIFY_SOCKET`: an absolute path or `@name`. Missing or empty: nobody.
    /// Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// [`AddressError`]: the value is there and cannot be used.
    pub fn at(notify_socket: Option<&OsStr>) -> Result<Self, AddressError> {
        match notify_socket.filter(|value| !value.is_empty()) {
            None => Ok(Self::nobody()),
            Some(value) => Ok(Self { link: Some(Rc::new(Link::new(parse_address(value)?))) }),
        }
    }

    /// There is one.
    pub fn is_there(&self) -> bool {
        self.link.is_some()
    }

    /// Sends a text now, or as soon as the manager reads. Never waits.
    ///
    /// Must be called in a tokio runtime, inside a `LocalSet`.
    pub fn send(&self, text: Text) -> Delivery {
        let Some(link) = &self.link else { return Delivery::Nobody };
        if !link.queue.borrow().is_empty() {
            link.keep(text);
            return Delivery::Queued;
        }
        match link.try_send(&text, send_now) {
            Ok(()) => Delivery::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.keep(text);
                link.drain_later();
                Delivery::Queued
            }
            Err(error) => {
                link.lost.set(link.lost.get() + 1);
                Delivery::Failed(error)
            }
        }
    }

    /// Returns when nothing is queued any more. The caller sets the deadline: a manager may never read.
    pub async fn flushed(&self) {
        if let Some(link) = &self.link {
            link.drain().await;
        }
    }

    /// Texts that wait for the manager to read.
    pub fn queued(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.queue.borrow().len())
    }

    /// Texts that could not be sent since the start.
    pub fn lost(&self) -> u64 {
        self.link.as_ref().map_or(0, |link| link.lost.get())
    }
}

fn parse_address(value: &OsStr) -> Result<UnixAddr, AddressError> {
    let shown = || value.to_string_lossy().into_owned();
    let address = match value.as_bytes() {
        [b'/', ..] => UnixAddr::new(value),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] if !name.is_empty() => UnixAddr::new_abstract(name),
        bytes if bytes.starts_with(b"vsock") => return Err(AddressError::Vsock(shown())),
        _ => return Err(AddressError::Form(shown())),
    };
    address.map_err(|errno| AddressError::Address(shown(), errno))
}

impl Link {
    fn new(address: UnixAddr) -> Self {
        Self {
            address,
            socket: RefCell::new(None),
            queue: RefCell::default(),
            draining: Cell::new(false),
            lost: Cell::new(0),
        }
    }

    /// The connected socket, made where there is none.
    fn socket(&self) -> io::Result<Rc<UnixDatagram>> {
        if let Some(socket) = &*self.socket.borrow() {
            return Ok(Rc::clone(socket));
        }
        let socket = std_unix::UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        connect(socket.as_raw_fd(), &self.address)?;
        let socket = Rc::new(UnixDatagram::from_std(socket)?);
        *self.socket.borrow_mut() = Some(Rc::clone(&socket));
        Ok(socket)
    }

    /// Tries once, and once more with a new socket if the manager has made its own anew.
    fn try_send(&self, text: &Text, how: impl Fn(&UnixDatagram, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let bytes = text.as_str().as_bytes();
        match how(&*self.socket()?, bytes) {
            Err(error) if is_stale(&error) => {
                *self.socket.borrow_mut() = None;
                how(&*self.socket()?, bytes)
            }
            result => result,
        }
    }

    fn keep(&self, text: Text) {
        let mut queue = self.queue.borrow_mut();
        if text.kind().is_superseded_by_newer() {
            queue.retain(|kept| kept.kind() != text.kind());
        }
        queue.push_back(text);
        let states = queue.iter().filter(|kept| !kept.kind().is_superseded_by_newer()).count();
        if states > STATES_MAX {
            forget_one_reload(&mut queue);
        }
    }

    fn drain_later(self: &Rc<Self>) {
        if !self.draining.replace(true) {
            let link = Rc::clone(self);
            tokio::task::spawn_local(async move {
                link.drain().await;
                link.draining.set(false);
            });
        }
    }

    async fn drain(&self) {
        loop {
            // Out of the queue while it is tried: two drains then never send the same text twice.
            let Some(text) = self.queue.borrow_mut().pop_front() else { return };
            match self.try_send(&text, send_if_writable) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.put_back(text);
                    self.writable().await;
                }
                Err(_) => self.lost.set(self.lost.get() + 1),
            }
        }
    }

    fn put_back(&self, text: Text) {
        self.queue.borrow_mut().push_front(text);
    }

    async fn writable(&self) {
        if let Ok(socket) = self.socket() {
            // An error shows itself at the next send.
            let _ = socket.writable().await;
        }
    }
}

/// Asks the kernel, whatever the runtime knows: a new socket is not known to be writable before the next turn.
fn send_now(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    Ok(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT).map(drop)?)
}

/// Asks the kernel only where the runtime thinks that the socket can be written, and tells it if that is not so.
fn send_if_writable(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    socket.try_io(Interest::WRITABLE, || send_now(socket, bytes))
}

/// The socket at the other end is gone; there may be a new one at the same address.
fn is_stale(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

/// Takes the oldest RELOADING and the READY that ended it out of the queue.
fn forget_one_reload(queue: &mut VecDeque<Text>) {
    let begin = queue.iter().position(|text| text.kind() == Kind::Reloading);
    let end = begin.and_then(|begin| {
        queue.iter().skip(begin).position(|text| text.kind() == Kind::Ready).map(|after| begin + after)
    });
    if let (Some(begin), Some(end)) = (begin, end) {
        queue.remove(end);
        queue.remove(begin);
    }
}

/// A value as the environment gives it, to a manager, or to nobody with the reason: what the daemon wants.
pub fn from_environment(notify_socket: Option<OsString>) -> (ServiceManager, Option<AddressError>) {
    match ServiceManager::at(notify_socket.as_deref()) {
        Ok(manager) => (manager, None),
        Err(error) => (ServiceManager::nobody(), Some(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(LocalSet::new().run_until(async { timeout(DEADLINE, test).await.expect("too slow") }))
    }

    async fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Sends until the manager's queue is full; gives the number that went.
    fn fill(manager: &ServiceManager) -> usize {
        (0..10_000)
            .find(|_| matches!(manager.send(Text::ready()), Delivery::Queued))
            .expect("the queue is never full")
    }

    #[test]
    fn a_text_arrives_by_path() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            let manager = ServiceManager::at(Some(path.as_os_str())).unwrap();
            assert!(matches!(manager.send(Text::ready().with_status("fine")), Delivery::Sent));
            assert_eq!(receive(&socket).await, "READY=1\nSTATUS=fine\n");
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_text_arrives_by_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        run(async {
            let name = format!("handover-test-{}", std::process::id());
            let address = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
            let socket = std_unix::UnixDatagram::bind_addr(&address).unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = UnixDatagram::from_std(socket).unwrap();
            let value = OsString::from(format!("@{name}"));
            let manager = ServiceManager::at(Some(&value)).unwrap();
            assert!(matches!(manager.send(Text::stopping()), Delivery::Sent));
            assert_eq!(receive(&socket).await, "STOPPING=1\n");
        });
    }

    #[test]
    fn an_address_that_cannot_be_used_is_said_to_be_so() {
        let at = |value: &str| ServiceManager::at(Some(OsStr::new(value)));
        assert!(matches!(at("vsock:2:1234"), Err(AddressError::Vsock(_))));
        assert!(matches!(at("run/notify"), Err(AddressError::Form(_))));
        assert!(matches!(at("@"), Err(AddressError::Form(_))));
        assert!(matches!(at(&format!("/{}", "x".repeat(200))), Err(AddressError::Address(..))));
        assert!(!at("").unwrap().is_there());
        let (manager, error) = from_environment(Some("vsock-stream:2:1".into()));
        assert!(!manager.is_there() && error.is_some());
    }

    #[test]
    fn without_a_manager_a_text_goes_nowhere() {
        assert!(matches!(ServiceManager::nobody().send(Text::ready()), Delivery::Nobody));
    }

    #[test]
    fn a_manager_that_does_not_read_blocks_nothing_and_later_gets_all_states_in_order() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            let manager = ServiceManager::at(Some(path.as_os_str())).unwrap();
            let went = fill(&manager);
            for number in 0..5 {
                manager.send(Text::status(&format!("old {number}")));
                manager.send(Text::watchdog());
            }
            manager.send(Text::reloading(7));
            manager.send(Text::status("new"));
            manager.send(Text::stopping());
            assert_eq!(manager.queued(), 5, "only the newest status and watchdog are kept");

            for _ in 0..=went {
                assert_eq!(receive(&socket).await, "READY=1\n");
            }
            let mut rest = Vec::new();
            for _ in 0..4 {
                rest.push(receive(&socket).await);
            }
            assert_eq!(
                rest,
                ["WATCHDOG=1\n", "RELOADING=1\nMONOTONIC_USEC=7\n", "STATUS=new\n", "STOPPING=1\n"]
            );
            manager.flushed().await;
            assert_eq!((manager.queued(), manager.lost()), (0, 0));
        });
    }

    #[test]
    fn a_thousand_reloads_that_nobody_reads_stay_bounded_and_end_in_the_last_state() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let _socket = UnixDatagram::bind(&path).unwrap();
            let manager = ServiceManager::at(Some(path.as_os_str())).unwrap();
            fill(&manager);
            for number in 0..1000 {
                manager.send(Text::reloading(number));
                manager.send(Text::ready());
            }
            manager.send(Text::stopping());
            assert!(manager.queued() <= STATES_MAX + 3);
            let queue = manager.link.as_ref().unwrap().queue.borrow();
            assert_eq!(queue.back().unwrap(), &Text::stopping());
        });
    }

    #[test]
    fn a_manager_that_made_its_socket_anew_is_found_again() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let first = UnixDatagram::bind(&path).unwrap();
            let manager = ServiceManager::at(Some(path.as_os_str())).unwrap();
            assert!(matches!(manager.send(Text::ready()), Delivery::Sent));
            drop(first);
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(manager.send(Text::ready()), Delivery::Failed(_)));
            let second = UnixDatagram::bind(&path).unwrap();
            assert!(matches!(manager.send(Text::stopping()), Delivery::Sent));
            assert_eq!(receive(&second).await, "STOPPING=1\n");
            assert_eq!(manager.lost(), 1);
        });
    }

    #[test]
    fn the_moment_of_a_reload_moves_on() {
        let first = monotonic_usec().unwrap();
        assert!(first > 0 && monotonic_usec().unwrap() >= first);
    }
}

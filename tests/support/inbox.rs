//! Datagrams that come to a test, kept in order.
//!
//! A thread takes them at once: a queue of datagrams is short (`net.unix.max_dgram_qlen`), and nobody is to
//! wait for the test.

use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use super::scratch::Scratch;
use super::{deadline, left};

/// What nobody else sends.
const MARK: &[u8] = b"\0mark";

#[derive(Default)]
struct Shared {
    texts: Mutex<Texts>,
    grown: Condvar,
}

#[derive(Default)]
struct Texts {
    all: Vec<(Instant, String)>,
    /// The first that nobody has waited for yet.
    next: usize,
    /// How many of our own [`MARK`]s were read.
    marks: u64,
    ended: bool,
}

/// A Unix datagram socket with a path, and all that came to it.
pub struct Inbox {
    path: PathBuf,
    socket: Arc<UnixDatagram>,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Inbox {
    /// A socket in `scratch` that every user may write to.
    pub fn new(scratch: &Scratch, name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = scratch.join(name);
        let socket = Arc::new(UnixDatagram::bind(&path).expect("a free path"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("our socket");
        let shared = Arc::<Shared>::default();
        let (from, to) = (Arc::clone(&socket), Arc::clone(&shared));
        let reader = std::thread::spawn(move || read(&from, &to));
        Self { path, socket, shared, reader: Some(reader) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All texts so far: whatever was sent before this call is among them.
    pub fn all(&self) -> Vec<(Instant, String)> {
        let marks = self.lock().marks;
        let sent = UnixDatagram::unbound().and_then(|own| own.send_to(MARK, &self.path));
        if sent.is_ok() {
            // The socket's queue is in the order of sending, so what came before the mark is read before it.
            let waited = self
                .shared
                .grown
                .wait_timeout_while(self.lock(), left(deadline()), |texts| texts.marks == marks);
            drop(waited.expect("no reader panics"));
        }
        self.lock().all.clone()
    }

    /// The next text for which `wanted` is true, among those that nobody has waited for yet; those before it
    /// are passed over. `None` where none comes while patience lasts.
    pub fn wait(&self, mut wanted: impl FnMut(&str) -> bool) -> Option<(Instant, String)> {
        let deadline = deadline();
        let mut texts = self.lock();
        loop {
            while let Some(text) = texts.all.get(texts.next).cloned() {
                texts.next += 1;
                if wanted(&text.1) {
                    return Some(text);
                }
            }
            let (again, waited) = self
                .shared
                .grown
                .wait_timeout_while(texts, left(deadline), |texts| texts.all.len() <= texts.next)
                .expect("no reader panics");
            texts = again;
            if waited.timed_out() {
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Texts> {
        self.shared.texts.lock().expect("no reader panics")
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.lock().ended = true;
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(from: &UnixDatagram, to: &Shared) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(length) = from.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let mut texts = to.texts.lock().expect("no test panics here");
        if texts.ended {
            return;
        }
        if text.as_bytes() == MARK {
            texts.marks += 1;
        } else {
            texts.all.push((Instant::now(), text));
        }
        to.grown.notify_all();
    }
}

//! Plays journald: takes records at the place where the real one does, and reads its native protocol.
//!
//! The daemon knows one path only, so it is started with a `/run` of its own, in which that path leads here. What is
//! tried is thus what is shipped, and nobody can lead it elsewhere by a variable.

use std::fs::File;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sendfd::RecvWithFd;

use super::daemon::Setup;
use super::machine::{skipped, succeeds};
use super::scratch::Scratch;
use super::{deadline, left};

/// Gives the command a `/run` in which `/run/systemd/journal` is the directory `$1`.
const OWN_RUN: &str = "mount -t tmpfs none /run && mkdir /run/systemd && ln -s \"$1\" /run/systemd/journal && \
    shift && exec \"$@\"";
const AS_ROOT: [&str; 3] = ["unshare", "--mount", "--"];
const AS_USER: [&str; 4] = ["unshare", "--map-root-user", "--mount", "--"];

/// More datagrams than wait in a socket.
const QUEUE_MAX: usize = 4096;

/// A record: its fields in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub Vec<(String, String)>);

impl Record {
    /// Reads systemd's native protocol.
    ///
    /// # Panics
    ///
    /// Where it is broken.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line that ends");
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            let (name, value) = match line.iter().position(|byte| *byte == b'=') {
                Some(at) => {
                    bytes = rest;
                    (&line[..at], &line[at + 1..])
                }
                None => {
                    let (length, rest) = rest.split_at(8);
                    let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
                    let (value, rest) = rest.split_at(usize::try_from(length).expect("a length"));
                    bytes = rest.strip_prefix(b"\n").expect("a line break after the value");
                    (line, value)
                }
            };
            let name = String::from_utf8(name.to_vec()).expect("a name in ASCII");
            let is_good = !name.is_empty()
                && name.len() <= 64
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            assert!(is_good, "journald drops the field {name:?}");
            fields.push((name, String::from_utf8_lossy(value).into_owned()));
        }
        Self(fields)
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a field, or nothing.
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [] => "",
            [value] => value,
            _ => panic!("{name} more than once: {self:?}"),
        }
    }

    /// `MESSAGE`.
    pub fn message(&self) -> &str {
        self.field("MESSAGE")
    }
}

#[derive(Default)]
struct Shared {
    records: Mutex<(Vec<Record>, bool)>,
    grown: Condvar,
}

/// A journald that is there, or is not, or is and does not read.
pub struct Journald {
    directory: PathBuf,
    shared: Arc<Shared>,
    socket: Option<Arc<UnixDatagram>>,
    reader: Option<JoinHandle<()>>,
}

impl Journald {
    /// Not there yet. `None`, and said so, where the daemon cannot be given a `/run` of its own.
    #[track_caller]
    pub fn absent(scratch: &Scratch) -> Option<Self> {
        let may = [&AS_ROOT[..], &AS_USER[..]].iter().any(|words| succeeds(&[*words, &["true"]].concat()));
        if skipped("a mount namespace", !may) {
            return None;
        }
        let directory = scratch.join("journal");
        std::fs::create_dir(&directory).expect("our directory");
        Some(Self { directory, shared: Arc::default(), socket: None, reader: None })
    }

    /// The daemon finds this journald at the place where it looks.
    #[must_use]
    pub fn is_for(&self, setup: Setup) -> Setup {
        let words = if succeeds(&[&AS_ROOT[..], &["true"]].concat()) { &AS_ROOT[..] } else { &AS_USER[..] };
        let directory = self.directory.display().to_string();
        let words = [words, &["sh", "-c", OWN_RUN, "sh", &directory]].concat();
        setup.under(words.into_iter().map(str::to_owned))
    }

    /// Is there, and does not read.
    pub fn stall(&mut self) {
        self.socket = Some(Arc::new(UnixDatagram::bind(self.path()).expect("a free path")));
    }

    /// Is there, and reads.
    pub fn serve(&mut self) {
        if self.socket.is_none() {
            self.stall();
        }
        let socket = self.socket.clone().expect("it is there");
        let shared = Arc::clone(&self.shared);
        self.lock().1 = false;
        self.reader = Some(std::thread::spawn(move || read(&socket, &shared)));
    }

    /// Goes away, after it has taken all that was sent.
    pub fn vanish(&mut self) {
        // Its directory may be gone already, at the end of a test.
        let _ = std::fs::remove_file(self.path());
        self.lock().1 = true;
        if let Some(socket) = self.socket.take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no record is broken");
        }
    }

    /// All records so far.
    pub fn records(&self) -> Vec<Record> {
        self.lock().0.clone()
    }

    /// The first record for which `wanted` is true.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Record) -> bool) -> Record {
        let deadline = deadline();
        let mut records = self.lock();
        let mut next = 0;
        loop {
            if let Some(record) = records.0[next..].iter().find(|record| wanted(record)) {
                return record.clone();
            }
            next = records.0.len();
            let (again, waited) = self
                .shared
                .grown
                .wait_timeout_while(records, left(deadline), |records| records.0.len() == next)
                .expect("no record is broken");
            records = again;
            let last = records.0.iter().rev().take(20).collect::<Vec<_>>();
            assert!(!waited.timed_out(), "no record with {what}; the last of {next}: {last:#?}");
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Record>, bool)> {
        self.shared.records.lock().expect("no record is broken")
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        if self.socket.is_some() && !std::thread::panicking() {
            self.vanish();
        }
    }
}

fn read(socket: &UnixDatagram, to: &Shared) {
    let mut buffer = vec![0; 256 << 10];
    let mut empty = 0;
    while empty < QUEUE_MAX {
        let mut fds = [-1; 1];
        let Ok((length, count)) = socket.recv_with_fd(&mut buffer, &mut fds) else { return };
        let bytes = match (length, count) {
            (0, 0) => {
                // Somebody's question whether anybody is here, or the end.
                empty += usize::from(to.records.lock().expect("no test panics here").1);
                continue;
            }
            (0, _) => sealed_bytes(fds[0]),
            _ => buffer[..length].to_vec(),
        };
        let record = Record::parse(&bytes);
        to.records.lock().expect("no test panics here").0.push(record);
        to.grown.notify_all();
    }
}

#[allow(unsafe_code, reason = "sendfd gives numbers")]
fn sealed_bytes(fd: i32) -> Vec<u8> {
    // SAFETY: the kernel has just made this fd for us, and nobody else knows of it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("memory");
    bytes
}

/// A stream as systemd gives it to a service for standard error, and what `JOURNAL_STREAM` says of it; ours is the
/// end to read from.
pub fn stream() -> (UnixStream, OwnedFd, String) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let theirs = File::from(OwnedFd::from(theirs));
    let file = theirs.metadata().expect("it is open");
    (ours, theirs.into(), format!("{}:{}", file.dev(), file.ino()))
}

//! Our side of a start: run the helper, send it the order, learn how it went. Nothing here waits.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sendfd::SendWithFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spec::{
    EXECUTING, FDS_BYTE, FDS_PER_MESSAGE, HELPER_ARGUMENT, ORDER_BYTES_MAX, OrderOut, StartFault, StartSpec,
    VERSION, header,
};
use crate::os::foreign::Shared;
use crate::os::process::Pidfd;

/// The executable that becomes programs for us: one whose `main` calls
/// [`helper_main`](super::helper_main) first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper(PathBuf);

impl Helper {
    /// This very executable. On Linux also after its file was replaced or deleted, so that both sides are
    /// always the same version.
    ///
    /// # Errors
    /// Elsewhere: where the path of the executable cannot be found out.
    pub fn this_executable() -> io::Result<Self> {
        if cfg!(target_os = "linux") {
            return Ok(Self("/proc/self/exe".into()));
        }
        std::env::current_exe().map(Self)
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Another executable, built from the same version of this library; absolute.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

/// Where the program's standard output and standard error go. Its standard input is `/dev/null`.
#[derive(Debug)]
pub struct Streams {
    /// fd 1
    pub stdout: Stdio,
    /// fd 2
    pub stderr: Stdio,
}

/// A start under way.
#[derive(Debug)]
pub struct Starting {
    /// The pid: the helper's now, the program's once it is executed. Also its process group.
    pub pid: u32,
    /// A handle on the process. Whoever takes this reaps it, however the start ends.
    pub pidfd: Pidfd,
    /// How it goes.
    pub handshake: Handshake,
}

/// Starts `spec` through the helper, in a process group of its own, with `fds` at the numbers beside them
/// (3 and above, no number twice).
///
/// The caller is busy for a fraction of a millisecond, whatever the number of fds and the size of the
/// environment: what the socket does not take at once is sent by [`Handshake::finished`]. The fds stay the
/// caller's, who may close them at once.
///
/// Call it on a thread that lives as long as the program should, if `parent_death_signal` is set; and within
/// a tokio runtime with I/O.
///
/// # Errors
/// `InvalidInput` for a bad fd number or an order beyond 64 MiB. `EAGAIN`, `EMFILE` or `ENOMEM`: no process
/// or fd to be had; nothing is left behind.
pub fn spawn(
    helper: &Helper,
    spec: &StartSpec,
    fds: &[(BorrowedFd<'_>, RawFd)],
    streams: Streams,
) -> io::Result<Starting> {
    let order = order(spec, fds)?;
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut child = Command::new(&helper.0)
        .arg0("handover")
        .arg(HELPER_ARGUMENT)
        // This and nothing more: a uid, a gid or a closure would make std copy our whole memory.
        .process_group(0)
        .stdin(OwnedFd::from(theirs))
        .stdout(streams.stdout)
        .stderr(streams.stderr)
        .spawn()?;
    let pid = child.id();
    let started = Pidfd::open(pid).and_then(|pidfd| Ok((pidfd, Handshake::begin(ours, order, fds)?)));
    match started {
        Ok((pidfd, handshake)) => Ok(Starting { pid, pidfd, handshake }),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// Header and order as bytes; the header goes before the fds.
fn order(spec: &StartSpec, fds: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<Vec<u8>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let targets: Vec<RawFd> = fds.iter().map(|(_, target)| *target).collect();
    let mut sorted = targets.clone();
    sorted.sort_unstable();
    if sorted.first().is_some_and(|lowest| *lowest < 3) || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("fd number below 3, or given twice"));
    }
    let count = u32::try_from(targets.len()).map_err(|_| invalid("too many fds"))?;
    let parent = std::process::id();
    let body = serde_json::to_vec(&OrderOut { version: VERSION, spec, targets, parent })?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= ORDER_BYTES_MAX);
    let mut bytes =
        header(length.ok_or_else(|| invalid("arguments and environment too long"))?, count).to_vec();
    bytes.extend(body);
    Ok(bytes)
}

/// What is still to be sent: the header, the fds, the order.
#[derive(Debug)]
struct Outbox {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that are sent.
    sent: usize,
    /// Our own duplicates of the fds that did not go out at once; those of others may be among them.
    fds: Vec<Shared>,
}

const HEADER_BYTES: usize = 8;

impl Outbox {
    /// Sends as much as the socket takes, and counts the fds that went in `fds_sent`. True: all is sent.
    fn push(&mut self, stream: &UnixStream, fds: &[RawFd], fds_sent: &mut usize) -> io::Result<bool> {
        while self.sent < HEADER_BYTES {
            self.sent += retry(|| (&*stream).write(&self.bytes[self.sent..HEADER_BYTES]))?;
        }
        while *fds_sent < fds.len() {
            let batch = &fds[*fds_sent..fds.len().min(*fds_sent + FDS_PER_MESSAGE)];
            retry(|| stream.send_with_fd(&[FDS_BYTE], batch))?;
            *fds_sent += batch.len();
        }
        while self.sent < self.bytes.len() {
            self.sent += retry(|| (&*stream).write(&self.bytes[self.sent..]))?;
        }
        Ok(true)
    }

    /// The same with the fds that are kept here.
    fn push_rest(&mut self, stream: &UnixStream) -> io::Result<bool> {
        let numbers: Vec<RawFd> = self.fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let mut gone = 0;
        let result = self.push(stream, &numbers, &mut gone);
        self.fds.drain(..gone);
        result
    }
}

/// Repeats what a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// What a failed send means.
enum Stuck {
    /// The socket is full: wait until it can be written.
    Full,
    /// Too many fds of this user are in flight (`unix(7)`): nothing tells when that changes.
    Crowded,
    /// The helper is gone; what it said can still be read.
    Closed,
    /// This will not get better.
    Failed(io::Error),
}

fn stuck(error: io::Error) -> Stuck {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Stuck::Full,
        Some(libc::ETOOMANYREFS) => Stuck::Crowded,
        // macOS says so of a message with fds that does not fit into what room there is now, and of too few
        // buffers; nor does it tell when that changes.
        Some(libc::EMSGSIZE | libc::ENOBUFS) if cfg!(target_os = "macos") => Stuck::Crowded,
        Some(libc::EPIPE | libc::ECONNRESET) => Stuck::Closed,
        _ => Stuck::Failed(error),
    }
}

/// The conversation with the helper, until the program is executed.
#[derive(Debug)]
pub struct Handshake {
    stream: AsyncFd<UnixStream>,
    /// `None`: all is sent.
    outbox: Option<Outbox>,
    /// Our own duplicates of fds that are sent, until the helper has them: macOS can lose an fd that its sender
    /// closes before it is received.
    sent: Vec<OwnedFd>,
    heard: Vec<u8>,
}

/// A helper says two lines at most.
const HEARD_BYTES_MAX: usize = 64 << 10;
/// How long to wait where too many fds are in flight.
const CROWDED: Duration = Duration::from_millis(20);

impl Handshake {
    fn begin(stream: UnixStream, bytes: Vec<u8>, fds: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<Self> {
        let mut outbox = Outbox { bytes, sent: 0, fds: Vec::new() };
        let numbers: Vec<RawFd> = fds.iter().map(|(fd, _)| fd.as_raw_fd()).collect();
        let sent: &[_] = if cfg!(target_os = "macos") { fds } else { &[] };
        let sent = sent.iter().map(|(fd, _)| fd.try_clone_to_owned()).collect::<io::Result<_>>()?;
        let mut gone = 0;
        let outbox = match outbox.push(&stream, &numbers, &mut gone).map_err(stuck) {
            Ok(_) | Err(Stuck::Closed) => None,
            Err(Stuck::Failed(error)) => return Err(error),
            Err(Stuck::Full | Stuck::Crowded) => {
                let rest = fds[gone..].iter().map(|(fd, _)| fd.try_clone_to_owned().map(Shared::new));
                outbox.fds = rest.collect::<io::Result<_>>()?;
                Some(outbox)
            }
        };
        // SAFETY: a UnixStream keeps its fd, open and under one number, until it is dropped.
        let stream = unsafe { AsyncFd::register(stream) }?;
        Ok(Self { stream, outbox, sent, heard: Vec::new() })
    }

    /// Waits until the program is executed, or until a step of the start has failed. Dropping the future
    /// loses nothing; dropping the handshake before the order is sent makes the helper end.
    ///
    /// # Errors
    /// The stage that failed. The process ends by itself then, and still wants to be reaped.
    pub async fn finished(&mut self) -> Result<(), StartFault> {
        self.send().await.map_err(|error| StartFault::new("helper", "order", &error))?;
        loop {
            let mut ready =
                self.stream.readable().await.map_err(|error| StartFault::new("helper", "report", &error))?;
            let heard = &mut self.heard;
            match ready.try_io(|stream| hear(stream.get_ref(), heard)) {
                Err(_would_block) => {}
                Ok(Ok(())) => {
                    self.sent.clear();
                    return verdict(&self.heard);
                }
                Ok(Err(error)) => return Err(StartFault::new("helper", "report", &error)),
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        while let Some(outbox) = &mut self.outbox {
            let pushed = self.stream.async_io(Interest::WRITABLE, |stream| outbox.push_rest(stream)).await;
            match pushed.map_err(stuck) {
                Ok(_) | Err(Stuck::Closed) => self.outbox = None,
                Err(Stuck::Crowded) => tokio::time::sleep(CROWDED).await,
                Err(Stuck::Full) => {}
                Err(Stuck::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Handshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

/// Reads until the other end is closed.
fn hear(mut stream: &UnixStream, heard: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match retry(|| stream.read(&mut buffer)) {
            // A helper that ends without having read all that we sent resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
            Ok(0) => return Ok(()),
            Ok(length) => heard.extend(&buffer[..length]),
        }
        if heard.len() > HEARD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// What the helper's lines mean, now that there are no more.
fn verdict(heard: &[u8]) -> Result<(), StartFault> {
    let mut executing = false;
    for line in heard.split(|byte| *byte == b'\n') {
        if let Ok(fault) = serde_json::from_slice::<StartFault>(line) {
            return Err(fault);
        }
        executing |= serde_json::from_slice::<&str>(line).is_ok_and(|word| word == EXECUTING);
    }
    if executing {
        return Ok(());
    }
    let reason = "the exec helper ended before it executed the program".into();
    Err(StartFault { stage: "helper".into(), errno: None, reason })
}

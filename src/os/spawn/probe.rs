//! Asking a program whether it is an exec helper, before anything depends on that.
//!
//! A program that embeds the supervisor and does not call [`helper_main`](super::helper_main) would, started as the helper of
//! each worker, run itself again and again. So it is started once as a helper and asked; what does not answer in time is killed
//! with its process group.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::parent::Helper;
use super::spec::{HELPER_ARGUMENT, PROBE_VARIABLE, Probe, ProbeAnswer, VERSION, header};
use crate::os::process::Pidfd;
use crate::os::words;

/// An answer is one short object.
const ANSWER_MAX: u64 = 4096;

/// Why a program cannot be the exec helper.
#[derive(Debug, thiserror::Error)]
pub enum NoHelper {
    /// It cannot be started, or asked.
    #[error("{path}: {}", words(.source))]
    System {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ran, and did not answer as one.
    #[error("{0}: it is no exec helper: started as one, it ended without an answer")]
    Silent(PathBuf),
    /// It runs on.
    #[error("{path}: it is no exec helper: started as one, it did not answer within {} s", .within.as_secs())]
    Late {
        /// The program.
        path: PathBuf,
        /// How long was waited.
        within: Duration,
    },
    /// It is one of another version.
    #[error("{path}: an exec helper of version {theirs}, and this program has {VERSION}")]
    Version {
        /// The program.
        path: PathBuf,
        /// Its version.
        theirs: String,
    },
}

/// Asks a program whether it is an exec helper of our version. At most for `within`; nothing is left running.
///
/// Within a tokio runtime with I/O and time.
///
/// # Errors
/// [`NoHelper`]
pub async fn probe(helper: &Helper, within: Duration) -> Result<(), NoHelper> {
    let path = || helper.path().to_owned();
    let system = |source| NoHelper::System { path: path(), source };
    let (ours, theirs) = UnixStream::pair().map_err(system)?;
    ours.set_nonblocking(true).map_err(system)?;
    let ours = tokio::net::UnixStream::from_std(ours).map_err(system)?;
    let pidfd = start(helper, theirs).map_err(system)?;
    let answer = tokio::time::timeout(within, ask(ours)).await;
    // One that has answered ends by itself, or is of no use any more.
    let _ = pidfd.signal_group(libc::SIGKILL);
    let _ = pidfd.exited().await;
    let _ = pidfd.reap();
    match answer {
        Err(_) => Err(NoHelper::Late { path: path(), within }),
        Ok(Err(error)) => Err(system(error)),
        Ok(Ok(heard)) => match serde_json::from_slice::<ProbeAnswer>(&heard) {
            Ok(ProbeAnswer { helper }) if helper == VERSION => Ok(()),
            Ok(ProbeAnswer { helper }) => Err(NoHelper::Version { path: path(), theirs: helper }),
            Err(_) => Err(NoHelper::Silent(path())),
        },
    }
}

fn start(helper: &Helper, theirs: UnixStream) -> io::Result<Pidfd> {
    let mut child = Command::new(helper.path())
        .arg0("handover")
        .arg(HELPER_ARGUMENT)
        .env(PROBE_VARIABLE, "1")
        .process_group(0)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Pidfd::open(child.id()).inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })
}

async fn ask(mut socket: tokio::net::UnixStream) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(&Probe { version: VERSION, probe: true })?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let question = [header(length, 0).as_slice(), &body].concat();
    let mut heard = Vec::new();
    // A program that is none may be gone before it has read that.
    let gone = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    };
    socket.write_all(&question).await.or_else(|error| if gone(&error) { Ok(()) } else { Err(error) })?;
    match (&mut socket).take(ANSWER_MAX).read_to_end(&mut heard).await {
        Ok(_) => Ok(heard),
        Err(error) if gone(&error) => Ok(heard),
        Err(error) => Err(error),
    }
}

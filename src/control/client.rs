//! The client side: what the command line uses.
//!
//! Each step up to the first line of the answer has a deadline of [`ANSWER_TIME`]; after that the daemon works, and how
//! long a client waits for that is the caller's to decide.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::answer::{Line, Refusal};
use super::document::{StatusDocument, VERSION};
use super::protocol::{JSON, Request};
use crate::os::process::Pidfd;
use crate::os::{peer, words};

/// The time in which a daemon must take a connection, and then a request.
pub const ANSWER_TIME: Duration = Duration::from_secs(15);
/// The longest answer that is read, in bytes: one thousand workers with all their output, and more.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// The longest line of an answer, in bytes.
const LINE_MAX: usize = 1024 * 1024;
/// The pause before another try to connect to a daemon that has no room for it.
const RETRY: Duration = Duration::from_millis(50);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens at this path.
    #[error("{path}: no daemon answers here: {}\nhint: `handover run` starts one; without --name, --config and --socket the only one that runs is found", words(.source))]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody listens, and we may not talk to it.
    #[error("{path}: {}\nhint: only root, the daemon's own user and its control_group may connect", words(.source))]
    Closed {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not answer in time.
    #[error("{path}: the daemon does not answer")]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// The connection ended before the answer did.
    #[error("{path}: the connection ended before the answer did: {reason}")]
    Lost {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// It refused the request itself.
    #[error("{reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the daemon said.
        reason: String,
    },
    /// What came is not what this version understands.
    #[error("{path}: {reason}")]
    Unintelligible {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A connection to a daemon, good for one request.
pub struct Client {
    path: PathBuf,
    pid: Option<u32>,
    process: io::Result<Pidfd>,
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Driver,
}

/// The task that moves the bytes; ends with its owner.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Connects to the socket at `path`. Needs a tokio runtime with net and time.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoDaemon`], [`ClientError::Closed`] or [`ClientError::Silent`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let connected = timeout(ANSWER_TIME, connect(path)).await;
        let stream = connected.map_err(|_| ClientError::Silent { path: path.into() })?.map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::PermissionDenied => ClientError::Closed { path, source },
                _ => ClientError::NoDaemon { path, source },
            }
        })?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
        let process = peer::process(&stream);
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(path, &error))?;
        // How the connection ended shows in the answer.
        let connection = Driver(tokio::spawn(async move { drop(connection.await) }));
        Ok(Self { path: path.to_owned(), pid: pid.filter(|pid| *pid > 0), process, sender, connection })
    }

    /// The daemon's process, where it has a number here.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The daemon's process, to wait for its end.
    ///
    /// # Errors
    ///
    /// See [`peer::process`].
    pub fn process(&mut self) -> io::Result<Pidfd> {
        std::mem::replace(&mut self.process, Err(io::ErrorKind::NotFound.into()))
    }

    /// Asks for the status document, as the daemon wrote it and as this version reads it.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn status(self) -> Result<(String, StatusDocument), ClientError> {
        let path = self.path.clone();
        let mut answer = self.send(&Request::Status).await?;
        let text = timeout(ANSWER_TIME, answer.whole()).await;
        let text = text.map_err(|_| ClientError::Silent { path: path.clone() })??;
        let wrong = |reason| ClientError::Unintelligible { path: path.clone(), reason };
        let mark: Versioned =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("status document: {error}")))?;
        if mark.version != VERSION {
            return Err(wrong(format!("status document of version {}, not {VERSION}", mark.version)));
        }
        let document =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("status document: {error}")))?;
        Ok((String::from_utf8_lossy(&text).into_owned(), document))
    }

    /// Sends a request; the answer may still be under way.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also where the daemon refuses the request with a status of 400 or above.
    pub async fn send(mut self, request: &Request) -> Result<Answer, ClientError> {
        let route = request.route();
        let message = hyper::Request::builder()
            .method(route.method)
            .uri(route.path)
            .header(HOST, "handover")
            .header(CONTENT_TYPE, JSON)
            .body(Full::new(Bytes::from(request.body())))
            .map_err(|error| lost(&self.path, &error))?;
        let response = timeout(ANSWER_TIME, self.sender.send_request(message)).await;
        let response = response
            .map_err(|_| ClientError::Silent { path: self.path.clone() })?
            .map_err(|error| lost(&self.path, &error))?;
        let status = response.status();
        let mut answer =
            Answer { path: self.path, response, buffer: Vec::new(), _connection: self.connection };
        if status == StatusCode::OK { Ok(answer) } else { Err(answer.refused(status).await) }
    }
}

/// An answer under way.
pub struct Answer {
    path: PathBuf,
    response: Response<Incoming>,
    buffer: Vec<u8>,
    _connection: Driver,
}

impl Answer {
    /// The next line of an answer to long work, as it came and as this version reads it; `None` at the end. Lines of
    /// a type that this version does not know are skipped, and so are events that it does not know.
    ///
    /// # Errors
    ///
    /// [`ClientError::Lost`], [`ClientError::Unintelligible`]
    pub async fn next(&mut self) -> Result<Option<(String, Line)>, ClientError> {
        while let Some(text) = self.next_text().await? {
            if let Some(line) = self.read(&text)? {
                return Ok(Some((text, line)));
            }
        }
        Ok(None)
    }

    /// The next line, as it came, without its newline; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ClientError::Lost`], [`ClientError::Unintelligible`]
    pub async fn next_text(&mut self) -> Result<Option<String>, ClientError> {
        let mut seen = 0;
        loop {
            if let Some(end) = self.buffer[seen..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=seen + end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            seen = self.buffer.len();
            if seen > LINE_MAX {
                return Err(self.unintelligible(format!("a line of more than {LINE_MAX} bytes")));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    fn read(&self, line: &str) -> Result<Option<Line>, ClientError> {
        let wrong = |error| self.unintelligible(format!("answer: {error}"));
        let mark: Typed = serde_json::from_str(line).map_err(wrong)?;
        match &*mark.kind {
            "progress" => Ok(serde_json::from_str(line).ok()),
            "result" => serde_json::from_str(line).map(Some).map_err(wrong),
            _ => Ok(None),
        }
    }

    /// Takes what comes next into the buffer; `false` at the end.
    async fn more(&mut self) -> Result<bool, ClientError> {
        let body = self.response.body_mut();
        if body.is_end_stream() {
            return Ok(false);
        }
        match body.frame().await {
            None => Ok(false),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(true)
            }
            Some(Err(error)) => Err(lost(&self.path, &error)),
        }
    }

    async fn whole(&mut self) -> Result<Vec<u8>, ClientError> {
        while self.more().await? {
            if self.buffer.len() > ANSWER_MAX {
                return Err(self.unintelligible(format!("an answer of more than {ANSWER_MAX} bytes")));
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn refused(&mut self, status: StatusCode) -> ClientError {
        let text = timeout(ANSWER_TIME, self.whole()).await;
        let refusal = text.ok().and_then(Result::ok).and_then(|text| {
            let refusal: Refusal = serde_json::from_slice(&text).ok()?;
            Some(refusal.error)
        });
        ClientError::Refused {
            status: status.as_u16(),
            reason: refusal.unwrap_or_else(|| status.to_string()),
        }
    }

    fn unintelligible(&self, reason: String) -> ClientError {
        ClientError::Unintelligible { path: self.path.clone(), reason }
    }
}

/// What is looked at before the rest of a document.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// What is looked at before the rest of a line.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

/// Connects; while the daemon has no room for another connection, tries again.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
            result => return result,
        }
    }
}

fn lost(path: &Path, error: &dyn std::error::Error) -> ClientError {
    ClientError::Lost { path: path.to_owned(), reason: error.to_string() }
}

//! The server side: HTTP on the control socket, each request handed to the daemon.
//!
//! Runs as tasks of the daemon's `LocalSet`, and trusts no client: there may be [`CONNECTIONS_MAX`] connections
//! at a time (fewer for clients that may only look, so that they cannot lock the operator out), each carries one
//! request, a request must be there within [`REQUEST_TIME`], and who does not read its answer is cut off. The
//! daemon never waits for a client: [`Reply`] only queues.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt::PeerCredentials};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::access::{Access, Peer};
use super::answer::{Finish, Line, Progress, Refusal};
use super::document::StatusDocument;
use super::protocol::{JSON, JSON_LINES, Level, ROUTES, Request, Route};

/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections at a time of clients that may not change anything.
pub const READERS_MAX: usize = 128;
/// The time in which a request must have come, head and body each; the time in which the daemon must answer
/// what is not long work; and the time in which a client must take the end of its answer.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// Lines of an answer that may wait for a client to read; one place is kept for the result.
const LINES_MAX: usize = 256;
/// The pause after a failed `accept`: for want of fds, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The groups of the other end of a connection (`SO_PEERGROUPS`), the primary one not necessarily among them.
pub type PeerGroups = fn(BorrowedFd<'_>) -> io::Result<Vec<u32>>;

/// A request for the daemon.
#[derive(Debug)]
pub struct Call {
    /// What the client may do; enough for the request.
    pub level: Level,
    /// What it wants.
    pub request: Request,
    /// How to answer. Dropped without an answer, the client is told that the daemon gave none.
    pub reply: Reply,
}

/// The way back to a client. Nothing here waits.
#[derive(Debug)]
pub struct Reply {
    level: Level,
    parts: mpsc::Sender<Part>,
    patience: Arc<watch::Sender<Patience>>,
}

#[derive(Debug)]
enum Part {
    Whole(StatusCode, Vec<u8>),
    Line(Vec<u8>),
}

/// How long a connection may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// As long as the work takes.
    Endless,
    /// For this long from now.
    For(Duration),
}

impl Reply {
    /// Answers a status request; without output of workers where the client may only look.
    pub fn status(self, document: &StatusDocument) {
        let json = match self.level {
            Level::Admin => serde_json::to_vec(document),
            Level::Read => serde_json::to_vec(&document.clone().without_output()),
        };
        let part = match json {
            Ok(json) => Part::Whole(StatusCode::OK, json),
            Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let _ = self.parts.try_send(part);
    }

    /// Says how the work goes on; `false` if the client is gone. One line more than there is room for is left
    /// out: much can happen before the client is given a turn, and the result has a place of its own. A client
    /// that makes no room for [`REQUEST_TIME`] is cut off. The work itself goes on.
    pub fn progress(&self, progress: Progress) -> bool {
        let has_room = self.parts.capacity() > 1;
        if has_room {
            let _ = self.parts.try_send(Part::Line(line(&Line::Progress(progress))));
        }
        let wanted = if has_room { Patience::Endless } else { Patience::For(REQUEST_TIME) };
        self.patience.send_if_modified(|patience| std::mem::replace(patience, wanted) != wanted);
        !self.parts.is_closed()
    }

    /// Says how the work ended.
    pub fn finish(self, finish: Finish) {
        let _ = self.parts.try_send(Part::Line(line(&Line::Result(finish))));
    }

    /// The client is gone.
    pub fn is_gone(&self) -> bool {
        self.parts.is_closed()
    }

    /// A way to wait until the client has the answer; to be taken before [`finish`](Self::finish).
    pub fn delivery(&self) -> Delivery {
        Delivery(Arc::clone(&self.patience))
    }
}

/// See [`Reply::delivery`].
#[derive(Debug)]
pub struct Delivery(Arc<watch::Sender<Patience>>);

impl Delivery {
    /// Returns when the kernel has all of the answer, or the client is gone or has used up its time. For the end
    /// of the daemon, which must not cut off the answer to `stop`.
    pub async fn done(self) {
        self.0.closed().await;
    }
}

impl Drop for Reply {
    /// The last word is said: now the client has a limited time to take it.
    fn drop(&mut self) {
        self.patience.send_if_modified(|patience| {
            let endless = *patience == Patience::Endless;
            *patience = if endless { Patience::For(REQUEST_TIME) } else { *patience };
            endless
        });
    }
}

fn line(line: &Line) -> Vec<u8> {
    let mut json = serde_json::to_vec(line).expect("plain structs with text keys are always JSON");
    json.push(b'\n');
    json
}

fn refusal(status: StatusCode, error: &str) -> Part {
    let refusal = Refusal { error: error.to_owned() };
    Part::Whole(status, serde_json::to_vec(&refusal).expect("a struct of one text is always JSON"))
}

/// Counts connections; see [`serve`].
#[derive(Debug, Default)]
pub struct Traffic {
    open: Cell<usize>,
    readers: Cell<usize>,
    refused: Cell<u64>,
}

impl Traffic {
    /// Connections that were refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn enter(self: &Rc<Self>, level: Option<Level>) -> Option<Presence> {
        let reader = level != Some(Level::Admin);
        if self.open.get() >= CONNECTIONS_MAX || (reader && self.readers.get() >= READERS_MAX) {
            self.refused.set(self.refused.get() + 1);
            return None;
        }
        self.open.set(self.open.get() + 1);
        self.readers.set(self.readers.get() + usize::from(reader));
        Some(Presence { traffic: Rc::clone(self), reader })
    }
}

struct Presence {
    traffic: Rc<Traffic>,
    reader: bool,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.traffic.open.set(self.traffic.open.get() - 1);
        self.traffic.readers.set(self.traffic.readers.get() - usize::from(self.reader));
    }
}

/// Serves the control socket for ever; must run in a `LocalSet`. Dropping the future ends accepting; what is
/// being answered goes on.
///
/// The caller has bound the listener, with mode 0600, or 0660 and the group of `access`.
pub async fn serve(
    listener: UnixListener,
    access: Access,
    groups: PeerGroups,
    calls: mpsc::Sender<Call>,
    traffic: Rc<Traffic>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let level = peer(&stream, access, groups).and_then(|peer| access.level(&peer));
        match traffic.enter(level) {
            Some(presence) => {
                let calls = calls.clone();
                tokio::task::spawn_local(async move {
                    connection(stream, level, calls).await;
                    drop(presence);
                });
            }
            None => turn_away(&stream),
        }
    }
}

/// Who is at the other end; `None` if the kernel does not say, which is nobody.
fn peer(stream: &UnixStream, access: Access, groups: PeerGroups) -> Option<Peer> {
    let credentials = getsockopt(stream, PeerCredentials).ok()?;
    let mut peer = Peer { uid: credentials.uid(), groups: vec![credentials.gid()] };
    if access.group.is_some() {
        peer.groups.extend(groups(stream.as_fd()).unwrap_or_default());
    }
    Some(peer)
}

/// Says why, if that can be said without waiting.
fn turn_away(stream: &UnixStream) {
    const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
        connection: close\r\ncontent-length: 32\r\n\r\n{\"error\":\"too many connections\"}";
    // A new connection has room for it; the runtime may not know yet, so the kernel is asked.
    let _ = send(stream.as_raw_fd(), TOO_MANY, MsgFlags::MSG_DONTWAIT);
}

async fn connection(stream: UnixStream, level: Option<Level>, calls: mpsc::Sender<Call>) {
    // Head, body and the daemon's answer each have their time; this bounds them and the delivery together.
    let (patience, mut limit) = watch::channel(Patience::For(REQUEST_TIME * 4));
    let patience = Arc::new(patience);
    let service = service_fn(|request| {
        let (calls, patience) = (calls.clone(), Arc::clone(&patience));
        async move { Ok::<_, Infallible>(answer(request, level, calls, patience).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error is the client's: it went away, or sent what is not HTTP and has been told so.
        _ = connection => {}
        () = out_of_patience(&mut limit) => {}
    }
}

/// Returns when a client has used up its time.
async fn out_of_patience(limit: &mut watch::Receiver<Patience>) {
    loop {
        let patience = *limit.borrow_and_update();
        let changed = async {
            if limit.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match patience {
            Patience::Endless => changed.await,
            Patience::For(time) => tokio::select! {
                () = sleep(time) => return,
                () = changed => {}
            },
        }
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    level: Option<Level>,
    calls: mpsc::Sender<Call>,
    patience: Arc<watch::Sender<Patience>>,
) -> Response<Answer> {
    let (route, request) = match understand(request, level).await {
        Ok(understood) => understood,
        Err(refused) => return refused.response(),
    };
    let level = level.unwrap_or(Level::Read);
    let (parts, mut received) = mpsc::channel(LINES_MAX);
    if route.streams {
        patience.send_replace(Patience::Endless);
    }
    let reply = Reply { level, parts, patience };
    match timeout(REQUEST_TIME, calls.send(Call { level, request, reply })).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            return Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending").response();
        }
        Err(_) => return Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy").response(),
    }
    if route.streams {
        return response(StatusCode::OK, JSON_LINES, Answer::Lines(received));
    }
    match timeout(REQUEST_TIME, received.recv()).await {
        Ok(Some(Part::Whole(status, json))) => response(status, JSON, Answer::whole(json)),
        Ok(_) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the daemon gave no answer").response(),
        Err(_) => Refused::new(StatusCode::GATEWAY_TIMEOUT, "the daemon did not answer in time").response(),
    }
}

/// A request that does not reach the daemon.
struct Refused {
    status: StatusCode,
    error: String,
    allow: Option<&'static str>,
}

impl Refused {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), allow: None }
    }

    fn response(&self) -> Response<Answer> {
        let Part::Whole(status, json) = refusal(self.status, &self.error) else {
            return Response::new(Answer::whole(Vec::new()));
        };
        let mut response = response(status, JSON, Answer::whole(json));
        if let Some(method) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
        }
        response
    }
}

/// Finds the route, checks the level, reads the body.
async fn understand(
    request: hyper::Request<Incoming>,
    level: Option<Level>,
) -> Result<(&'static Route, Request), Refused> {
    let path = request.uri().path();
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        return Err(Refused::new(StatusCode::NOT_FOUND, "there is nothing at this path"));
    };
    if level.is_none_or(|level| level < route.level) {
        return Err(Refused::new(StatusCode::FORBIDDEN, "not permitted for your user"));
    }
    if request.method() != route.method {
        let error = format!("this path takes {}", route.method);
        return Err(Refused {
            allow: Some(route.method),
            ..Refused::new(StatusCode::METHOD_NOT_ALLOWED, error)
        });
    }
    let body = timeout(REQUEST_TIME, Limited::new(request.into_body(), route.body_max).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let error = format!("a body of more than {} bytes", route.body_max);
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        Ok(Err(error)) => return Err(Refused::new(StatusCode::BAD_REQUEST, format!("body: {error}"))),
        Err(_) => return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    let request =
        route.read(&body).map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok((route, request))
}

fn response(status: StatusCode, media_type: &'static str, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The body of an answer.
enum Answer {
    Whole(Option<Bytes>),
    Lines(mpsc::Receiver<Part>),
}

impl Answer {
    fn whole(json: Vec<u8>) -> Self {
        Self::Whole(Some(json.into()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Lines(received) => received.poll_recv(context).map(|part| match part {
                Some(Part::Line(line) | Part::Whole(_, line)) => Some(Ok(Frame::data(line.into()))),
                None => None,
            }),
        }
    }
}

#[cfg(test)]
mod tests;

//! The server side: HTTP on the control socket, each request handed to the daemon.
//!
//! Runs as tasks of the daemon's `LocalSet`, and trusts no client: there may be [`CONNECTIONS_MAX`] connections
//! at a time (fewer for clients that may only look, and for event streams: see `traffic`), each carries one
//! request, a request must be there within [`REQUEST_TIME`], and who does not read its answer is cut off. The
//! daemon never waits for a client: [`Reply`] only queues. A request whose client left before the daemon took it is not carried
//! out ([`Reply::has_left`]): a daemon that was stopped would do hours later what nobody waits for any more.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{MsgFlags, send};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

mod local;
mod plain;
mod reply;
mod traffic;

pub use local::{Answered, ask};
pub use reply::{BACKLOG_MAX, BEHIND_TIME, Delivery, Reply, Telling};
pub use traffic::{CONNECTIONS_MAX, READER_STREAMS_MAX, READERS_MAX, STREAMS_MAX, Traffic};

use plain::Plain;
use reply::{Answer, Part, Patience, Way, out_of_patience, refusal};

use super::access::{Access, Peer};
use super::protocol::{JSON, JSON_LINES, Level, ROUTES, Request, Route};
use crate::os::foreign::Guarded;
use crate::os::peer;

/// The time in which a request must have come, head and body each; the time in which the daemon must answer
/// what is not long work; and the time in which a client must take the end of its answer.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;
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

/// Serves the control socket for ever; must run in a `LocalSet`. Dropping the future ends accepting; what is
/// being answered goes on.
///
/// Each request goes into `calls`, as whatever its reader takes. The caller has bound the listener, with mode 0600, or 0660 and the group of `access`.
pub async fn serve<C: From<Call> + 'static>(
    listener: UnixListener,
    access: Access,
    groups: PeerGroups,
    calls: mpsc::Sender<C>,
    traffic: Rc<Traffic>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let level = client(&stream, access, groups).and_then(|peer| access.level(&peer));
        match traffic.enter(level) {
            Some(presence) => {
                let (calls, traffic) = (calls.clone(), traffic.clone());
                tokio::task::spawn_local(async move {
                    connection(stream, level, calls, traffic).await;
                    drop(presence);
                });
            }
            None => {
                turn_away(&stream);
                drop(Plain::new(stream));
            }
        }
    }
}

/// Who is at the other end; `None` if the kernel does not say, which is nobody.
fn client(stream: &UnixStream, access: Access, groups: PeerGroups) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
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

async fn connection<C: From<Call>>(
    stream: UnixStream,
    level: Option<Level>,
    calls: mpsc::Sender<C>,
    traffic: Rc<Traffic>,
) {
    // One more handle on the socket: to be told when the client leaves, and to look before something is begun.
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return turn_away(&stream) };
    let socket = Arc::new(Guarded::new(socket));
    let (patience, mut limit) = watch::channel(Patience::Request);
    let patience = Arc::new(patience);
    let service = service_fn(|request| {
        let way = Way { patience: Arc::clone(&patience), socket: Some(Arc::downgrade(&socket)) };
        let (calls, traffic) = (calls.clone(), traffic.clone());
        async move { Ok::<_, Infallible>(answer(request, level, calls, traffic, way).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        // Who has said all it wants (`nc -N`) may still read.
        .half_close(cfg!(target_os = "linux"))
        .serve_connection(TokioIo::new(Plain::new(stream)), service);
    tokio::select! {
        // An error is the client's: it went away, or sent what is not HTTP and has been told so.
        _ = connection => {}
        () = out_of_patience(&mut limit) => {}
        Ok(()) = peer::leaves(socket.clone()) => {}
    }
}

async fn answer<C: From<Call>>(
    request: hyper::Request<Incoming>,
    level: Option<Level>,
    calls: mpsc::Sender<C>,
    traffic: Rc<Traffic>,
    way: Way,
) -> Response<Answer> {
    let unavailable = |error: &str| Refused::new(StatusCode::SERVICE_UNAVAILABLE, error).response();
    let (route, request) = match understand(request, level).await {
        Ok(understood) => understood,
        Err(refused) => return refused.response(),
    };
    let level = level.unwrap_or(Level::Read);
    let presence = match request {
        Request::Events => match traffic.listen(level) {
            Some(presence) => Some(presence),
            None => return unavailable("too many event streams"),
        },
        _ => None,
    };
    if route.streams {
        way.patience.send_replace(Patience::Endless);
    }
    let (reply, mut received) = Reply::new(&request, level, way);
    match timeout(REQUEST_TIME, calls.send(Call { level, request, reply }.into())).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return unavailable("the daemon is ending"),
        Err(_) => return unavailable("the daemon is busy"),
    }
    if route.streams {
        return response(
            StatusCode::OK,
            JSON_LINES,
            Answer::Lines { received: Box::new(received), _place: presence },
        );
    }
    match timeout(REQUEST_TIME, received.whole()).await {
        Ok(Some((status, json))) => response(status, JSON, Answer::whole(json)),
        Ok(None) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the daemon gave no answer").response(),
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

#[cfg(test)]
mod tests;

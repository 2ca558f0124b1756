//! The way back to a client: what the daemon puts in at one end, and the body of the answer at the other.
//!
//! Nothing here waits, and nothing grows: what a client has not read yet is bounded by [`BACKLOG_MAX`]. One that is
//! behind misses events, is told how many as soon as it has read what there was, and goes on from there; one that
//! reads nothing for [`BEHIND_TIME`] is cut off. Time runs only while a client is behind.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::REQUEST_TIME;
use super::traffic::Presence;
use crate::control::answer::{Finish, Line, Progress, Refusal};
use crate::control::document::StatusDocument;
use crate::control::event::{Event, What};
use crate::control::protocol::{Level, Request};
use crate::os::foreign::Guarded;
use crate::os::{clock, peer};
use crate::visible::json_bytes;

/// What may wait for a client to read, in bytes: the events of a stop of a thousand workers, and more.
pub const BACKLOG_MAX: usize = 1024 * 1024;
/// The time in which a client that has missed something must read something.
pub const BEHIND_TIME: Duration = Duration::from_secs(60);
/// What a line takes beside its text.
const LINE_COST: usize = 64;

/// The daemon's end.
#[derive(Debug)]
pub struct Reply {
    level: Level,
    form: Form,
    parts: mpsc::UnboundedSender<Part>,
    backlog: Arc<Backlog>,
    patience: Arc<watch::Sender<Patience>>,
    socket: Option<Weak<Guarded<OwnedFd>>>,
}

/// The connection that an answer goes out on.
pub(super) struct Way {
    pub(super) patience: Arc<watch::Sender<Patience>>,
    /// Ends with the connection. `None`: a client in this process, which may leave when it has said what it wants.
    pub(super) socket: Option<Weak<Guarded<OwnedFd>>>,
}

/// In which form a client gets events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As lines, with what its level may see.
    Stream(Level),
    /// In lines of type `progress`, on the way to a result.
    Progress,
}

#[derive(Debug)]
pub(super) enum Part {
    Whole(StatusCode, Vec<u8>),
    Line(Bytes),
}

/// How long a connection may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the request is there, and the answer has begun.
    Request,
    /// As long as the work takes.
    Endless,
    /// The client is behind, and must read something.
    Behind,
    /// The last word is said, and the client must take it.
    Last,
}

impl Patience {
    pub(super) fn time(self) -> Option<Duration> {
        match self {
            // Head, body and the daemon's answer each have their time; this bounds them and the delivery together.
            Self::Request => Some(REQUEST_TIME * 4),
            Self::Endless => None,
            Self::Behind => Some(BEHIND_TIME),
            Self::Last => Some(REQUEST_TIME),
        }
    }
}

/// What a client has not read yet, and what it has missed.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    lost: AtomicU64,
    last_lost: AtomicU64,
}

impl Backlog {
    /// Takes room for a line; not while there is something that the client must be told it has missed.
    fn enter(&self, length: usize) -> bool {
        let bytes = self.bytes.load(Relaxed);
        let has_room = !self.is_behind() && (bytes == 0 || bytes + length + LINE_COST <= BACKLOG_MAX);
        if has_room {
            self.bytes.store(bytes + length + LINE_COST, Relaxed);
        }
        has_room
    }

    fn leave(&self, length: usize) {
        let bytes = self.bytes.load(Relaxed);
        self.bytes.store(bytes.saturating_sub(length + LINE_COST), Relaxed);
    }

    fn is_behind(&self) -> bool {
        self.lost.load(Relaxed) > 0
    }

    fn lose(&self, number: u64) {
        self.lost.fetch_add(1, Relaxed);
        self.last_lost.store(number, Relaxed);
    }

    /// The line that tells what was missed; from now on nothing is.
    fn confess(&self, form: Form) -> Option<Bytes> {
        let count = self.lost.swap(0, Relaxed);
        let lost = || Event::new(self.last_lost.load(Relaxed), clock::wall_time(), What::Lost { count });
        (count > 0).then(|| Telling::new(&lost()).line(form))
    }
}

/// An event, as it is told: made into text once for all who get it in the same form, and only if somebody does.
#[derive(Debug)]
pub struct Telling<'a> {
    event: &'a Event,
    whole: OnceCell<Bytes>,
    without_output: OnceCell<Bytes>,
    progress: OnceCell<Bytes>,
}

impl<'a> Telling<'a> {
    /// Nothing is made into text yet.
    pub fn new(event: &'a Event) -> Self {
        Self { event, whole: OnceCell::new(), without_output: OnceCell::new(), progress: OnceCell::new() }
    }

    fn line(&self, form: Form) -> Bytes {
        let line = match form {
            Form::Stream(Level::Read) if self.event.what.has_output() => {
                self.without_output.get_or_init(|| line(&self.event.clone().without_output()))
            }
            Form::Stream(_) => self.whole.get_or_init(|| line(self.event)),
            Form::Progress => {
                self.progress.get_or_init(|| line(&Line::Progress(Progress { event: self.event.clone() })))
            }
        };
        line.clone()
    }
}

impl Reply {
    /// Both ends of an answer to `request`, of a client of `level`.
    pub(super) fn new(request: &Request, level: Level, Way { patience, socket }: Way) -> (Self, Received) {
        let form = if *request == Request::Events { Form::Stream(level) } else { Form::Progress };
        let (parts, received) = mpsc::unbounded_channel();
        let backlog = Arc::<Backlog>::default();
        let received = Received {
            form,
            parts: received,
            backlog: Arc::clone(&backlog),
            patience: Arc::clone(&patience),
        };
        (Self { level, form, parts, backlog, patience, socket }, received)
    }

    /// Answers a status request; without output of workers where the client may only look.
    pub fn status(self, document: &StatusDocument) {
        let json = match self.level {
            Level::Admin => serde_json::to_vec(document),
            Level::Read => serde_json::to_vec(&document.clone().without_output()),
        };
        let part = match json {
            Ok(json) => Part::Whole(StatusCode::OK, json_bytes(json)),
            Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let _ = self.parts.send(part);
    }

    /// Tells of an event; `false` if the client is gone. One that is behind misses it; see the module.
    pub fn tell(&self, telling: &Telling<'_>) -> bool {
        if self.is_gone() {
            return false;
        }
        if self.backlog.is_behind() {
            self.backlog.lose(telling.event.number);
            return true;
        }
        let line = telling.line(self.form);
        if self.backlog.enter(line.len()) {
            let _ = self.parts.send(Part::Line(line));
        } else {
            self.backlog.lose(telling.event.number);
            self.patience.send_replace(Patience::Behind);
        }
        true
    }

    /// Tells of the last event, whatever waits already.
    pub fn tell_last(self, telling: &Telling<'_>) {
        self.last_line(telling.line(self.form));
    }

    /// Says how the work ended.
    pub fn finish(self, finish: Finish) {
        self.last_line(line(&Line::Result(finish)));
    }

    fn last_line(&self, line: Bytes) {
        for line in self.backlog.confess(self.form).into_iter().chain([line]) {
            let _ = self.parts.send(Part::Line(line));
        }
    }

    /// The client is gone.
    pub fn is_gone(&self) -> bool {
        self.parts.is_closed()
    }

    /// A client on the socket closed its connection, though nobody may have read that yet: asks the kernel. One that only said
    /// that it has nothing more to say did not.
    pub fn has_left(&self) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.upgrade().is_none_or(|socket| peer::has_left(&**socket)))
    }

    /// The client has missed something, and has not read yet what there was before.
    pub fn is_behind(&self) -> bool {
        self.backlog.is_behind()
    }

    /// A way to wait until the client has the answer; to be taken before [`finish`](Self::finish).
    pub fn delivery(&self) -> Delivery {
        Delivery(Arc::clone(&self.patience))
    }
}

impl Drop for Reply {
    /// The last word is said: now the client has a limited time to take it.
    fn drop(&mut self) {
        self.patience.send_if_modified(|patience| {
            let goes_on = matches!(patience, Patience::Endless | Patience::Behind);
            *patience = if goes_on { Patience::Last } else { *patience };
            goes_on
        });
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

/// The client's end.
#[derive(Debug)]
pub(super) struct Received {
    form: Form,
    parts: mpsc::UnboundedReceiver<Part>,
    backlog: Arc<Backlog>,
    patience: Arc<watch::Sender<Patience>>,
}

impl Received {
    /// The answer that is not long work.
    pub(super) async fn whole(&mut self) -> Option<(StatusCode, Vec<u8>)> {
        match self.parts.recv().await {
            Some(Part::Whole(status, json)) => Some((status, json)),
            _ => None,
        }
    }

    pub(super) fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.parts.poll_recv(context) {
            Poll::Ready(Some(Part::Line(line))) => {
                self.backlog.leave(line.len());
                self.has_read(Patience::Behind);
                Poll::Ready(Some(line))
            }
            Poll::Ready(Some(Part::Whole(_, json))) => Poll::Ready(Some(json.into())),
            Poll::Ready(None) => Poll::Ready(None),
            // The runtime may only want others to have a turn.
            Poll::Pending if !self.parts.is_empty() => Poll::Pending,
            Poll::Pending => {
                let Some(line) = self.backlog.confess(self.form) else { return Poll::Pending };
                self.has_read(Patience::Endless);
                Poll::Ready(Some(line))
            }
        }
    }

    /// A client that is behind has read something.
    fn has_read(&self, patience: Patience) {
        self.patience.send_if_modified(|now| {
            let is_behind = *now == Patience::Behind;
            *now = if is_behind { patience } else { *now };
            is_behind
        });
    }
}

/// The body of an answer.
pub(super) enum Answer {
    Whole(Option<Bytes>),
    /// Its place is kept as long as the answer lasts.
    Lines {
        received: Box<Received>,
        _place: Option<Presence>,
    },
}

impl Answer {
    pub(super) fn whole(json: Vec<u8>) -> Self {
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
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Lines { received, .. } => received.poll_line(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Returns when a client has used up its time.
pub(super) async fn out_of_patience(limit: &mut watch::Receiver<Patience>) {
    loop {
        let patience = *limit.borrow_and_update();
        let changed = async {
            if limit.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match patience.time() {
            None => changed.await,
            Some(time) => tokio::select! {
                () = sleep(time) => return,
                () = changed => {}
            },
        }
    }
}

fn line(line: &impl serde::Serialize) -> Bytes {
    let json = serde_json::to_vec(line).expect("plain structs with text keys are always JSON");
    let mut json = json_bytes(json);
    json.push(b'\n');
    json.into()
}

pub(super) fn refusal(status: StatusCode, error: &str) -> Part {
    let refusal = Refusal { error: error.to_owned() };
    Part::Whole(
        status,
        json_bytes(serde_json::to_vec(&refusal).expect("a struct of one text is always JSON")),
    )
}

//! A chat on axum: one page, and rooms that span all workers.
//!
//! A worker gives what its clients say to the others of its pool, through handover, and each gives it to the clients that it has. When a worker is to end,
//! it tells its clients that it is `moving`. They connect again in their own time and meet another worker, because this one accepts nothing
//! any more; until then it serves them as before. With a long `drain_timeout` a deploy throws nobody out.

mod room;
mod socket;

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::header::{CONTENT_SECURITY_POLICY, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use handover::worker::{Tracker, Worker};
use handover_services::{http, log};
use room::{Post, Rooms};

/// The longest message, and the longest name of a person or a room, in bytes.
const TEXT_MAX: usize = 4_096;
const NAME_MAX: usize = 64;

/// What all connections share.
struct Chat {
    worker: Worker,
    tracker: Tracker,
    rooms: Rooms,
    /// Tells this process from all others that there ever were: it is a part of the ids of what is said here.
    process: u64,
}

fn main() -> ExitCode {
    log::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    // First, while there is one thread: it takes the fds and variables that the process was started with.
    let worker = Worker::options().client("chat 1.0").messages(true).drain_on_signals(true).connect()?;
    log::init(&worker);
    worker.feed_watchdog()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&worker));
    worker.close();
    result
}

async fn serve(worker: &Worker) -> Result<(), Box<dyn Error>> {
    // Where nobody passes it a socket.
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "tcp://127.0.0.1:8080".to_owned());
    let listener = worker.listener("http").or_bind(&address)?.into_async()?;
    let tracker = worker.tracker();
    let process = RandomState::new().build_hasher().finish();
    let chat = Chat { worker: worker.clone(), tracker: tracker.clone(), rooms: Rooms::default(), process };
    let chat = Arc::new(chat);
    tokio::spawn(hear(Arc::clone(&chat)));
    let app = Router::new().route("/", get(page)).route("/rooms/{room}/{name}", get(join)).with_state(chat);
    worker.ready();
    worker.status("nobody is here");
    match http::serve(worker, listener, app, &tracker).await? {
        0 => tracing::info!("finished"),
        cut => tracing::warn!(cut, "connections are cut: the time is up"),
    }
    Ok(())
}

/// Gives what was said at other workers to the clients of this one, as long as it has any: also while it drains.
async fn hear(chat: Arc<Chat>) {
    let messages = chat.worker.messages().while_draining();
    while let Some(message) = messages.received().await {
        match message.to::<Post>() {
            Ok(post) => chat.rooms.tell(post),
            Err(error) => tracing::warn!(%error, from = ?message.from(), "a message is not understood"),
        }
    }
}

async fn page() -> impl IntoResponse {
    // Everything is in the page itself, and nothing that somebody writes becomes a part of it.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html")))
}

async fn join(
    State(chat): State<Arc<Chat>>,
    Path((room, name)): Path<(String, String)>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if [&room, &name].iter().any(|name| name.trim().is_empty() || name.len() > NAME_MAX) {
        return (StatusCode::BAD_REQUEST, "room and name have 1 to 64 bytes\n").into_response();
    }
    if is_of_another_site(&headers) {
        return (StatusCode::FORBIDDEN, "this is no page of ours\n").into_response();
    }
    let upgrade = upgrade.max_message_size(TEXT_MAX).max_frame_size(TEXT_MAX);
    upgrade.on_upgrade(move |socket| socket::serve(chat, socket, room, name))
}

/// A browser says which site a script is from; only ours may open a socket in its user's name.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(origin) = text(ORIGIN) else { return false };
    origin.split_once("://").map(|(_, host)| host) != text(HOST)
}

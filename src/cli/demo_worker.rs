//! The worker that `handover demo` runs: an HTTP server on the socket that it was given.
//!
//! It is what any worker is: it takes `LISTEN_FDS`, says `READY=1`, and on `SIGTERM` takes nothing new, finishes what
//! it has, and ends. It sets nothing on the shared socket; the demo's configuration has made that non-blocking.

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::console;
use crate::exit;

/// The time in which a client must send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Serves until `SIGTERM`.
pub(super) fn serve() -> ExitCode {
    ExitCode::from(console::block_on(async {
        match accept_until_asked_to_end().await {
            Ok(()) => exit::DONE,
            Err(error) => {
                console::complain(format_args!("demo worker: {error}"));
                exit::FAILED
            }
        }
    }))
}

async fn accept_until_asked_to_end() -> io::Result<()> {
    let listener = ListenFd::from_env().take_tcp_listener(0)?;
    let listener = listener.ok_or_else(|| {
        io::Error::other(
            "no socket was passed ($LISTEN_FDS)\nhint: this is for `handover demo`, not for people",
        )
    })?;
    let listener = TcpListener::from_std(listener)?;
    let mut terminate = signal(SignalKind::terminate())?;
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("serving")])?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // An error is of that one connection, or will be seen by the watchers of a full fd table.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(answer(stream));
                }
            }
        }
    }
    drop(listener);
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("finishing")])?;
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn answer(stream: TcpStream) {
    // One request a connection: then a request can never cross the end of an idle connection. An error is the
    // client's, and it knows.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(page))
        .await;
}

async fn page(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "?".to_owned());
    let text = format!(
        "slot {}, generation {}, worker {}, pid {}\n",
        variable("HANDOVER_SLOT"),
        variable("HANDOVER_GENERATION"),
        variable("HANDOVER_WORKER"),
        std::process::id()
    );
    Ok(Response::new(text.into()))
}

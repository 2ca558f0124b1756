//! Serving an axum application so that a rollout loses no request.
//!
//! `axum::serve` with `with_graceful_shutdown` does nearly that, but what it does at a shutdown is hyper's: a connection that was accepted
//! and has not sent a byte yet counts as idle and is closed, and so is a kept-alive one whose next request is on its way. Here
//!
//! - a connection is given to hyper when its first byte is there, so that what was accepted is answered;
//! - while the worker drains, every answer says `Connection: close`, and its client takes the next request elsewhere;
//! - what is still idle after [`GRACE`] is closed;
//! - the rest is waited for until shortly before the stop signal.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header::CONNECTION};
use handover::worker::{AsyncConnection, AsyncListener, Drain, Guard, Tracker, Worker};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::{sleep, timeout};

/// How long an idle connection may still bring a request after draining began.
const GRACE: Duration = Duration::from_millis(500);
/// How long a client may take for the first byte of its first request, and then for the head of each.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what is in hand may take where a signal, and not handover, said that it is time to finish.
const UNTOLD: Duration = Duration::from_secs(30);

/// Serves until draining begins, then finishes. Gives how many connections it has to cut, because the time is up.
///
/// `tracker` counts connections. Whatever outlives its connection (a WebSocket) enters it, too, and is waited for.
///
/// # Errors
/// What ends accepting: see [`AsyncListener::accept`].
pub async fn serve(
    worker: &Worker,
    listener: AsyncListener,
    app: Router,
    tracker: &Tracker,
) -> std::io::Result<usize> {
    while let Some(connection) = listener.accept().await? {
        tokio::spawn(connected(worker.clone(), connection, app.clone(), tracker.enter()));
    }
    // Where the socket is only ours, nobody is to wait in its queue for an answer that never comes.
    drop(listener);
    let drain = worker.drained().await;
    tracing::info!(reason = drain.reason(), connections = tracker.count(), "draining");
    match time_left(worker, &drain) {
        Some(left) => drop(timeout(left.saturating_sub(margin(left) / 2), tracker.finished()).await),
        None => tracker.finished().await,
    }
    Ok(tracker.count())
}

/// How long it is until the stop signal. `None`: as long as it takes, which only handover can say (`drain_timeout = "infinity"`).
pub fn time_left(worker: &Worker, drain: &Drain) -> Option<Duration> {
    drain.time_left().or_else(|| (!worker.is_connected()).then_some(UNTOLD))
}

/// How long before the stop signal what is left says goodbye: a tenth of `left`, at most ten seconds. [`serve`] ends at half of it.
pub fn margin(left: Duration) -> Duration {
    (left / 10).min(Duration::from_secs(10))
}

async fn connected(worker: Worker, connection: AsyncConnection, app: Router, guard: Guard) {
    match connection {
        AsyncConnection::Tcp(stream) => {
            // Answers are written whole; waiting for more only delays them.
            let _ = stream.set_nodelay(true);
            if let Ok(Ok(())) = timeout(PATIENCE, stream.readable()).await {
                answer(&worker, TokioIo::new(stream), app).await;
            }
        }
        AsyncConnection::Unix(stream) => {
            if let Ok(Ok(())) = timeout(PATIENCE, stream.readable()).await {
                answer(&worker, TokioIo::new(stream), app).await;
            }
        }
        _ => {}
    }
    drop(guard);
}

async fn answer<S>(worker: &Worker, stream: TokioIo<S>, app: Router)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = app.call(request);
        async {
            let mut answer = answer.await?;
            if worker.is_draining() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = pin!(server.serve_connection(stream, service).with_upgrades());
    let ended = tokio::select! {
        // In this order: what is there is read before hyper is asked whether the connection is idle.
        biased;
        ended = connection.as_mut() => ended,
        () = idle_time_is_over(worker) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that went away, or that speaks something else.
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn idle_time_is_over(worker: &Worker) {
    worker.drained().await;
    sleep(GRACE).await;
}

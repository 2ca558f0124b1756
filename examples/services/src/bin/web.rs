//! A web service on axum: the prices of a shop, from a file that is read at the start.
//!
//! The same program under handover (`handover run web.toml`), under systemd's socket activation
//! (`systemd-socket-activate -l 8080 web`) and alone (`web`); nothing in here asks which.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{self, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use handover::worker::Worker;
use handover_services::{http, log};
use serde::Serialize;
use tokio::sync::Notify;

/// The longest that `/slow` waits.
const SLOW_MAX: Duration = Duration::from_secs(60);

/// What all requests share.
struct Shop {
    worker: Worker,
    prices: BTreeMap<String, u64>,
    requests: AtomicU64,
    /// Rung by each request, for the status line.
    news: Notify,
}

fn main() -> ExitCode {
    log::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    // First, while there is one thread: it takes the fds and variables that the process was started with.
    let worker = Worker::options().client("web 1.0").drain_on_signals(true).connect()?;
    log::init(&worker);
    worker.feed_watchdog()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&worker));
    // What was logged last is written before the process ends.
    worker.close();
    result
}

async fn serve(worker: &Worker) -> Result<(), Box<dyn Error>> {
    // Where nobody passes it a socket.
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "tcp://127.0.0.1:8080".to_owned());
    let listener = worker.listener("http").or_bind(&address)?.into_async()?;
    // Not ready before it can answer. Where this fails, so does the deploy, and the workers that were there serve on.
    let path = std::env::var("PRICES").unwrap_or_else(|_| "prices.json".to_owned());
    let prices = read_prices(Path::new(&path)).map_err(|error| format!("{path}: {error}"))?;
    tracing::info!(path, prices = prices.len(), "the prices are read");

    let shop = Shop { worker: worker.clone(), prices, requests: AtomicU64::new(0), news: Notify::new() };
    let shop = Arc::new(shop);
    tokio::spawn(tell_status(Arc::clone(&shop)));
    let tracker = worker.tracker();
    worker.ready();
    match http::serve(worker, listener, routes(shop), &tracker).await? {
        0 => tracing::info!("finished"),
        cut => tracing::warn!(cut, "connections are cut: the time is up"),
    }
    Ok(())
}

fn read_prices(path: &Path) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn routes(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/", get(about))
        .route("/prices/{item}", get(price))
        .route("/slow/{ms}", get(slow))
        .route("/health", get(health))
        .layer(middleware::from_fn_with_state(Arc::clone(&shop), count))
        .with_state(shop)
}

async fn count(State(shop): State<Arc<Shop>>, request: extract::Request, next: Next) -> Response {
    shop.requests.fetch_add(1, Ordering::Relaxed);
    shop.news.notify_one();
    next.run(request).await
}

/// Who answers.
async fn about(State(shop): State<Arc<Shop>>) -> String {
    let pid = std::process::id();
    match shop.worker.identity() {
        Some(me) => format!("slot={} generation={} worker={} pid={pid}\n", me.slot, me.generation, me.worker),
        None => format!("alone pid={pid}\n"),
    }
}

#[derive(Serialize)]
struct Price {
    item: String,
    cents: u64,
}

async fn price(
    State(shop): State<Arc<Shop>>,
    extract::Path(item): extract::Path<String>,
) -> Result<Json<Price>, (StatusCode, String)> {
    match shop.prices.get(&item) {
        Some(cents) => Ok(Json(Price { item, cents: *cents })),
        None => Err((StatusCode::NOT_FOUND, format!("{item} is not for sale\n"))),
    }
}

/// Takes its time, to see what becomes of a request that is in hand during a rollout.
async fn slow(State(shop): State<Arc<Shop>>, extract::Path(ms): extract::Path<u64>) -> String {
    tokio::time::sleep(Duration::from_millis(ms).min(SLOW_MAX)).await;
    about(State(shop)).await
}

/// For a load balancer in front: not here any more, while it drains.
async fn health(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    if shop.worker.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// The line in `handover status`: at most once a second, and never while nothing happens.
async fn tell_status(shop: Arc<Shop>) {
    loop {
        let requests = shop.requests.load(Ordering::Relaxed);
        shop.worker.status(&format!("{} prices, {requests} requests", shop.prices.len()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        shop.news.notified().await;
    }
}

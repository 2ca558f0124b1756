//! The client in this process: it asks through the same queue as those on the socket, and reads the same answers.
//!
//! It may do everything. Nobody cuts it off when it reads slowly: it misses events, as others do, and is told how many.

use std::future::poll_fn;
use std::sync::Arc;

use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Call;
use super::reply::{Patience, Received, Reply, Way};
use crate::control::answer::Line;
use crate::control::document::StatusDocument;
use crate::control::event::Event;
use crate::control::protocol::{Level, Request};

/// A request, for the queue, and where its answer comes.
pub fn ask(request: Request) -> (Call, Answered) {
    // Without a receiver nobody waits for the delivery: what is said can be read when the daemon is gone.
    let (patience, _) = watch::channel(Patience::Endless);
    let way = Way { patience: Arc::new(patience), socket: None };
    let (reply, received) = Reply::new(&request, Level::Admin, way);
    (Call { level: Level::Admin, request, reply }, Answered { received })
}

/// An answer. It can be read on any thread, with or without a runtime.
#[derive(Debug)]
pub struct Answered {
    received: Received,
}

impl Answered {
    /// The status document, where that was asked for; `None`: the daemon has ended.
    pub async fn status(mut self) -> Option<StatusDocument> {
        let (_, json) = self.received.whole().await?;
        serde_json::from_slice(&json).ok()
    }

    /// The next line of long work; `None`: there are no more.
    pub async fn line(&mut self) -> Option<Line> {
        self.next().await
    }

    /// The next event; `None`: there are no more.
    pub async fn event(&mut self) -> Option<Event> {
        self.next().await
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let line: Bytes = poll_fn(|context| self.received.poll_line(context)).await?;
        serde_json::from_slice(&line).ok()
    }
}

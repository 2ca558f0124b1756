//! One client: what it says, what it hears, and how it is told to move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use handover::worker::{Drain, Error, ErrorCode, Target, Worker};
use handover_services::http;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Chat;
use super::room::Post;

/// How often a silent client is asked whether it is there; it is given up when it says nothing for as long again.
const PING: Duration = Duration::from_secs(30);
/// How long a client may take to read one message.
const WRITE: Duration = Duration::from_secs(20);
/// What "infinity" is here.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a client is told, as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    /// First: where it is.
    Welcome { worker: &'a str },
    /// Somebody said something.
    Post { id: &'a str, from: &'a str, text: &'a str, via: &'a str },
    /// This worker finishes: connect again soon, and then close this connection.
    Moving,
    /// It was too slow: so many posts were left out.
    Missed { posts: u64 },
    /// What it said reached nobody.
    Refused { text: &'a str, reason: String },
}

/// Why a connection ends. Nothing is to be done about it.
struct Ended;

/// Serves one client until it goes, or the worker's time is up.
pub async fn serve(chat: Arc<Chat>, socket: WebSocket, room: String, name: String) {
    // The worker finishes when the last of these is dropped.
    let _guard = chat.tracker.enter();
    let posts = chat.rooms.enter(&room);
    chat.tell_status();
    let mut client = Client { chat: &chat, socket, room: &room, name };
    let _ = client.talk(posts).await;
    drop(client);
    chat.rooms.leave(&room);
    chat.tell_status();
}

impl Chat {
    /// Which worker this is, for people.
    fn me(&self) -> String {
        match self.worker.identity() {
            Some(me) => format!("slot {}, generation {}, worker {}", me.slot, me.generation, me.worker),
            None => format!("alone, pid {}", std::process::id()),
        }
    }

    fn tell_status(&self) {
        self.worker.status(&match self.rooms.people() {
            0 => "nobody is here".to_owned(),
            1 => "one person is here".to_owned(),
            people => format!("{people} people are here"),
        });
    }

    /// Gives a post to the other workers, and then to the clients of this one: in this order, so that who has heard it can say the next thing at
    /// another worker, and nobody hears that first.
    async fn publish(&self, post: Post) -> Result<(), Error> {
        if let Some(me) = self.worker.identity() {
            match self.worker.deliver(Target::Pool(me.pool.clone()), &post, &[]) {
                Ok(delivery) => match delivery.await {
                    Ok(sent) if sent.refused.is_empty() => {}
                    Ok(sent) => tracing::warn!(refused = ?sent.refused, "not all workers have a message"),
                    // There is no other worker.
                    Err(Error::Refused { error: ErrorCode::Gone, .. }) => {}
                    Err(Error::Lost) => {}
                    Err(error) => return Err(error),
                },
                // handover is gone, and this worker drains: those who are here still talk.
                Err(Error::NotConnected) => {}
                Err(error) => return Err(error),
            }
        }
        self.rooms.tell(post);
        Ok(())
    }
}

struct Client<'a> {
    chat: &'a Chat,
    socket: WebSocket,
    room: &'a str,
    name: String,
}

impl Client<'_> {
    async fn talk(&mut self, mut posts: tokio::sync::broadcast::Receiver<Arc<Post>>) -> Result<(), Ended> {
        let me = self.chat.me();
        self.tell(&Told::Welcome { worker: &me }).await?;
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_heard = true;
        let mut is_moving = false;
        let mut end = std::pin::pin!(sleep(FOR_EVER));
        loop {
            tokio::select! {
                said = self.socket.recv() => {
                    is_heard = true;
                    match said {
                        Some(Ok(Message::Text(text))) => self.say(&text, &me).await?,
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Ended),
                    }
                }
                post = posts.recv() => match post {
                    Ok(post) => {
                        let Post { id, from, text, via, .. } = &*post;
                        self.tell(&Told::Post { id, from, text, via }).await?;
                    }
                    Err(RecvError::Lagged(posts)) => self.tell(&Told::Missed { posts }).await?,
                    Err(RecvError::Closed) => return Err(Ended),
                },
                drain = self.chat.worker.drained(), if !is_moving => {
                    is_moving = true;
                    self.tell(&Told::Moving).await?;
                    end.as_mut().reset(Instant::now() + time_for(&self.chat.worker, &drain));
                }
                _ = pings.tick() => {
                    if !std::mem::take(&mut is_heard) {
                        return Err(Ended);
                    }
                    self.write(Message::Ping(Vec::new().into())).await?;
                }
                () = &mut end => return self.say_goodbye().await,
            }
        }
    }

    async fn say(&mut self, text: &str, me: &str) -> Result<(), Ended> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let post = Post {
            id: format!("{:x}-{number}", self.chat.process),
            room: self.room.to_owned(),
            from: self.name.clone(),
            text: text.to_owned(),
            via: me.to_owned(),
        };
        match self.chat.publish(post).await {
            Ok(()) => Ok(()),
            Err(error) => self.tell(&Told::Refused { text, reason: error.to_string() }).await,
        }
    }

    async fn tell(&mut self, told: &Told<'_>) -> Result<(), Ended> {
        let text = serde_json::to_string(told).map_err(|_| Ended)?;
        self.write(Message::Text(text.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Ended> {
        timeout(WRITE, self.socket.send(message)).await.map_err(|_| Ended)?.map_err(|_| Ended)
    }

    /// The end of the time to move.
    async fn say_goodbye(&mut self) -> Result<(), Ended> {
        let reason = "the time to move is over".into();
        self.write(Message::Close(Some(CloseFrame { code: close_code::RESTART, reason }))).await
    }
}

/// How long a client may stay.
fn time_for(worker: &Worker, drain: &Drain) -> Duration {
    http::time_left(worker, drain).map_or(FOR_EVER, |left| left.saturating_sub(http::margin(left)))
}

//! Rooms: who of this worker's clients hears what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// So many posts may wait for one slow client before it misses some.
const BACKLOG: usize = 256;

/// What somebody said, as it goes to other workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    /// The same wherever it is heard, and no other's: a client that has two connections for a moment shows it once.
    pub id: String,
    pub room: String,
    pub from: String,
    pub text: String,
    /// The worker that it was said to, for people.
    pub via: String,
}

/// The rooms in which somebody is.
#[derive(Default)]
pub struct Rooms(Mutex<BTreeMap<String, broadcast::Sender<Arc<Post>>>>);

impl Rooms {
    /// Enters a room: what is said in it from now on.
    pub fn enter(&self, room: &str) -> broadcast::Receiver<Arc<Post>> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rooms.get(room) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(BACKLOG);
                rooms.insert(room.to_owned(), sender);
                receiver
            }
        }
    }

    /// Gives a post to all in its room.
    pub fn tell(&self, post: Post) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = post.room.clone();
        // An empty room is none.
        if rooms.get(&room).is_some_and(|sender| sender.send(Arc::new(post)).is_err()) {
            rooms.remove(&room);
        }
    }

    /// Forgets a room that everybody has left.
    pub fn leave(&self, room: &str) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.get(room).is_some_and(|sender| sender.receiver_count() == 0) {
            rooms.remove(room);
        }
    }

    /// How many are in any of them.
    pub fn people(&self) -> usize {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.values().map(broadcast::Sender::receiver_count).sum()
    }
}

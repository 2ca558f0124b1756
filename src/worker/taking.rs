//! Connections of a blocking socket that a thread of the runtime takes for an asynchronous listener.
//!
//! Whoever waits for one may give up at any moment, and what the thread has taken meanwhile must not be lost: it goes into a queue
//! from which the next one who accepts is served.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::core::Core;
use crate::os::accept::Acceptor;

/// A connection, and at which of its listener's sockets it was taken.
pub(super) type Taken = (usize, io::Result<OwnedFd>);

/// What is taken, and how many threads take.
#[derive(Debug, Default)]
struct Queue {
    taken: VecDeque<Taken>,
    threads: usize,
}

/// The queue of one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Taking(Arc<Mutex<Queue>>);

impl Taking {
    /// What was taken and not fetched.
    pub(super) fn next(&self) -> Option<Taken> {
        self.lock().taken.pop_front()
    }

    /// Whether there is something to fetch.
    pub(super) fn has_some(&self) -> bool {
        !self.lock().taken.is_empty()
    }

    /// Whether something may still come, or is there.
    pub(super) fn is_under_way(&self) -> bool {
        let queue = self.lock();
        queue.threads > 0 || !queue.taken.is_empty()
    }

    /// Takes a connection at a socket that has one, in a thread of the runtime; may be given up at any time.
    pub(super) async fn take(&self, at: usize, socket: OwnedFd, core: &Arc<Core>) {
        self.lock().threads += 1;
        let (thread, core) = (Thread(self.clone()), Arc::clone(core));
        let take = move || {
            // It may wait for 20 ms where a sibling is quicker, which is nothing for a thread of the runtime.
            let accepted = Acceptor::new().accept(socket.as_fd(), true).transpose();
            thread.0.lock().taken.extend(accepted.map(|accepted| (at, accepted)));
            drop(thread);
            core.tell();
        };
        // A runtime that ends does not run it.
        let _ = tokio::task::spawn_blocking(take).await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread that takes, until it has or will not.
struct Thread(Taking);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
    }
}

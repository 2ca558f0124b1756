//! What all futures of a worker wait with: for a change of the state, and leaving nothing behind when they are dropped.
//!
//! A server has a future for each of its connections that waits for the drain. So each is forgotten with its future, and
//! only what somebody can wait for wakes them.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::{Core, State};

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) core: Arc<Core>,
    /// Its place among those that wait, once it has waited.
    place: Option<u64>,
}

impl Waiting {
    pub(super) const fn new(core: Arc<Core>) -> Self {
        Self { core, place: None }
    }

    /// As [`Core::wait`], for a future.
    pub(super) fn poll<T>(
        &mut self,
        context: &Context<'_>,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.core.lock();
        if let Some(found) = find(&mut state) {
            return Poll::Ready(found);
        }
        let place = *self.place.get_or_insert_with(|| state.next_place());
        let known = state.wakers.get(&place).is_some_and(|waker| waker.will_wake(context.waker()));
        let old = if known { None } else { state.wakers.insert(place, context.waker().clone()) };
        drop(state);
        // It may be the last handle of a task of the program, whose end takes the lock.
        drop(old);
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let old = self.core.lock().wakers.remove(&place);
        drop(old);
    }
}

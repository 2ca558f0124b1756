//! What a thread takes from somewhere while a test goes on, kept in order, to look at and to wait on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{deadline, left};

/// Handles of one gathering: the thread has one, and the test.
pub struct Gathered<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// All so far, and whether that is all.
    items: Mutex<(Vec<T>, bool)>,
    grown: Condvar,
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Gathered<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(Shared { items: Mutex::new((Vec::new(), false)), grown: Condvar::new() }))
    }

    /// One more.
    pub fn push(&self, item: T) {
        self.lock().0.push(item);
        self.0.grown.notify_all();
    }

    /// There will be no more.
    pub fn end(&self) {
        self.lock().1 = true;
        self.0.grown.notify_all();
    }

    /// All so far.
    pub fn all(&self) -> Vec<T> {
        self.lock().0.clone()
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.lock().0.len()
    }

    /// The first from the `from`th on for which `wanted` is true; `None` where none comes in time, or before the end.
    pub fn wait_from(&self, from: usize, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        let deadline = deadline();
        let mut next = from;
        let mut guard = self.lock();
        loop {
            while let Some(item) = guard.0.get(next) {
                if wanted(item) {
                    return Some(item.clone());
                }
                next += 1;
            }
            let is_short = |(items, ended): &mut (Vec<T>, bool)| items.len() <= next && !*ended;
            let waited = self.0.grown.wait_timeout_while(guard, left(deadline), is_short);
            let (again, waited) = waited.expect("no reader panics");
            guard = again;
            if guard.0.len() <= next && (guard.1 || waited.timed_out()) {
                return None;
            }
        }
    }

    /// Waits until there will be no more; false where that is not so in time.
    pub fn wait_for_end(&self) -> bool {
        let deadline = deadline();
        let waited = self.0.grown.wait_timeout_while(self.lock(), left(deadline), |(_, ended)| !*ended);
        waited.expect("no reader panics").0.1
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<T>, bool)> {
        self.0.items.lock().expect("no reader panics")
    }
}

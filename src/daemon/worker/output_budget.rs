//! What all pumps hold together: lines that wait, and pipes that strays hold open. Both are bounded.
//!
//! A stray is a process that has left its worker's process group and still holds its output. It is the service
//! manager's to end (`orphans` in the status document); here only its pipe costs something.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::{oneshot, watch};

use crate::observe::Limiter;
use crate::os::clock;
use crate::time::Monotonic;

/// Bytes that may wait in all pumps before lines of workers that have ended are lost.
pub(in crate::daemon) const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Pipes of workers that are gone, held open by others, that are kept.
pub(in crate::daemon) const STRAYS_MAX: usize = 64;

/// See the module. Clones are the same.
#[derive(Clone, Default)]
pub(in crate::daemon) struct Unwritten(Rc<Shared>);

#[derive(Default)]
struct Shared {
    /// Read, and neither passed on nor lost: what the end of the daemon waits for.
    lines: watch::Sender<usize>,
    bytes: Cell<usize>,
    lost: Cell<u64>,
    /// By age.
    strays: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    strays_ever: Cell<u64>,
    warnings: RefCell<Limiter>,
}

impl Unwritten {
    /// A line waits.
    pub(in crate::daemon) fn keep_line(&self, bytes: usize) {
        self.charge(bytes);
        self.0.lines.send_modify(|count| *count += 1);
    }

    /// A line does not wait any more.
    pub(in crate::daemon) fn release_line(&self, bytes: usize) {
        self.release(bytes);
        self.0.lines.send_modify(|count| *count -= 1);
    }

    /// A line that waited is lost.
    pub(in crate::daemon) fn lose_line(&self, bytes: usize) {
        self.release_line(bytes);
        self.0.lost.set(self.0.lost.get() + 1);
    }

    /// Something else is held.
    pub(in crate::daemon) fn charge(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get() + bytes);
    }

    /// It is not held any more.
    pub(in crate::daemon) fn release(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get() - bytes);
    }

    /// More waits than may.
    pub(in crate::daemon) fn is_too_much(&self) -> bool {
        self.0.bytes.get() > BYTES_MAX
    }

    /// Lines that were lost because too much waited.
    pub(in crate::daemon) fn lost(&self) -> u64 {
        self.0.lost.get()
    }

    /// Returns when no line waits.
    pub(in crate::daemon) async fn written(&self) {
        // The sender lives as long as this borrow.
        let _ = self.0.lines.subscribe().wait_for(|count| *count == 0).await;
    }

    /// One more pipe is held open by a stray; if there are too many, the oldest is given up.
    pub(in crate::daemon) fn keep_stray(&self) -> Stray {
        let (keep, given_up) = oneshot::channel();
        let number = self.0.strays_ever.get();
        self.0.strays_ever.set(number + 1);
        let mut strays = self.0.strays.borrow_mut();
        strays.insert(number, keep);
        if strays.len() > STRAYS_MAX {
            strays.pop_first();
        }
        Stray { number, given_up, unwritten: self.clone() }
    }

    /// Pipes that strays hold open.
    pub(in crate::daemon) fn strays(&self) -> usize {
        self.0.strays.borrow().len()
    }

    /// May a stray's pipe that was given up be logged? With the number of those that were not.
    pub(in crate::daemon) fn may_warn(&self) -> Option<u64> {
        self.0.warnings.borrow_mut().pass(Monotonic::from_origin(clock::monotonic()))
    }

    #[cfg(test)]
    pub(in crate::daemon) fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    #[cfg(test)]
    pub(in crate::daemon) fn strays_ever(&self) -> u64 {
        self.0.strays_ever.get()
    }
}

/// A pipe that is held open by a stray; counted until this is dropped.
pub(in crate::daemon) struct Stray {
    number: u64,
    given_up: oneshot::Receiver<()>,
    unwritten: Unwritten,
}

impl Stray {
    /// Returns when the pipe is to be closed.
    pub(in crate::daemon) async fn given_up(&mut self) {
        // Nothing is ever sent: the sender is dropped.
        let _ = (&mut self.given_up).await;
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        self.unwritten.0.strays.borrow_mut().remove(&self.number);
    }
}

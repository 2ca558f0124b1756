//! How much of what workers sent may be in our hands at once, as bytes and as fds: for each worker, and for all together.
//!
//! What is taken in carries its own receipt, which is given back when it is dropped, wherever that happens. Where too much is
//! out, nothing more is read from a channel: the kernel holds the rest, and its sender waits. Fds that a worker puts away come
//! out of a pot of their own, and are let go of where that is used up: nobody waits for room that nobody may ever make.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::os::foreign::{Foreign, Shared};

/// Fds of one worker in our hands: sent by it, and not acknowledged by their receiver.
const FDS_OF_WORKER: usize = 128;
/// Bytes of one worker in our hands; one line may exceed that.
const BYTES_OF_WORKER: usize = 1024 * 1024;
/// Bytes of all workers.
const BYTES_OF_ALL: usize = 64 * 1024 * 1024;

/// A limit, and how much of it is used.
pub(in crate::daemon) struct Pot {
    fds: Cell<usize>,
    bytes: Cell<usize>,
    fds_max: usize,
    bytes_max: usize,
    freed: Notify,
}

impl Pot {
    fn new(fds_max: usize, bytes_max: usize) -> Rc<Self> {
        Rc::new(Self { fds: Cell::new(0), bytes: Cell::new(0), fds_max, bytes_max, freed: Notify::new() })
    }

    /// What all workers share, where this process may have `open_files` open.
    pub(in crate::daemon) fn of_all(open_files: u64) -> Rc<Self> {
        let fds = usize::try_from(open_files / 4).unwrap_or(usize::MAX);
        Self::new(fds.max(FDS_OF_WORKER), BYTES_OF_ALL)
    }

    /// What all workers may put away together, as fds. There is no least number: our own come first.
    pub(in crate::daemon) fn of_stored(open_files: u64) -> Rc<Self> {
        Self::new(usize::try_from(open_files / 4).unwrap_or(usize::MAX), BYTES_OF_ALL)
    }

    fn is_used_up(&self) -> bool {
        self.fds.get() >= self.fds_max || self.bytes.get() >= self.bytes_max
    }

    fn take(&self, fds: usize, bytes: usize) {
        self.fds.set(self.fds.get() + fds);
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn give_back(&self, fds: usize, bytes: usize) {
        self.fds.set(self.fds.get() - fds);
        self.bytes.set(self.bytes.get() - bytes);
        self.freed.notify_waiters();
    }
}

/// What one worker may have in our hands.
#[derive(Clone)]
pub(in crate::daemon) struct Allowance {
    own: Rc<Pot>,
    all: Rc<Pot>,
}

impl Allowance {
    pub(in crate::daemon) fn new(all: Rc<Pot>) -> Self {
        Self { own: Pot::new(FDS_OF_WORKER, BYTES_OF_WORKER), all }
    }

    /// Nothing more is to be read now.
    pub(in crate::daemon) fn is_used_up(&self) -> bool {
        self.own.is_used_up() || self.all.is_used_up()
    }

    /// Returns when something was given back.
    pub(in crate::daemon) async fn freed(&self) {
        tokio::select! {
            () = self.own.freed.notified() => {}
            () = self.all.freed.notified() => {}
        }
    }

    /// Takes an fd in.
    pub(in crate::daemon) fn carry(&self, fd: Foreign) -> Fd {
        Rc::new(Carried { fd: Owner::Worker(fd), _receipt: Some(self.receipt(1, 0)) })
    }

    /// Takes an fd in if there is room for it; else it is let go of.
    pub(in crate::daemon) fn try_carry(&self, fd: Foreign) -> Option<Fd> {
        (!self.is_used_up()).then(|| self.carry(fd))
    }

    /// Takes so many bytes in.
    pub(in crate::daemon) fn weigh(&self, bytes: usize) -> Receipt {
        self.receipt(0, bytes)
    }

    fn receipt(&self, fds: usize, bytes: usize) -> Receipt {
        self.own.take(fds, bytes);
        self.all.take(fds, bytes);
        Receipt { fds, bytes, of: self.clone() }
    }
}

/// Gives back what was taken when it is dropped.
pub(in crate::daemon) struct Receipt {
    fds: usize,
    bytes: usize,
    of: Allowance,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.of.own.give_back(self.fds, self.bytes);
        self.of.all.give_back(self.fds, self.bytes);
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} fds, {} bytes", self.fds, self.bytes)
    }
}

/// An fd on its way; our copy stays open until its receiver has it. We do not close it ourselves: a worker that got one of our
/// own sockets can have made it linger.
pub(in crate::daemon) type Fd = Rc<Carried>;

/// See [`Fd`].
#[derive(Debug)]
pub(in crate::daemon) struct Carried {
    fd: Owner,
    _receipt: Option<Receipt>,
}

/// Whose it was.
#[derive(Debug)]
enum Owner {
    Worker(Foreign),
    Ours(Shared),
}

impl Carried {
    /// One of our own.
    pub(in crate::daemon) fn own(fd: OwnedFd) -> Fd {
        Rc::new(Self { fd: Owner::Ours(Shared::new(fd)), _receipt: None })
    }
}

impl AsFd for Carried {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Owner::Worker(fd) => fd.as_fd(),
            Owner::Ours(fd) => fd.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> Foreign {
        Foreign::new(std::io::pipe().unwrap().0.into())
    }

    #[test]
    fn what_there_is_no_room_for_is_closed() {
        let one = Allowance::new(Pot::of_all(1024));
        let held: Vec<Fd> = (0..2 * FDS_OF_WORKER).filter_map(|_| one.try_carry(fd())).collect();
        assert_eq!(held.len(), FDS_OF_WORKER);
        let (mut read, write) = std::io::pipe().unwrap();
        assert!(one.try_carry(Foreign::new(write.into())).is_none());
        assert_eq!(std::io::Read::read(&mut read, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let all = Pot::of_all(1024);
        let (one, other) = (Allowance::new(all.clone()), Allowance::new(all.clone()));
        let held: Vec<Fd> = (0..FDS_OF_WORKER).map(|_| one.carry(fd())).collect();
        assert!(one.is_used_up() && !other.is_used_up());
        let more: Vec<Fd> = (0..FDS_OF_WORKER).map(|_| other.carry(fd())).collect();
        assert!(Allowance::new(all.clone()).is_used_up(), "a quarter of 1024 for all");
        drop((held, more));
        assert!(!one.is_used_up() && !other.is_used_up());
        let weight = one.weigh(BYTES_OF_WORKER);
        assert!(one.is_used_up());
        drop(weight);
        assert_eq!((all.fds.get(), all.bytes.get()), (0, 0));
    }
}

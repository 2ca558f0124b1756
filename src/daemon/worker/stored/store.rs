//! What is kept, by slot. The rules are those of systemd's store (`service_add_fd_store` in systemd 257), which programs are
//! written for: the same open file is kept once, a name may be had by many, and what hangs up is let go of.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::daemon::fds::quota::Fd;
use crate::id::{PoolName, SlotIndex};
use crate::os::hangup::Hangups;
use crate::os::same::is_same_file;

/// Fds that are kept for one slot, at most.
pub(in crate::daemon) const FDS_OF_SLOT: usize = 64;

/// A slot of a pool.
pub(in crate::daemon) type Spot = (PoolName, SlotIndex);

/// See the module.
#[derive(Default)]
pub(in crate::daemon) struct Store {
    shelves: BTreeMap<Spot, Shelf>,
    /// Where those are that are watched.
    watched: BTreeMap<u64, Spot>,
    last_watched: u64,
    /// `None`: nothing is watched.
    hangups: Option<Rc<Hangups>>,
}

/// What is kept for one slot.
#[derive(Default)]
struct Shelf {
    kept: Vec<Kept>,
    refused: u64,
}

/// One fd.
struct Kept {
    name: String,
    fd: Fd,
    /// Its number among those that are watched.
    watched: Option<u64>,
}

/// What became of fds that were to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// New ones that are kept now.
    pub(super) kept: usize,
    /// Those for which there was no place.
    pub(super) too_many: usize,
    /// Those that cannot be watched for a hang-up, which their sender wanted.
    pub(super) unwatched: usize,
}

impl Store {
    /// One that lets go of what hangs up.
    pub(in crate::daemon) fn new(hangups: Rc<Hangups>) -> Self {
        Self { hangups: Some(hangups), ..Self::default() }
    }

    /// Keeps fds under a name, behind those that are kept already; those among them that are kept already stay as they are.
    /// `places`: how many may be kept for this slot. `poll`: one that hangs up is let go of.
    pub(super) fn keep(
        &mut self,
        spot: &Spot,
        name: &str,
        fds: Vec<Fd>,
        places: usize,
        poll: bool,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut shelf = self.shelves.remove(spot).unwrap_or_default();
        for fd in fds {
            if shelf.kept.iter().any(|kept| is_same_file(kept.fd.as_fd(), fd.as_fd())) {
                continue;
            }
            if shelf.kept.len() >= places {
                outcome.too_many += 1;
                continue;
            }
            match if poll { self.watch(spot, &fd) } else { Ok(None) } {
                Ok(watched) => {
                    outcome.kept += 1;
                    shelf.kept.push(Kept { name: name.to_owned(), fd, watched });
                }
                Err(_) => outcome.unwatched += 1,
            }
        }
        if !shelf.is_empty() {
            self.shelves.insert(spot.clone(), shelf);
        }
        outcome
    }

    fn watch(&mut self, spot: &Spot, fd: &Fd) -> std::io::Result<Option<u64>> {
        let Some(hangups) = &self.hangups else { return Ok(None) };
        let number = self.last_watched + 1;
        if !hangups.watch(fd.as_fd(), number)? {
            return Ok(None);
        }
        self.last_watched = number;
        self.watched.insert(number, spot.clone());
        Ok(Some(number))
    }

    /// Closes all that are kept under a name; how many.
    pub(super) fn remove(&mut self, spot: &Spot, name: &str) -> usize {
        self.let_go(spot, |kept| kept.name == name)
    }

    /// Closes those that have hung up; how many, by slot.
    pub(super) fn drop_hung_up(&mut self, numbers: &[u64]) -> Vec<(Spot, usize)> {
        let mut dropped = Vec::new();
        for number in numbers {
            let Some(spot) = self.watched.get(number).cloned() else { continue };
            let count = self.let_go(&spot, |kept| kept.watched == Some(*number));
            dropped.push((spot, count));
        }
        dropped
    }

    /// Counts fds that were not kept.
    pub(super) fn count_refused(&mut self, spot: &Spot, refused: usize) {
        let shelf = self.shelves.entry(spot.clone()).or_default();
        shelf.refused = shelf.refused.saturating_add(u64::try_from(refused).unwrap_or(u64::MAX));
    }

    /// Closes all that is kept for slots that are gone; how many fds, by slot.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Spot) -> bool) -> Vec<(Spot, usize)> {
        let gone: Vec<Spot> = self.shelves.keys().filter(|spot| !is_there(spot)).cloned().collect();
        let mut closed = Vec::new();
        for spot in gone {
            let count = self.let_go(&spot, |_| true);
            self.shelves.remove(&spot);
            closed.push((spot, count));
        }
        closed
    }

    fn let_go(&mut self, spot: &Spot, which: impl Fn(&Kept) -> bool) -> usize {
        let Some(shelf) = self.shelves.get_mut(spot) else { return 0 };
        let (gone, kept): (Vec<Kept>, Vec<Kept>) = shelf.kept.drain(..).partition(which);
        shelf.kept = kept;
        if shelf.is_empty() {
            self.shelves.remove(spot);
        }
        for kept in &gone {
            if let (Some(number), Some(hangups)) = (kept.watched, &self.hangups) {
                hangups.forget(kept.fd.as_fd());
                self.watched.remove(&number);
            }
        }
        gone.len()
    }

    /// What is kept for a slot, oldest first.
    pub(super) fn of(&self, spot: &Spot) -> impl Iterator<Item = (&str, &Fd)> {
        let kept = self.shelves.get(spot).into_iter().flat_map(|shelf| &shelf.kept);
        kept.map(|kept| (kept.name.as_str(), &kept.fd))
    }

    /// For each slot the names of what is kept, oldest first, and how many were refused.
    pub(in crate::daemon) fn names(&self) -> impl Iterator<Item = (&Spot, Vec<String>, u64)> {
        let names = |shelf: &Shelf| shelf.kept.iter().map(|kept| kept.name.clone()).collect();
        self.shelves.iter().map(move |(spot, shelf)| (spot, names(shelf), shelf.refused))
    }

    /// Nothing is kept, and nothing was refused.
    pub(super) fn is_empty(&self) -> bool {
        self.shelves.is_empty()
    }
}

impl Shelf {
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.refused == 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};

    use super::*;
    use crate::daemon::fds::quota::Carried;

    fn spot(slot: u32) -> Spot {
        (PoolName::new("web"), SlotIndex(slot))
    }

    /// An fd to keep, and a reader that sees when it is closed.
    fn watched() -> (Fd, PipeReader) {
        let (read, write) = std::io::pipe().unwrap();
        (Carried::own(write.into()), read)
    }

    fn is_closed(mut reader: PipeReader) -> bool {
        never_wait(&reader);
        reader.read(&mut [0]).is_ok_and(|length| length == 0)
    }

    fn never_wait(reader: &PipeReader) {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(reader, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    }

    fn names(store: &Store, slot: u32) -> Vec<String> {
        store.of(&spot(slot)).map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn fds_are_kept_in_their_order_and_removed_by_name() {
        let mut store = Store::default();
        let ((a, of_a), (b, of_b), (c, of_c)) = (watched(), watched(), watched());
        let kept = |count| Outcome { kept: count, ..Outcome::default() };
        assert_eq!(store.keep(&spot(0), "x", vec![a, b], 64, true), kept(2));
        assert_eq!(store.keep(&spot(0), "y", vec![c], 64, false), kept(1));
        assert_eq!(names(&store, 0), ["x", "x", "y"]);
        assert_eq!((store.remove(&spot(1), "x"), store.remove(&spot(0), "x")), (0, 2));
        assert_eq!(names(&store, 0), ["y"]);
        assert!(is_closed(of_a) && is_closed(of_b) && !is_closed(of_c));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_same_open_file_is_kept_once_even_where_there_is_no_place() {
        let mut store = Store::default();
        let (fd, _reader) = watched();
        let copy = |fd: &Fd| Carried::own(fd.as_fd().try_clone_to_owned().unwrap());
        let again = copy(&fd);
        store.keep(&spot(0), "x", vec![fd], 1, true);
        assert_eq!(store.keep(&spot(0), "y", vec![again], 1, true), Outcome::default());
        assert_eq!(names(&store, 0), ["x"]);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut store = Store::default();
        let (fds, readers): (Vec<Fd>, Vec<PipeReader>) = (0..5).map(|_| watched()).unzip();
        let outcome = store.keep(&spot(0), "x", fds, 3, false);
        assert_eq!(outcome, Outcome { kept: 3, too_many: 2, unwatched: 0 });
        assert_eq!(readers.into_iter().map(is_closed).filter(|closed| *closed).count(), 2);
        store.count_refused(&spot(0), 2);
        assert_eq!(
            store.names().map(|(_, names, refused)| (names.len(), refused)).collect::<Vec<_>>(),
            [(3, 2)]
        );
    }

    #[test]
    fn what_slots_had_that_are_gone_is_closed() {
        let mut store = Store::default();
        let ((a, of_a), (b, of_b)) = (watched(), watched());
        store.keep(&spot(0), "x", vec![a], 64, true);
        store.keep(&spot(1), "x", vec![b], 64, true);
        store.count_refused(&spot(2), 1);
        let closed = store.retain(|(_, slot)| *slot == SlotIndex(0));
        assert_eq!(closed, [(spot(1), 1), (spot(2), 0)]);
        assert!(is_closed(of_b) && !is_closed(of_a));
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_hangs_up_is_let_go_of_unless_its_sender_wanted_otherwise() {
        let hangups = Rc::new(Hangups::new().unwrap());
        let mut store = Store::new(hangups.clone());
        let ((a, of_a), (b, of_b)) = (watched(), watched());
        store.keep(&spot(0), "polled", vec![a], 64, true);
        store.keep(&spot(0), "not polled", vec![b], 64, false);
        drop((of_a, of_b));
        let numbers = hangups.next().await;
        assert_eq!(store.drop_hung_up(&numbers), [(spot(0), 1)]);
        assert!(store.drop_hung_up(&numbers).is_empty());
        assert_eq!(names(&store, 0), ["not polled"]);
    }
}

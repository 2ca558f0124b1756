//! The items that are under way, by number. Numbers follow one another and items are mostly answered in their order, so this is a row of
//! places rather than a tree.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Item, ItemId};

/// Items that were sent and not answered.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    /// The number of the first place.
    first: u64,
    /// Emptied by an answer; the first place is never empty.
    places: VecDeque<Option<Item<T>>>,
    items: usize,
}

impl<T> InFlight<T> {
    /// None yet; the first one will be number 1.
    pub(super) const fn new() -> Self {
        Self { first: 1, places: VecDeque::new(), items: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.items
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The number of the next item.
    pub(super) fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Their numbers, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = ItemId> {
        (self.first..).zip(&self.places).filter(|(_, place)| place.is_some()).map(|(id, _)| ItemId(id))
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.place(id).and_then(|place| self.places.get(place)).is_some_and(Option::is_some)
    }

    fn place(&self, id: u64) -> Option<usize> {
        id.checked_sub(self.first).and_then(|place| usize::try_from(place).ok())
    }

    /// Adds the next item.
    pub(super) fn push(&mut self, item: Item<T>) {
        self.places.push_back(Some(item));
        self.items += 1;
    }

    /// Takes the last item away again, as if it had not been added.
    pub(super) fn pop(&mut self) -> Option<Item<T>> {
        let item = self.places.pop_back().flatten();
        self.items -= usize::from(item.is_some());
        item
    }

    /// Takes an item that was answered.
    pub(super) fn remove(&mut self, id: u64) -> Option<Item<T>> {
        let place = self.place(id)?;
        let item = self.places.get_mut(place)?.take()?;
        self.items -= 1;
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.first += 1;
        }
        Some(item)
    }

    /// Takes all items from number `from` to number `to`, and gives how many there were.
    pub(super) fn remove_all(&mut self, from: u64, to: u64) -> u64 {
        let ids = from.max(self.first)..=to.min(self.next().saturating_sub(1));
        ids.filter(|id| self.remove(*id).is_some()).count() as u64
    }

    /// The fds of the items from a number on, in order.
    pub(super) fn fds_from(&self, id: u64) -> impl Iterator<Item = BorrowedFd<'_>> {
        let place = self.place(id).unwrap_or(0).min(self.places.len());
        self.places.range(place..).flatten().flat_map(|item| item.fds.iter().map(AsFd::as_fd))
    }

    /// Takes what is left, in order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (u64, Item<T>)> + use<T> {
        let next = self.next();
        let left = std::mem::replace(self, Self { first: next, ..Self::new() });
        (left.first..).zip(left.places).filter_map(|(id, place)| Some((id, place?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: usize) -> InFlight<usize> {
        let mut flight = InFlight::new();
        (1..=count).for_each(|number| flight.push(Item::without_fds(number)));
        flight
    }

    fn ids(flight: &InFlight<usize>) -> Vec<u64> {
        flight.ids().map(ItemId::get).collect()
    }

    #[test]
    fn items_are_found_by_number_in_whatever_order_they_are_answered() {
        let mut flight = with(4);
        assert_eq!(flight.remove(2).map(|item| item.data), Some(2));
        assert!(flight.remove(2).is_none() && flight.remove(0).is_none() && flight.remove(5).is_none());
        assert_eq!((ids(&flight), flight.len()), (vec![1, 3, 4], 3));
        assert_eq!(flight.remove(1).map(|item| item.data), Some(1));
        assert!(flight.contains(3) && !flight.contains(1) && !flight.contains(5));
        assert_eq!(flight.remove_all(0, u64::MAX), 2);
        assert!(flight.is_empty());
        assert_eq!(flight.next(), 5);
    }

    #[test]
    fn what_was_added_last_can_be_taken_away_again() {
        let mut flight = with(2);
        assert_eq!(flight.pop().map(|item| item.data), Some(2));
        assert_eq!((flight.next(), flight.len()), (2, 1));
    }

    #[test]
    fn what_is_left_keeps_its_numbers() {
        let mut flight = with(5);
        assert_eq!(flight.remove_all(2, 3), 2);
        let left: Vec<_> = flight.take_all().map(|(id, item)| (id, item.data)).collect();
        assert_eq!(left, [(1, 1), (4, 4), (5, 5)]);
        assert_eq!((flight.len(), flight.next()), (0, 6));
    }
}

//! Who owes whom an answer, and who still holds which fds.
//!
//! Both sides need the same two books: of the lines that they sent and that are still open ([`Ledger`]), and of the questions that
//! the peer asked ([`Owed`]). The daemon, the SDK and a pipe between two workers share them.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::Fault;
use super::value::Id;

/// What closes a line that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It carries fds and asks nothing: their acknowledgement.
    Ack,
    /// It is a question: its answer. An acknowledgement alone leaves it open.
    Answer,
}

/// A line that was sent and is not closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Open<Q, F> {
    /// What closes it.
    pub until: Until,
    /// The sender's copies of its fds: kept because an fd that nobody holds can be lost on the way.
    pub fds: Vec<F>,
    /// What the sender wants to remember of it.
    pub question: Q,
}

/// What an acknowledgement did.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledged<'a, Q, F> {
    /// The line is closed; its fds are the peer's now.
    Closed(Open<Q, F>),
    /// The fds have arrived, and the answer is still to come. Whoever keeps its copies until then leaves them there.
    Open(&'a mut Open<Q, F>),
    /// There is no such line.
    Nothing,
}

/// The lines that this side sent with an id and that are still open. Generic over what is remembered of them and over what an fd is.
#[derive(Debug)]
pub struct Ledger<Q, F> {
    next: Id,
    open: BTreeMap<Id, Open<Q, F>>,
}

impl<Q, F> Ledger<Q, F> {
    /// With nothing sent yet; the first id is 1.
    pub const fn new() -> Self {
        Self { next: Id::FIRST, open: BTreeMap::new() }
    }

    /// Opens a line, and says which id it is to have. One that then cannot be sent is taken back with [`close`](Self::close).
    pub fn open(&mut self, until: Until, question: Q, fds: Vec<F>) -> Id {
        while self.open.contains_key(&self.next) {
            self.next = self.next.next();
        }
        let id = self.next;
        self.next = id.next();
        self.open.insert(id, Open { until, fds, question });
        id
    }

    /// An `ack` came.
    pub fn acknowledged(&mut self, re: Id) -> Acknowledged<'_, Q, F> {
        match self.open.get(&re).map(|open| open.until) {
            Some(Until::Ack) => self.open.remove(&re).map_or(Acknowledged::Nothing, Acknowledged::Closed),
            Some(Until::Answer) => self.open.get_mut(&re).map_or(Acknowledged::Nothing, Acknowledged::Open),
            None => Acknowledged::Nothing,
        }
    }

    /// An answer other than `refused` came. `None` where nothing was asked.
    pub fn answered(&mut self, re: Id) -> Option<Open<Q, F>> {
        if self.open.get(&re)?.until == Until::Ack {
            return None;
        }
        self.open.remove(&re)
    }

    /// Closes a line: `refused` came, or this side gives up. `None` where it is not open.
    pub fn close(&mut self, id: Id) -> Option<Open<Q, F>> {
        self.open.remove(&id)
    }

    /// An open line.
    pub fn get(&self, id: Id) -> Option<&Open<Q, F>> {
        self.open.get(&id)
    }

    /// The open lines in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Open<Q, F>)> {
        self.open.iter().map(|(id, open)| (*id, open))
    }

    /// Closes all of them: the channel has ended.
    pub fn close_all(&mut self) -> impl Iterator<Item = (Id, Open<Q, F>)> + use<Q, F> {
        std::mem::take(&mut self.open).into_iter()
    }

    /// How many lines are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl<Q, F> Default for Ledger<Q, F> {
    fn default() -> Self {
        Self::new()
    }
}

/// The questions that the peer asked and that are not answered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed(BTreeSet<Id>);

impl Owed {
    /// None.
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// That a line with this id came, which need not be a question.
    ///
    /// # Errors
    ///
    /// Where an earlier question with it is not answered yet.
    pub fn check(&self, id: Id) -> Result<(), Fault> {
        if self.0.contains(&id) { Err(Fault::IdInUse(id)) } else { Ok(()) }
    }

    /// A question came.
    ///
    /// # Errors
    ///
    /// Where an earlier question with this id is not answered yet.
    pub fn ask(&mut self, id: Id) -> Result<(), Fault> {
        self.check(id)?;
        self.0.insert(id);
        Ok(())
    }

    /// An answer is about to be sent: whether it is still owed. Each question gets exactly one.
    #[must_use]
    pub fn settle(&mut self, re: Id) -> bool {
        self.0.remove(&re)
    }

    /// How many questions wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Id {
        Id::new(number).expect("small")
    }

    #[test]
    fn fds_are_held_until_their_acknowledgement() {
        let mut ledger = Ledger::new();
        let grant = ledger.open(Until::Ack, "grant", vec![7, 8]);
        assert_eq!(ledger.answered(grant), None, "a reply is no acknowledgement");
        assert_eq!(ledger.acknowledged(id(99)), Acknowledged::Nothing);
        let closed = Open { until: Until::Ack, fds: vec![7, 8], question: "grant" };
        assert_eq!(ledger.acknowledged(grant), Acknowledged::Closed(closed));
        assert_eq!(ledger.acknowledged(grant), Acknowledged::Nothing);
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_question_with_fds_stays_open_after_their_acknowledgement() {
        let mut ledger = Ledger::new();
        let asked = ledger.open(Until::Answer, (), vec![7]);
        let Acknowledged::Open(open) = ledger.acknowledged(asked) else { panic!("closed") };
        assert_eq!(open.fds, [7], "the asker decides how long it keeps its copies");
        assert_eq!(ledger.answered(asked).expect("open").fds, [7]);
        assert!(ledger.answered(asked).is_none(), "one answer");
    }

    #[test]
    fn what_is_refused_gives_its_fds_back() {
        let mut ledger = Ledger::new();
        let sent = ledger.open(Until::Ack, (), vec![7]);
        assert_eq!(ledger.close(sent).expect("open").fds, [7]);
        ledger.open(Until::Answer, (), vec![8]);
        ledger.open(Until::Ack, (), vec![9]);
        assert_eq!(ledger.close_all().flat_map(|(_, open)| open.fds).collect::<Vec<_>>(), [8, 9]);
        assert!(ledger.is_empty());
    }

    #[test]
    fn ids_begin_again_without_meeting_an_open_one() {
        let mut ledger: Ledger<(), ()> = Ledger::new();
        assert_eq!(ledger.open(Until::Answer, (), vec![]), id(1));
        ledger.next = id(super::super::limits::NUMBER_MAX);
        assert_eq!(ledger.open(Until::Answer, (), vec![]).get(), super::super::limits::NUMBER_MAX);
        assert_eq!(ledger.open(Until::Answer, (), vec![]), id(2));
    }

    #[test]
    fn an_id_is_free_again_after_its_answer() {
        let mut owed = Owed::new();
        owed.ask(id(1)).expect("free");
        assert_eq!(owed.ask(id(1)), Err(Fault::IdInUse(id(1))));
        assert!(owed.settle(id(1)));
        assert!(!owed.settle(id(1)), "answered already");
        owed.ask(id(1)).expect("free again");
    }
}

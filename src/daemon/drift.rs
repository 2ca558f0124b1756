//! What workers do to shared sockets, noticed after each start and each exit.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::Daemon;
use super::chronicle::at;
use crate::control::What;
use crate::control::event::Drifted;
use crate::id::{ListenerName, PoolName};
use crate::listeners::{Drift, Held, Origin};
use crate::supervisor::{Event, Request, Scope};
use crate::time::Monotonic;

/// The time between two rolls that the end of one listener causes.
const ROLL_PACE: Duration = Duration::from_secs(10);

/// When the pools of a listener may be rolled again because it was ended.
#[derive(Debug)]
pub(super) struct PacedRoll {
    not_before: Monotonic,
    /// It is to be done then.
    due: bool,
}

impl Daemon {
    /// Looks at the sockets if something may have happened to them.
    pub(super) fn look_for_drift(&mut self) {
        if !std::mem::take(&mut self.drift_is_possible) {
            return;
        }
        self.look_for_control();
        for (name, held, is_committed) in self.all_held() {
            let drifts = held.drift();
            // What is shown is the socket that serves; one that only old workers still have may bear its name.
            if is_committed {
                self.show_drift(&name, &held, &drifts);
            }
            if drifts.contains(&Drift::NotListening) {
                self.replace_ended(&name, &held);
            }
        }
    }

    /// Every socket that any generation holds, once, and whether the committed one does.
    fn all_held(&self) -> Vec<(ListenerName, Rc<Held>, bool)> {
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        let committed = self.generations.get_key_value(&self.committed);
        for (generation, record) in committed.into_iter().chain(&self.generations) {
            for (name, held) in &record.listeners {
                if seen.insert(Rc::as_ptr(held)) {
                    all.push((name.clone(), held.clone(), *generation == self.committed));
                }
            }
        }
        all
    }

    fn show_drift(&mut self, name: &ListenerName, held: &Held, drifts: &[Drift]) {
        let known = self.drifts.get(name).map_or(&[][..], Vec::as_slice);
        let now = shown(known, drifts);
        let is_new = now.iter().any(|drift| !known.contains(drift));
        let is_over = known.iter().any(|drift| !now.contains(drift));
        let drifted = drifted(name, held, &now);
        self.drifts.insert(name.clone(), now);
        if is_new {
            self.happened(What::ListenerDrifted(drifted));
        } else if is_over {
            self.happened(What::ListenerMended(drifted));
        }
    }

    /// A worker has ended a socket for all: it is bound afresh, and its pools are rolled so that their
    /// workers get the new one. One that was inherited only its owner can make anew.
    fn replace_ended(&mut self, name: &ListenerName, held: &Rc<Held>) {
        if held.origin() == Origin::Inherited {
            let reason = format!("listener {name}: a worker has ended the inherited socket for all");
            return self.inbox.push_back(Event::Broken { reason });
        }
        match held.rebind(&held.options()) {
            Ok(fresh) => {
                let fresh = Rc::new(fresh);
                self.put_in_place(held, &fresh);
                self.happened(What::ListenerBound { at: at(name, &fresh), afresh: true });
                let drift = vec![Drift::BoundAfresh];
                self.happened(What::ListenerMended(drifted(name, &fresh, &drift)));
                self.drifts.insert(name.clone(), drift);
                self.pace_roll(name);
            }
            Err(error) => {
                let reason = format!("listener {name}: a worker has ended it for all, and {error}");
                self.inbox.push_back(Event::Broken { reason });
            }
        }
    }

    fn put_in_place(&mut self, old: &Rc<Held>, fresh: &Rc<Held>) {
        for held in self.generations.values_mut().flat_map(|record| record.listeners.values_mut()) {
            if Rc::ptr_eq(held, old) {
                *held = fresh.clone();
            }
        }
    }

    /// Rolls the pools of a listener now, or, where that was done a moment ago, when it is time again: a worker
    /// that ends its socket each time would else be replaced without a pause.
    fn pace_roll(&mut self, name: &ListenerName) {
        let now = self.now();
        let paced = self.paced_rolls.entry(name.clone()).or_insert(PacedRoll { not_before: now, due: false });
        paced.due = true;
        self.make_due_rolls();
    }

    /// When the next roll that waits for its time is due.
    pub(super) fn next_roll(&self) -> Option<Monotonic> {
        self.paced_rolls.values().filter(|paced| paced.due).map(|paced| paced.not_before).min()
    }

    /// Asks for the rolls whose time has come.
    pub(super) fn make_due_rolls(&mut self) {
        let now = self.now();
        self.paced_rolls.retain(|_, paced| paced.due || paced.not_before > now);
        let due: Vec<ListenerName> = self
            .paced_rolls
            .iter_mut()
            .filter(|(_, paced)| paced.due && paced.not_before <= now)
            .map(|(name, paced)| {
                *paced = PacedRoll { not_before: now + ROLL_PACE, due: false };
                name.clone()
            })
            .collect();
        for name in due {
            self.roll_pools_of(&name);
        }
    }

    fn roll_pools_of(&mut self, name: &ListenerName) {
        let Ok(record) = self.committed_record() else { return };
        let users = record.config.pools.iter().filter(|(_, pool)| pool.listeners.contains(name));
        let pools: BTreeSet<PoolName> = users.map(|(pool, _)| pool.clone()).collect();
        if pools.is_empty() {
            return;
        }
        let request = self.next_request();
        let what = Request::Roll(Scope { reread: false, pools: Some(pools), changed_only: false });
        self.inbox.push_back(Event::Requested { request, what });
    }
}

fn drifted(name: &ListenerName, held: &Held, drifts: &[Drift]) -> Drifted {
    let drift = drifts.iter().map(ToString::to_string).collect();
    Drifted { at: at(name, held), drift, harmed: drifts.iter().any(Drift::harms) }
}

/// What is shown of a listener after a look at it. What was mended stays beside it: a worker did it, and its
/// successor will do it again.
fn shown(known: &[Drift], found: &[Drift]) -> Vec<Drift> {
    let same_kind = |a: &Drift, b: &Drift| std::mem::discriminant(a) == std::mem::discriminant(b);
    let mended = |drift: &&Drift| matches!(drift, Drift::Backlog { mended: true, .. } | Drift::BoundAfresh);
    let kept = known.iter().filter(mended).filter(|drift| !found.iter().any(|now| same_kind(now, drift)));
    kept.chain(found).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_mended_is_shown_beside_what_was_not() {
        let backlog = Drift::Backlog { wanted: 4096, found: 511, mended: true };
        let other = Drift::Backlog { wanted: 4096, found: 100, mended: true };
        let nonblocking = Drift::Nonblocking { now: true };
        let both = shown(&[], &[backlog, nonblocking]);
        assert_eq!(both, [backlog, nonblocking]);
        assert_eq!(shown(&both, &[nonblocking]), both);
        assert_eq!(shown(&both, &[]), [backlog], "what is no longer so is no longer shown");
        assert_eq!(shown(&[Drift::FileLost], &[]), []);
        assert_eq!(shown(&both, &[other, nonblocking]), [other, nonblocking]);
    }
}

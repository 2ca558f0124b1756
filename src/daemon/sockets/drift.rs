//! What workers do to shared sockets, noticed after each start and each exit.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::control::What;
use crate::control::event::Drifted;
use crate::daemon::Daemon;
use crate::daemon::events::bus::at;
use crate::id::{ListenerName, PoolName};
use crate::listeners::{Drift, Held, Origin};
use crate::supervisor::Event;

impl Daemon {
    /// Looks at the sockets if something may have happened to them.
    pub(in crate::daemon) fn look_for_drift(&mut self) {
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

    /// A worker has ended a socket for all: it is bound afresh, and the machine is told, so that all workers get
    /// the new one. One that was inherited only its owner can make anew.
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
                let pools = self.users_of(&fresh);
                self.inbox.push_back(Event::ListenerReplaced { listener: name.clone(), pools });
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

    /// The pools that have a socket in the generation that serves or in a newer one. What older ones still have
    /// workers for is about to go.
    fn users_of(&self, held: &Rc<Held>) -> BTreeSet<PoolName> {
        let mut users = BTreeSet::new();
        for record in self.generations.range(self.committed..).map(|(_, record)| record) {
            for (name, _) in record.listeners.iter().filter(|(_, other)| Rc::ptr_eq(held, other)) {
                let pools = record.config.pools.iter().filter(|(_, pool)| pool.listeners.contains(name));
                users.extend(pools.map(|(pool, _)| pool.clone()));
            }
        }
        users
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

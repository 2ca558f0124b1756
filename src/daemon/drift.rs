//! What workers do to shared sockets, noticed after each start and each exit.

use std::rc::Rc;

use super::Daemon;
use crate::id::{ListenerName, PoolName};
use crate::listeners::{Drift, Held, Origin};
use crate::supervisor::{Event, Request, Scope};

impl Daemon {
    /// Looks at the sockets if something may have happened to them.
    pub(super) fn look_for_drift(&mut self) {
        if !std::mem::take(&mut self.drift_is_possible) {
            return;
        }
        let Ok(record) = self.committed_record() else { return };
        let found: Vec<(ListenerName, Rc<Held>, Vec<Drift>)> =
            record.listeners.iter().map(|(name, held)| (name.clone(), held.clone(), held.drift())).collect();
        for (name, held, drifts) in found {
            self.take_drift(&name, &held, &drifts);
        }
    }

    fn take_drift(&mut self, name: &ListenerName, held: &Rc<Held>, drifts: &[Drift]) {
        let ended = drifts.contains(&Drift::NotListening);
        let known = self.drifts.entry(name.clone()).or_default();
        let now = shown(known, drifts);
        if now != *known {
            let drift = now.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::warn!(listener = %name, address = held.shown(), drift, "a worker changed a shared socket");
            *known = now;
        }
        if ended {
            self.replace_ended(name, held);
        }
    }

    /// A worker has ended a socket for all: it is bound afresh, and its pools are rolled so that their
    /// workers get the new one. One that was inherited only its owner can make anew.
    fn replace_ended(&mut self, name: &ListenerName, held: &Rc<Held>) {
        if held.origin() == Origin::Inherited {
            let reason = format!("listener {name}: a worker has ended the inherited socket for all");
            return self.inbox.push_back(Event::Broken { reason });
        }
        let options = self
            .committed_record()
            .ok()
            .and_then(|record| record.config.listeners.get(name))
            .map(|listener| listener.options.clone())
            .unwrap_or_default();
        match held.rebind(&options) {
            Ok(fresh) => {
                tracing::warn!(listener = %name, address = fresh.shown(), "listener bound afresh");
                self.put_in_place(held, &Rc::new(fresh));
                self.roll_pools_of(name);
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

    fn roll_pools_of(&mut self, name: &ListenerName) {
        let Ok(record) = self.committed_record() else { return };
        let users = record.config.pools.iter().filter(|(_, pool)| pool.listeners.contains(name));
        let pools: std::collections::BTreeSet<PoolName> = users.map(|(pool, _)| pool.clone()).collect();
        let request = self.next_request();
        let what = Request::Roll(Scope { reread: false, pools: Some(pools), changed_only: false });
        self.inbox.push_back(Event::Requested { request, what });
    }
}

/// What is shown of a listener after a look at it. What was mended stays until something else is wrong with it: a
/// worker did it, and its successor will do it again.
fn shown(known: &[Drift], found: &[Drift]) -> Vec<Drift> {
    if found.is_empty() {
        return known.to_vec();
    }
    let backlog = |drift: &Drift| matches!(drift, Drift::Backlog { .. });
    let kept = known.iter().filter(|drift| backlog(drift) && !found.iter().any(backlog));
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
        assert_eq!(shown(&both, &[]), both);
        assert_eq!(shown(&both, &[other, nonblocking]), [other, nonblocking]);
    }
}

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
        let texts: Vec<String> = drifts.iter().map(ToString::to_string).collect();
        // What was mended is shown until something else is: a worker did it, and will do it again.
        if !texts.is_empty() && self.drifts.get(name) != Some(&texts) {
            let drift = texts.join("; ");
            tracing::warn!(listener = %name, address = held.shown(), drift, "a worker changed a shared socket");
            self.drifts.insert(name.clone(), texts);
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

//! Sockets on request: the pool's listeners by name, and addresses that its `allow_listen` names.
//!
//! An address is bound when it is asked for the first time, kept while any generation that is still needed allows it,
//! and is the same socket for all who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::heard::Speaker;
use super::link::{No, Question};
use crate::config::model::{Address, SocketOptions};
use crate::config::parse_address;
use crate::control::What;
use crate::daemon::Daemon;
use crate::daemon::events::bus::at;
use crate::daemon::fds::quota::{Carried, Fd};
use crate::id::{ListenerName, WorkerId};
use crate::listeners::Held;
use crate::supervisor::Place;
use crate::wire::{ErrorCode, Id, ToWorker, Until, Wanted};

/// The sockets that were asked for by address.
#[derive(Default)]
pub(in crate::daemon) struct Grants {
    held: BTreeMap<Address, Rc<Held>>,
    /// Who has one, and was not told since that it is no longer wanted.
    had: BTreeSet<(WorkerId, Address)>,
}

impl Grants {
    /// Nothing is left of a worker.
    pub(in crate::daemon) fn forget(&mut self, worker: WorkerId) {
        self.had.retain(|(of, _)| *of != worker);
    }

    /// Lets go of the addresses that nobody may ask for any more.
    fn retain(&mut self, is_allowed: impl Fn(&Address) -> bool) -> Vec<(Address, Rc<Held>)> {
        let gone: Vec<Address> = self.held.keys().filter(|address| !is_allowed(address)).cloned().collect();
        gone.into_iter().filter_map(|address| self.held.remove_entry(&address)).collect()
    }
}

impl Daemon {
    /// Answers a worker that asks for a socket.
    pub(super) fn grant(&mut self, from: &Speaker, re: Id, wanted: &Wanted) {
        let Speaker { worker, place } = from;
        let worker = *worker;
        let found = match wanted {
            Wanted::Name(name) => self.by_name(place, name),
            Wanted::Address(text) => self.by_address(worker, place, text),
        };
        match found {
            Ok((name, held)) => self.give(worker, re, name, &held),
            Err(no) => self.refuse(worker, Some(re), no),
        }
    }

    fn give(&self, worker: WorkerId, re: Id, name: String, held: &Held) {
        let Some(link) = self.link(worker) else { return };
        let sockets: Result<Vec<OwnedFd>, _> = held.sockets().map(OwnedFd::try_clone).collect();
        let given = sockets.map_err(|error| No::new(ErrorCode::Failed, error)).and_then(|sockets| {
            let fds: Vec<Fd> = sockets.into_iter().map(Carried::own).collect();
            let address = held.shown();
            let line = |id| ToWorker::Grant { re, name, address, id };
            link.ask(Until::Ack, Question::Grant, fds, line).map_err(|(no, _)| no)
        });
        if let Err(no) = given {
            self.refuse(worker, Some(re), no);
        }
    }

    fn by_name(&self, place: &Place, name: &str) -> Result<(String, Rc<Held>), No> {
        let record = self.generations.get(&place.generation);
        let of_pool = record.and_then(|record| Some((record, record.pools.get(&place.pool)?)));
        let listeners =
            of_pool.map(|(record, of_pool)| record.listeners_of(&of_pool.pool)).unwrap_or_default();
        match listeners.into_iter().find(|(listener, _)| listener.as_str() == name) {
            Some((listener, held)) => Ok((listener.to_string(), held.clone())),
            None => {
                let reason = format!("{name:?} is not one of the listeners of pool {}", place.pool);
                Err(No::new(ErrorCode::NotAllowed, reason))
            }
        }
    }

    fn by_address(&mut self, worker: WorkerId, place: &Place, text: &str) -> Result<(String, Rc<Held>), No> {
        let address = parse_address(text).map_err(|wrong| No::new(ErrorCode::BadRequest, wrong))?;
        let record = self.generations.get(&place.generation);
        let of_pool = record.and_then(|record| record.pools.get(&place.pool));
        if !of_pool.is_some_and(|of_pool| of_pool.pool.channel.allow_listen.contains(&address)) {
            let reason = format!("{address} is not in allow_listen of pool {}", place.pool);
            return Err(No::new(ErrorCode::NotAllowed, reason));
        }
        let name = address.to_string();
        self.grants.had.insert((worker, address.clone()));
        if let Some(held) = self.held_at(&address) {
            return Ok((name, held));
        }
        let held = Held::bind(&address, &SocketOptions::default())
            .map_err(|error| No::new(ErrorCode::Failed, error))?;
        let held = Rc::new(held);
        self.happened(What::ListenerBound { at: at(&ListenerName::new(name.clone()), &held), afresh: false });
        self.grants.held.insert(address, held.clone());
        Ok((name, held))
    }

    /// A socket that is held at this very address: one that was asked for, or a listener of the configuration.
    fn held_at(&self, address: &Address) -> Option<Rc<Held>> {
        let asked = self.grants.held.get(address);
        let configured = self.generations.values().rev().find_map(|record| {
            let mut listeners = record.config.listeners.iter();
            let (name, _) = listeners.find(|(_, listener)| listener.address.as_ref() == Some(address))?;
            record.listeners.get(name)
        });
        asked.or(configured).cloned()
    }

    /// A generation is not needed any more: addresses that only it allowed are let go of.
    pub(in crate::daemon) fn retain_grants(&mut self) {
        let generations = &self.generations;
        let is_allowed = |address: &Address| {
            let pools = generations.values().flat_map(|record| record.pools.values());
            pools.into_iter().any(|of_pool| of_pool.pool.channel.allow_listen.contains(address))
        };
        for (address, held) in self.grants.retain(is_allowed) {
            let name = ListenerName::new(address.to_string());
            let reset = held.waiting();
            self.happened(What::ListenerClosed { at: at(&name, &held), reset });
        }
    }

    /// A generation is the one to build on: workers that live on, and whose pool has lost a listener by it, are told.
    pub(in crate::daemon) fn tell_of_removed_listeners(&mut self) {
        self.tell_of_removed_addresses();
        let Ok(new) = self.committed_record() else { return };
        for (_, entry) in self.table.iter() {
            let (Some(link), Some(old)) = (&entry.link, self.generations.get(&entry.place.generation)) else {
                continue;
            };
            let Some(had) = old.config.pools.get(&entry.place.pool) else { continue };
            let has = new.config.pools.get(&entry.place.pool);
            let is_gone = |name: &&ListenerName| has.is_none_or(|pool| !pool.listeners.contains(name));
            for name in had.listeners.iter().filter(is_gone) {
                let _ = link.say(&ToWorker::ListenerRemoved { name: name.to_string() }, Vec::new());
            }
        }
    }

    /// The same for the addresses that they asked for, each once.
    fn tell_of_removed_addresses(&mut self) {
        let Ok(new) = self.committed_record() else { return };
        let is_gone = |(worker, address): &&(WorkerId, Address)| {
            let Some(entry) = self.table.get(*worker) else { return false };
            let pool = new.config.pools.get(&entry.place.pool);
            pool.is_none_or(|pool| !pool.channel.allow_listen.contains(address))
        };
        let gone: Vec<(WorkerId, Address)> = self.grants.had.iter().filter(is_gone).cloned().collect();
        for had in gone {
            if let Some(link) = self.link(had.0) {
                let _ = link.say(&ToWorker::ListenerRemoved { name: had.1.to_string() }, Vec::new());
            }
            self.grants.had.remove(&had);
        }
    }
}

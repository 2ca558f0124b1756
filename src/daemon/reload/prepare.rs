//! Making the next generation: read on a thread, compare, hold its sockets, record it. Nothing that serves is
//! touched before the machine says `Commit`.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::config::model::{Config, Listener, Policy};
use crate::control::What;
use crate::daemon::Daemon;
use crate::daemon::events::bus::at;
use crate::daemon::reload::blocking_jobs::{self, Kind};
use crate::daemon::reload::dry_run::{Dry, end_plan};
use crate::daemon::reload::generation::{Listeners, PoolRecord, Record};
use crate::daemon::reload::inputs::{self, Found, Wanted};
use crate::daemon::reload::plan::{Draft, Way};
use crate::id::{Generation, PoolName};
use crate::listeners::Held;
use crate::supervisor::{Event, Scope};

/// What is read, and for what.
pub(in crate::daemon) type Readings = blocking_jobs::Readings<Found, Purpose>;

/// What is done with what was read.
pub(in crate::daemon) enum Purpose {
    /// A generation is made of it: the answer to `Action::Prepare`.
    Reload(Generation, Scope),
    /// It is shown what would be done with it.
    Plan(Box<Dry>),
}

impl Purpose {
    fn kind(&self) -> Kind {
        match self {
            Self::Reload(..) => Kind::Reload,
            Self::Plan(_) => Kind::Plan,
        }
    }

    fn scope(&self) -> &Scope {
        match self {
            Self::Reload(_, scope) => scope,
            Self::Plan(dry) => &dry.scope,
        }
    }
}

impl Daemon {
    /// Begins to make a generation. What was begun for an earlier one is not wanted any more.
    pub(in crate::daemon) fn prepare(&mut self, generation: Generation, scope: Scope) {
        self.readings.give_up(|purpose| matches!(purpose, Purpose::Reload(..)));
        self.begin_reading(Purpose::Reload(generation, scope));
    }

    /// Begins to read what a purpose needs.
    pub(in crate::daemon) fn begin_reading(&mut self, purpose: Purpose) {
        let scope = purpose.scope();
        let wanted = match scope.reread {
            true => Ok(Wanted::Again(self.source.clone())),
            false => self.committed_record().map(|record| Wanted::Same(Box::new((*record.config).clone()))),
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(fault) => return self.use_reading(purpose, Err(fault)),
        };
        let pools = scope.pools.clone();
        let path = inputs::own_path(&self.surroundings.environment).map(ToOwned::to_owned);
        let job =
            move |step: &blocking_jobs::Step| inputs::read(wanted, pools.as_ref(), path.as_deref(), step);
        let now = self.now();
        if let Err((purpose, fault)) = self.readings.begin(now, purpose.kind(), purpose, job) {
            self.use_reading(purpose, Err(fault));
        }
    }

    /// Takes what a thread has read.
    pub(in crate::daemon) fn take_reading(&mut self, number: u64, found: Result<Found, String>) {
        if let Some(purpose) = self.readings.ended(number) {
            self.use_reading(purpose, found);
        }
    }

    /// The machine has waited long enough.
    pub(in crate::daemon) fn give_up_preparing(&mut self) {
        for (purpose, reason) in self.readings.too_long(Kind::Reload) {
            tracing::warn!(reason, "a reading is given up");
            self.use_reading(purpose, Err(reason));
        }
    }

    /// Gives up what is not wanted any more, and plans that take too long.
    pub(in crate::daemon) fn look_after_readings(&mut self) {
        if !self.machine.is_preparing() {
            self.readings.give_up(|purpose| matches!(purpose, Purpose::Reload(..)));
        }
        if self.machine.is_stopping() {
            self.readings.give_up(|_| true).into_iter().for_each(end_plan);
        }
        for (purpose, reason) in self.readings.overdue(self.time.now()) {
            tracing::warn!(reason, "a reading is given up");
            self.use_reading(purpose, Err(reason));
        }
    }

    fn use_reading(&mut self, purpose: Purpose, found: Result<Found, String>) {
        match purpose {
            Purpose::Reload(generation, scope) => {
                let made = found.and_then(|found| self.make(generation, &scope, found));
                self.inbox.push_back(match made {
                    Ok(pools) => Event::Prepared { pools },
                    Err(reason) => Event::PrepareRefused { reason },
                });
            }
            Purpose::Plan(dry) => self.answer_plan(*dry, found),
        }
    }

    /// Makes a generation. On failure nothing has changed; the reason is for a person.
    fn make(
        &mut self,
        generation: Generation,
        scope: &Scope,
        found: Found,
    ) -> Result<BTreeMap<PoolName, Option<Policy>>, String> {
        let draft = self.draft(self.committed, scope, found)?;
        if !draft.refusals.is_empty() {
            return Err(draft.refusals.join("\n"));
        }
        let listeners = hold(&draft.config, &draft.listeners)?;
        let moving = draft.moving();
        let record = self.record_of(draft, listeners)?;
        self.generations.insert(generation, record);
        Ok(moving)
    }

    /// A pool that does not move keeps what an earlier generation remembers of it.
    fn record_of(&self, draft: Draft, listeners: Listeners) -> Result<Record, String> {
        let base = self.record(draft.base)?;
        let moving =
            draft.pools.iter().filter(|(_, pool)| pool.moves).map(|(name, _)| name.clone()).collect();
        let mut pools = BTreeMap::new();
        for (name, of_pool) in draft.pools {
            let Some(pool) = draft.config.pools.get(&name) else { continue };
            let record = match (of_pool.found.filter(|_| of_pool.moves), base.pools.get(&name)) {
                (Some(found), _) => Rc::new(PoolRecord::new(pool, found)),
                (None, Some(record)) => record.clone(),
                (None, None) => return Err(format!("pool {name}: nothing was read for it")),
            };
            pools.insert(name, record);
        }
        Ok(Record { config: Rc::new(draft.config), pools, listeners, moving })
    }

    pub(in crate::daemon) fn committed_record(&self) -> Result<&Record, String> {
        self.record(self.committed)
    }

    /// A generation is the one to build on: what it changes on held sockets and on the log is applied.
    pub(in crate::daemon) fn commit(&mut self, generation: Generation) {
        let Some(new) = self.generations.get(&generation) else { return };
        for (name, held) in &new.listeners {
            let Some(listener) = new.config.listeners.get(name) else { continue };
            if let Err(error) = held.apply(&listener.options) {
                tracing::warn!(listener = %name, %error, "listener options not applied");
            }
        }
        if let Some(log) = &self.log {
            log.configure(new.config.log.format, new.config.log.level);
        }
        self.output = new.config.log.workers;
        self.drifts.retain(|name, _| new.config.listeners.contains_key(name));
        self.committed = generation;
        self.slots_may_be_gone = true;
        self.tell_of_removed_listeners();
    }

    /// Nothing needs a generation any more.
    pub(in crate::daemon) fn forget(&mut self, generation: Generation) {
        let Some(record) = self.generations.remove(&generation) else { return };
        for (name, held) in record.listeners {
            if let Some(held) = Rc::into_inner(held) {
                let reset = held.waiting();
                self.happened(What::ListenerClosed { at: at(&name, &held), reset });
            }
        }
        self.retain_grants();
        self.slots_may_be_gone = true;
        let status = self.machine.status();
        self.table.retain_slots(|pool, slot| {
            status.pools.get(pool).is_some_and(|pool| pool.slots.contains_key(&slot))
        });
    }
}

/// Holds the sockets of a configuration: those that are held already, and new ones for the rest. All that
/// cannot be bound is said at once, and nothing of it stays.
fn hold(config: &Config, ways: &BTreeMap<crate::id::ListenerName, Way>) -> Result<Listeners, String> {
    let mut listeners = BTreeMap::new();
    let mut faults = Vec::new();
    for (name, listener) in &config.listeners {
        match ways.get(name).map(|way| follow(way, listener)) {
            Some(Ok(held)) => drop(listeners.insert(name.clone(), held)),
            Some(Err(fault)) => faults.push(format!("listener {name}: {fault}")),
            None => {}
        }
    }
    if faults.is_empty() { Ok(listeners) } else { Err(faults.join("\n")) }
}

fn follow(way: &Way, listener: &Listener) -> Result<Rc<Held>, String> {
    let made = match (way, &listener.address) {
        (Way::Keep(held) | Way::Share(held), _) => return Ok(held.clone()),
        (Way::Afresh(held), _) => held.rebind(&listener.options),
        (Way::Bind, Some(address)) => Held::bind(address, &listener.options),
        (Way::Bind, None) => {
            return Err("without an address it must be inherited, at the start of the daemon".to_owned());
        }
    };
    made.map(Rc::new).map_err(|error| error.to_string())
}

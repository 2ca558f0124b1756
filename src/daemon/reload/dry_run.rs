//! A dry run: what a reload would do, told and not done.
//!
//! It goes the way of a reload as far as that only looks: the same reading, the same draft. It passes by the
//! machine, which has nothing to decide: no generation is counted, the service manager is told nothing, and it
//! need not wait for a rollout. While one runs, it is compared with what that rollout makes if it succeeds.

use std::collections::BTreeMap;

use crate::config::change::KeyChange;
use crate::config::model::Listener;
use crate::control::plan::{
    KeyPlan, ListenerAction, ListenerPlan, Plan, PoolAction, PoolPlan, PoolReason, ProgramPlan, VERSION,
};
use crate::control::{Finish, Reply, Verdict};
use crate::daemon::Daemon;
use crate::daemon::reload::generation::Record;
use crate::daemon::reload::inputs::{Found, Lookup};
use crate::daemon::reload::plan::{Difference, Draft, PoolDraft, Way};
use crate::daemon::reload::prepare::Purpose;
use crate::id::{Generation, ListenerName, PoolName};
use crate::listeners;
use crate::supervisor::Scope;

/// A dry run that waits for its reading.
pub(in crate::daemon) struct Dry {
    pub(in crate::daemon) scope: Scope,
    pub(in crate::daemon) reply: Reply,
}

impl Daemon {
    /// Begins a dry run.
    pub(in crate::daemon) fn begin_plan(&mut self, scope: Scope, reply: Reply) {
        let purpose = Purpose::Plan(Box::new(Dry { scope, reply }));
        if self.machine.is_stopping() {
            return end_plan(purpose);
        }
        self.begin_reading(purpose);
    }

    /// Answers a dry run.
    pub(in crate::daemon) fn answer_plan(&self, dry: Dry, found: Result<Found, String>) {
        let (base, rollout_running) = self.base_of_plan();
        let mut plan = Plan {
            version: VERSION,
            generation: self.machine.next_generation().0,
            compared_with: base.0,
            rollout_running,
            ..Plan::default()
        };
        match found.and_then(|found| self.draft(base, &dry.scope, found)) {
            Ok(draft) => self.fill(&mut plan, &draft, &dry.scope),
            Err(refusal) => plan.refusals.push(refusal),
        }
        plan.summary = plan.verdict();
        let verdict = if plan.refusals.is_empty() { Verdict::Done } else { Verdict::Refused };
        let summary = plan.summary.clone();
        dry.reply.finish(Finish { plan: Some(Box::new(plan)), ..Finish::new(verdict, summary) });
    }

    /// The generation on which a reload follows that is asked for now, and whether its rollout still runs.
    fn base_of_plan(&self) -> (Generation, bool) {
        let rollout = self.machine.status().rollout.filter(|rollout| rollout.rolling_back.is_none());
        rollout.map_or((self.committed, false), |rollout| (rollout.generation, true))
    }

    fn fill(&self, plan: &mut Plan, draft: &Draft, scope: &Scope) {
        plan.refusals.clone_from(&draft.refusals);
        let Ok(old) = self.record(draft.base) else { return };
        for (name, listener) in &draft.config.listeners {
            let (listener, refusal) = listener_plan(name, listener, draft, old);
            plan.listeners.push(listener);
            plan.refusals.extend(refusal.map(|refusal| format!("listener {name}: {refusal}")));
        }
        plan.listeners.extend(closed(draft, old));
        plan.listeners.sort_by(|a, b| a.name.cmp(&b.name));
        for (name, pool) in &draft.pools {
            let program = pool.found.as_ref().and_then(|found| found.program.as_ref());
            let program = program.map(|lookup| self.program_plan(name, pool, lookup));
            let missing = program.as_ref().and_then(|program| program.missing.as_ref());
            if let Some(missing) = missing.filter(|_| pool.moves) {
                plan.warnings.push(format!("pool {name}: {missing}"));
            }
            plan.pools.push(pool_plan(name, pool, scope, program));
        }
        plan.log = keys(&draft.change.log);
        plan.at_next_start = keys(&draft.change.at_next_start);
    }

    fn program_plan(&self, name: &PoolName, pool: &PoolDraft, lookup: &Lookup) -> ProgramPlan {
        let located = match &lookup.found {
            Ok(located) => located,
            Err(missing) => {
                let missing = Some(missing.to_string());
                return ProgramPlan { path: None, differs: None, missing };
            }
        };
        let current = pool.current;
        let before = current.and_then(|current| self.generations.get(&current)?.pools.get(name));
        let before = before.and_then(|before| before.programs.remembered(&lookup.command, &lookup.directory));
        let differs = before.and_then(|before| located.differs_from(&before)).zip(current);
        ProgramPlan {
            path: Some(located.program.path.display().to_string()),
            differs: differs.map(|(how, since)| format!("{how} since generation {since}")),
            missing: None,
        }
    }
}

/// The daemon stops: no reload is possible any more, and none is told of.
pub(in crate::daemon) fn end_plan(purpose: Purpose) {
    if let Purpose::Plan(dry) = purpose {
        dry.reply.finish(Finish::new(Verdict::Failed, "the daemon is stopping"));
    }
}

fn pool_plan(name: &PoolName, pool: &PoolDraft, scope: &Scope, program: Option<ProgramPlan>) -> PoolPlan {
    let named = scope.pools.as_ref().is_none_or(|pools| pools.contains(name));
    let (action, reason) = match &pool.difference {
        _ if !named => (PoolAction::Leave, PoolReason::NotNamed),
        Difference::Added => (PoolAction::Add, PoolReason::New),
        Difference::Removed => (PoolAction::Remove, PoolReason::Gone),
        Difference::Changed(_) => (PoolAction::Roll, PoolReason::Changed),
        Difference::Unchanged if pool.moves => (PoolAction::Roll, PoolReason::Always),
        Difference::Unchanged => (PoolAction::Leave, PoolReason::Unchanged),
    };
    let changes = match &pool.difference {
        Difference::Changed(changes) => keys(changes),
        _ => Vec::new(),
    };
    PoolPlan { name: name.to_string(), action, reason, changes, program }
}

/// What happens to a listener of the new configuration, and why its socket cannot be bound, where that is so.
fn listener_plan(
    name: &ListenerName,
    listener: &Listener,
    draft: &Draft,
    old: &Record,
) -> (ListenerPlan, Option<String>) {
    let kept = draft.change.kept.get(name);
    let written = || listener.address.as_ref().map_or_else(|| "inherited".to_owned(), ToString::to_string);
    let (mut tried, mut refusal) = (None, None);
    let (action, address) = match draft.listeners.get(name) {
        Some(Way::Keep(held)) => (ListenerAction::Keep, held.shown()),
        Some(Way::Share(held)) => (ListenerAction::Keep, held.shown()),
        Some(Way::Afresh(_)) => (ListenerAction::BindAfresh, written()),
        Some(Way::Bind) | None => {
            // An address that somebody else of ours holds was refused before, with a better reason.
            let is_refused =
                draft.change.refusals.iter().any(|refusal| refusal.listener.as_ref() == Some(name));
            let is_free = listener.address.as_ref().filter(|_| !is_refused);
            match is_free.map(|address| listeners::is_free(address, &listener.options)) {
                Some(Ok(was_tried)) => tried = Some(was_tried),
                Some(Err(error)) => (tried, refusal) = (Some(true), Some(error.to_string())),
                None => {}
            }
            (ListenerAction::Bind, written())
        }
    };
    let was = kept.map(|kept| &kept.was).filter(|was| *was != name && old.listeners.contains_key(*was));
    let plan = ListenerPlan {
        name: name.to_string(),
        address,
        action,
        was: was.map(ToString::to_string),
        changes: kept.map(|kept| keys(&kept.keys)).unwrap_or_default(),
        tried,
    };
    (plan, refusal)
}

/// The listeners that go.
fn closed(draft: &Draft, old: &Record) -> Vec<ListenerPlan> {
    let shown: BTreeMap<&ListenerName, String> =
        old.listeners.iter().map(|(name, held)| (name, held.shown())).collect();
    let plan = |name: &ListenerName| ListenerPlan {
        name: name.to_string(),
        address: shown.get(name).cloned().unwrap_or_default(),
        action: ListenerAction::Close,
        was: None,
        changes: Vec::new(),
        tried: None,
    };
    draft.change.removed.iter().map(plan).collect()
}

fn keys(changes: &[KeyChange]) -> Vec<KeyPlan> {
    let plan = |change: &KeyChange| {
        let KeyChange { key, old, new, secret } = change.clone();
        KeyPlan { key, old, new, secret }
    };
    changes.iter().map(plan).collect()
}

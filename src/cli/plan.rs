//! The plan of a dry run as text for people. Pure.
//!
//! The first line is the verdict; what follows is what would happen to each pool and listener, and why.

use std::fmt::Write as _;

use super::console::printable;
use super::table::{render, table};
use crate::control::plan::{
    KeyPlan, ListenerAction, ListenerPlan, Plan, PoolAction, PoolPlan, PoolReason, ProgramPlan,
};

/// The whole plan; lines end in newlines.
pub(super) fn plan(plan: &Plan) -> String {
    let mut text = format!("{}\n", printable(&plan.summary));
    if plan.rollout_running {
        let with = format!("{}, which is being rolled out", plan.compared_with);
        push(&mut text, "compared with generation ", &with);
    }
    // The first one is the verdict, unless it has more to say.
    let is_said = |refusal: &str| plan.refusals.len() == 1 && !refusal.contains('\n');
    for refusal in plan.refusals.iter().filter(|refusal| !is_said(refusal)) {
        lines(&mut text, refusal);
    }
    for warning in &plan.warnings {
        lines(&mut text, warning);
    }
    for section in [pools(&plan.pools), listeners(&plan.listeners), keys(plan)] {
        if !section.is_empty() {
            text.push('\n');
            text.push_str(&section);
        }
    }
    text
}

fn pools(pools: &[PoolPlan]) -> String {
    let mut table = table(&["POOL", "PLAN", "WHY"]);
    for pool in pools {
        let (plan, why) = (action(pool.action), reason(pool.reason));
        table.add_row([printable(&pool.name), plan.to_owned(), why.to_owned()]);
        let program = pool.program.iter().flat_map(program);
        for detail in pool.changes.iter().map(key).chain(program) {
            table.add_row([String::new(), String::new(), format!("  {detail}")]);
        }
    }
    render(&table, &[])
}

fn listeners(listeners: &[ListenerPlan]) -> String {
    let mut table = table(&["LISTENER", "PLAN", "ADDRESS", "NOTE"]);
    for listener in listeners {
        let plan = match listener.action {
            ListenerAction::Keep => "keep",
            ListenerAction::Bind => "bind",
            ListenerAction::BindAfresh => "bind afresh",
            ListenerAction::Close => "close",
        };
        let mut notes: Vec<String> =
            listener.was.iter().map(|was| format!("was listener {}", printable(was))).collect();
        if listener.tried == Some(false) {
            notes.push("not tried".to_owned());
        }
        notes.extend(listener.changes.iter().map(key));
        let address = printable(&listener.address);
        table.add_row([printable(&listener.name), plan.to_owned(), address, notes.join("; ")]);
    }
    render(&table, &[])
}

fn keys(plan: &Plan) -> String {
    let mut text = String::new();
    for change in &plan.log {
        push(&mut text, "log.", &key(change));
    }
    for change in &plan.at_next_start {
        push(&mut text, "counts at the next start only: ", &key(change));
    }
    text
}

fn action(action: PoolAction) -> &'static str {
    match action {
        PoolAction::Add => "add",
        PoolAction::Remove => "remove",
        PoolAction::Roll => "roll",
        PoolAction::Leave => "leave",
    }
}

fn reason(reason: PoolReason) -> &'static str {
    match reason {
        PoolReason::New => "it is new",
        PoolReason::Gone => "it is gone",
        PoolReason::Changed => "changed",
        PoolReason::Always => "a reload always rolls",
        PoolReason::Unchanged => "unchanged",
        PoolReason::NotNamed => "not asked for",
    }
}

fn program(program: &ProgramPlan) -> Option<String> {
    let path = program.path.as_deref().map(printable).unwrap_or_default();
    let differs = program.differs.as_ref().map(|how| format!("program {path}: {}", printable(how)));
    differs.or_else(|| program.missing.as_ref().map(|why| printable(why.lines().next().unwrap_or_default())))
}

fn key(change: &KeyPlan) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "none".to_owned(), printable);
    match change.secret {
        true => format!("{}: changed", printable(&change.key)),
        false => format!("{}: {} -> {}", printable(&change.key), value(&change.old), value(&change.new)),
    }
}

fn lines(text: &mut String, what: &str) {
    for line in what.lines() {
        push(text, "  ", &printable(line));
    }
}

fn push(text: &mut String, before: &str, what: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{before}{what}");
}

//! What a reload would do: the document that a dry run answers, `plan` in its `result` line.
//!
//! Pure types. The document is an interface, under the same rules as the status document: members are added,
//! and none is removed, renamed or given another meaning while [`VERSION`] stays. No value that may be secret is
//! ever in it.

use serde::{Deserialize, Serialize};

/// The version of the document.
pub const VERSION: u32 = 1;

/// What a reload would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`]
    pub version: u32,
    /// One line: the verdict.
    pub summary: String,
    /// Why it would be refused, each for a person; none: it would be done.
    pub refusals: Vec<String>,
    /// What it would be done in spite of, each for a person: a program that is missing.
    pub warnings: Vec<String>,
    /// The generation that it would make.
    pub generation: u64,
    /// The generation that it is compared with.
    pub compared_with: u64,
    /// A rollout to that generation is running: what is compared is what will be so when it succeeds.
    pub rollout_running: bool,
    /// Every pool of either configuration, by name. None where the new one cannot be read.
    pub pools: Vec<PoolPlan>,
    /// Every listener of either configuration, by name.
    pub listeners: Vec<ListenerPlan>,
    /// Keys of `[log]` that differ.
    pub log: Vec<KeyPlan>,
    /// Keys that differ and count at the next start only.
    pub at_next_start: Vec<KeyPlan>,
}

/// What would happen to a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPlan {
    /// `[pool.NAME]`
    pub name: String,
    /// What.
    pub action: PoolAction,
    /// Why.
    pub reason: PoolReason,
    /// Its keys that differ.
    pub changes: Vec<KeyPlan>,
    /// Its program; `null` where it is another one for each slot, or where nothing was looked up.
    pub program: Option<ProgramPlan>,
}

/// What would happen to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PoolAction {
    /// Its first workers are started.
    Add,
    /// Its workers are asked to end.
    Remove,
    /// Its workers are replaced.
    Roll,
    /// Nothing.
    Leave,
}

/// Why it would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PoolReason {
    /// The old configuration does not have it.
    New,
    /// The new configuration does not have it.
    Gone,
    /// Its configuration changed, the content of its environment files included.
    Changed,
    /// Nothing changed that was configured, and a reload rolls every pool all the same.
    Always,
    /// Nothing changed, and only changed pools were asked for.
    Unchanged,
    /// Others were asked for.
    NotNamed,
}

/// The program of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramPlan {
    /// Where it is, links in its directory resolved; `null`: it is missing.
    pub path: Option<String>,
    /// How it differs from the one that the workers have, for a person; `null`: it does not, or nobody knows.
    pub differs: Option<String>,
    /// Why it is missing, for a person.
    pub missing: Option<String>,
}

/// What would happen to a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerPlan {
    /// `[listener.NAME]`
    pub name: String,
    /// Its address.
    pub address: String,
    /// What.
    pub action: ListenerAction,
    /// Its name in the old configuration, where that is another one.
    pub was: Option<String>,
    /// Its keys that differ.
    pub changes: Vec<KeyPlan>,
    /// Its address was bound for a moment, to see whether that is possible; `null` where it is not to be bound.
    pub tried: Option<bool>,
}

/// What would happen to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ListenerAction {
    /// The socket stays.
    Keep,
    /// A socket is bound.
    Bind,
    /// The socket's file is gone: it is bound afresh.
    BindAfresh,
    /// The socket is closed when its last worker has ended.
    Close,
}

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPlan {
    /// The key, from its section.
    pub key: String,
    /// The value before, as TOML; `null`: none, or secret.
    pub old: Option<String>,
    /// The value after, as TOML; `null`: none, or secret.
    pub new: Option<String>,
    /// The values differ, and are not shown.
    pub secret: bool,
}

impl Plan {
    /// The verdict in one line, from the rest.
    #[must_use]
    pub fn verdict(&self) -> String {
        if let Some((first, more)) = self.refusals.split_first() {
            let first = first.lines().next().unwrap_or_default();
            let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
            return format!("refused: {first}{more}");
        }
        let mut parts = vec![self.of_pools()];
        parts.extend(self.of_listeners());
        if !self.warnings.is_empty() {
            parts.push("and it would fail".to_owned());
        }
        format!("would {}", parts.join("; "))
    }

    fn of_pools(&self) -> String {
        let count = |action| self.pools.iter().filter(|pool| pool.action == action).count();
        let before = self.pools.len() - count(PoolAction::Add);
        let mut text = format!(
            "roll {} of {before} pool{} to generation {}",
            count(PoolAction::Roll),
            if before == 1 { "" } else { "s" },
            self.generation
        );
        for (action, verb) in [(PoolAction::Add, "add"), (PoolAction::Remove, "remove")] {
            match count(action) {
                0 => {}
                number => text.push_str(&format!(", {verb} {number}")),
            }
        }
        text
    }

    fn of_listeners(&self) -> Option<String> {
        let count = |wanted: &[ListenerAction]| {
            self.listeners.iter().filter(|listener| wanted.contains(&listener.action)).count()
        };
        let bound = count(&[ListenerAction::Bind, ListenerAction::BindAfresh]);
        let counts = [(bound, "bound"), (count(&[ListenerAction::Close]), "closed")];
        let mut said: Vec<String> = Vec::new();
        for (number, verb) in counts.into_iter().filter(|(number, _)| *number > 0) {
            let plural = if number == 1 { "" } else { "s" };
            let noun = if said.is_empty() { format!(" listener{plural}") } else { String::new() };
            said.push(format!("{number}{noun} {verb}"));
        }
        (!said.is_empty()).then(|| said.join(", "))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The example of the page.
    fn documented() -> Plan {
        let page = include_str!("../../docs/control.md");
        let example = page.split("```json plan\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let plan: Plan = serde_json::from_str(example).unwrap();
        let members: serde_json::Value = serde_json::from_str(example).unwrap();
        assert_eq!(serde_json::to_value(&plan).unwrap(), members, "every member is documented, and no other");
        plan
    }

    #[test]
    fn the_documented_plan_is_one_and_its_verdict_follows_from_it() {
        let plan = documented();
        assert_eq!((plan.version, plan.verdict()), (VERSION, plan.summary.clone()));
        assert!(!plan.pools.is_empty() && !plan.listeners.is_empty() && !plan.log.is_empty());
    }

    #[test]
    fn a_verdict_counts_what_happens() {
        let mut plan = Plan { generation: 5, ..Plan::default() };
        assert_eq!(plan.verdict(), "would roll 0 of 0 pools to generation 5");
        let pool = |action| PoolPlan {
            name: "web".to_owned(),
            action,
            reason: PoolReason::Always,
            changes: Vec::new(),
            program: None,
        };
        plan.pools = [PoolAction::Roll, PoolAction::Add, PoolAction::Remove].map(pool).to_vec();
        let listener = |action| ListenerPlan {
            name: "http".to_owned(),
            address: String::new(),
            action,
            was: None,
            changes: Vec::new(),
            tried: None,
        };
        plan.listeners = [ListenerAction::Bind, ListenerAction::Keep].map(listener).to_vec();
        assert_eq!(
            plan.verdict(),
            "would roll 1 of 2 pools to generation 5, add 1, remove 1; 1 listener bound"
        );
        plan.listeners.extend([ListenerAction::BindAfresh, ListenerAction::Close].map(listener));
        assert!(plan.verdict().ends_with("; 2 listeners bound, 1 closed"), "{}", plan.verdict());
        plan.warnings = vec!["pool web: no program".to_owned()];
        assert!(plan.verdict().ends_with("; and it would fail"), "{}", plan.verdict());
        plan.refusals = vec!["name: needs a restart\nhint: x".to_owned(), "b".to_owned()];
        assert_eq!(plan.verdict(), "refused: name: needs a restart (and 1 more)");
    }
}

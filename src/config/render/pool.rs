//! The sections of a pool.

use std::time::Duration;

use super::{Out, duration, mode, quote, timeout};
use crate::config::model::{
    Channel, Dialect, Limit, Policy, Pool, Program, Ready, Resource, RestartPolicy, RolloutPolicy, Share,
};
use crate::config::signal;
use crate::config::units::{format_duration, format_size};
use crate::config::values::RESOURCES;

pub(super) fn pool(out: &mut Out, path: &str, pool: &Pool) {
    out.section(path);
    out.list("command", pool.program.command.iter().map(|word| quote(word)));
    out.list("listeners", pool.listeners.iter().map(|name| quote(name.as_str())));
    channel(out, &pool.channel);
    policy(out, &pool.policy);
    program(out, &pool.program, pool.policy.watchdog.is_some());
    out.section(&format!("{path}.rollout"));
    rollout(out, &pool.policy.rollout);
    out.section(&format!("{path}.restart"));
    restart(out, &pool.policy.restart);
}

fn channel(out: &mut Out, channel: &Channel) {
    match &channel.dialect {
        Dialect::Handover => out.key("channel", r#""handover""#),
        Dialect::Node { stop_message } => {
            out.key("channel", r#""node""#);
            out.maybe("stop_message", stop_message.as_deref().map(quote));
        }
        Dialect::None => return out.key("channel", r#""none""#),
    }
    out.list("allow_listen", channel.allow_listen.iter().map(|address| quote(&address.to_string())));
}

fn policy(out: &mut Out, policy: &Policy) {
    out.key("workers", policy.workers);
    out.key("min_ready", policy.min_ready);
    match policy.ready {
        Ready::Notify => out.key("ready", r#""notify""#),
        Ready::Accept => out.key("ready", r#""accept""#),
        Ready::Exec => out.key("ready", r#""exec""#),
        Ready::Fd(fd) => {
            out.key("ready", r#""fd""#);
            out.key("ready_fd", fd);
        }
    }
    out.key("start_timeout", timeout(policy.start_timeout));
    out.key("stop_timeout", timeout(policy.stop_timeout));
    out.key("drain_timeout", timeout(policy.drain_timeout));
    match signal::name(policy.stop_signal) {
        Ok(name) => out.key("stop_signal", quote(name)),
        Err(number) => out.key("stop_signal", number),
    }
    out.maybe("watchdog", policy.watchdog.map(duration));
    out.maybe("ping_timeout", policy.ping_timeout.map(duration));
}

fn program(out: &mut Out, program: &Program, watchdog: bool) {
    out.maybe("watchdog_pid", watchdog.then_some(program.watchdog_pid));
    out.key("listen_pid", program.listen_pid);
    out.maybe("directory", program.directory.as_deref().map(quote));
    out.maybe("user", program.user.as_ref().map(|user| quote(&user.name)));
    out.maybe("group", program.group.as_ref().map(|group| quote(&group.name)));
    out.list("supplementary_groups", program.supplementary_groups.iter().map(|group| quote(&group.name)));
    out.maybe("umask", program.umask.map(mode));
    out.maybe("nice", program.nice);
    out.table(
        "limits",
        program.limits.iter().map(|(resource, value)| (resource_name(*resource), limit(*resource, value))),
    );
    out.key("no_new_privileges", program.no_new_privileges);
    out.table("environment", program.environment.iter().map(|(name, value)| (name.clone(), quote(value))));
    out.list(
        "environment_files",
        program.environment_files.iter().map(|file| {
            let optional = if file.optional { "-" } else { "" };
            quote(&format!("{optional}{}", file.path.display()))
        }),
    );
}

fn resource_name(resource: Resource) -> String {
    RESOURCES
        .iter()
        .find(|(_, known)| *known == resource)
        .map(|(name, _)| (*name).to_owned())
        .unwrap_or_default()
}

fn limit(resource: Resource, limit: &Limit) -> String {
    let amount = |amount: Option<u64>| match (amount, resource) {
        (None, _) => "infinity".to_owned(),
        (Some(seconds), Resource::Cpu) => format_duration(Duration::from_secs(seconds)),
        (Some(count), Resource::NoFile | Resource::NProc) => count.to_string(),
        (Some(bytes), _) => format_size(bytes),
    };
    let (soft, hard) = (amount(limit.soft), amount(limit.hard));
    quote(&if soft == hard { soft } else { format!("{soft}:{hard}") })
}

fn rollout(out: &mut Out, rollout: &RolloutPolicy) {
    out.key("max_surge", share(rollout.max_surge));
    out.key("max_unavailable", share(rollout.max_unavailable));
    out.key("bake_time", duration(rollout.bake_time));
    out.key("max_failures", rollout.max_failures);
    out.key("deadline", timeout(rollout.deadline));
    out.key("max_draining", rollout.max_draining);
}

fn share(share: Share) -> String {
    match share {
        Share::Count(count) => count.to_string(),
        Share::Percent(percent) => format!("\"{percent}%\""),
    }
}

fn restart(out: &mut Out, restart: &RestartPolicy) {
    out.key("stable_after", duration(restart.stable_after));
    out.key("backoff", duration(restart.backoff));
    out.key("backoff_max", duration(restart.backoff_max));
    out.key("burst", restart.burst);
}

//! One pool: its program and its policy.

use crate::config::error::Wrong;
use crate::config::facts::Facts;
use crate::config::model::{
    Channel, Dialect, GroupId, Policy, Pool, Program, Ready, RestartPolicy, RolloutPolicy, UserId,
};
use crate::config::resolve::{group, no_such, platform, user, workable};
use crate::config::schema::{ChannelKind, PoolKeys, ReadyKind, RestartKeys, RolloutKeys};
use crate::config::values::{Account, Workers};
use crate::config::walk::{Given, Log, Placed, Stands};
use crate::id::ListenerName;

/// The first fd after standard input, output and error.
const FIRST_LISTENER_FD: usize = 3;

pub(super) fn resolve(keys: &PoolKeys, facts: &dyn Facts, log: &mut Log) -> Option<Pool> {
    let program = program(keys, facts, log);
    let policy = policy(keys, facts, log);
    let channel = channel(keys, log);
    platform::pool(keys, facts.platform(), log);
    workable::pool(keys, log);
    let listeners = keys.listeners.iter().map(|name| ListenerName::new(name.as_str())).collect();
    Some(Pool { program: program?, listeners, channel: channel?, policy: policy? })
}

fn program(keys: &PoolKeys, facts: &dyn Facts, log: &mut Log) -> Option<Program> {
    let command = command(keys, log);
    let user = user(&keys.user, facts, log);
    let group = group(&keys.group, facts, log);
    let user = user.filter(|user| has_group(user.as_ref(), &keys.user, &group, facts, log));
    let supplementary_groups = groups(&keys.supplementary_groups, facts, log);
    if keys.watchdog.is_absent() && keys.watchdog_pid.is_given() {
        log.key(&keys.watchdog_pid.at, Wrong::new("does nothing without `watchdog`"));
    }
    Some(Program {
        command: command?,
        directory: keys.directory.cloned().map(|path| path.0),
        user: user?,
        group: group?,
        supplementary_groups: supplementary_groups?,
        umask: keys.umask.cloned().map(|mode| mode.0),
        nice: keys.nice.cloned().and_then(|number| number.get()),
        limits: keys.limits.0.clone(),
        no_new_privileges: keys.no_new_privileges.value,
        environment: keys.environment.0.clone(),
        environment_files: keys.environment_files.iter().map(|file| file.0.clone()).collect(),
        listen_pid: keys.listen_pid.value,
        watchdog_pid: keys.watchdog_pid.value,
    })
}

/// A user that the database knows nothing of has no group, and root's would be a present; `chroot(1)` refuses that, too.
fn has_group(
    user: Option<&UserId>,
    key: &Given<Account>,
    group: &Option<Option<GroupId>>,
    facts: &dyn Facts,
    log: &mut Log,
) -> bool {
    let Some((user, at)) = user.zip(key.place()) else { return true };
    let is_missing = user.gid.is_none() && matches!(group, Some(None)) && facts.own_user() != Some(user.uid);
    if is_missing {
        let reason = format!("the user database has no entry for {}, so its group is not known", user.uid);
        log.value(at, Wrong::new(reason).hint(format!("add `group`, for example group = {}", user.uid)));
    }
    !is_missing
}

fn command(keys: &PoolKeys, log: &mut Log) -> Option<Vec<String>> {
    let command = keys.command.value()?;
    match command.first() {
        None => {
            log.value(
                &command.at,
                Wrong::new("names no program").hint("for example [\"/usr/bin/myapp\", \"--serve\"]"),
            );
        }
        Some(program) if program.0.is_empty() => log.value(&program.at, Wrong::new("names no program")),
        Some(program) if program.0.contains(" -") && command.len() == 1 => {
            let words: Vec<String> = program.0.split_whitespace().map(crate::config::render::quote).collect();
            let hint = format!("each argument is a text of its own: [{}]", words.join(", "));
            log.value(&program.at, Wrong::new("is one text with the program and its arguments").hint(hint));
        }
        Some(_) => return Some(command.iter().map(|word| word.0.clone()).collect()),
    }
    None
}

fn groups(accounts: &[Placed<Account>], facts: &dyn Facts, log: &mut Log) -> Option<Vec<GroupId>> {
    let found: Vec<Option<GroupId>> = accounts
        .iter()
        .map(|account| {
            let group = facts.group(&account.0);
            if group.is_none() {
                log.value(&account.at, no_such("group", &account.0));
            }
            group
        })
        .collect();
    found.into_iter().collect()
}

fn channel(keys: &PoolKeys, log: &mut Log) -> Option<Channel> {
    let kind = keys.channel.value;
    let nothing = |why: &str| Wrong::new(format!("does nothing {why}"));
    if keys.channel.is_stand_in() {
        return None;
    }
    if let Some(at) = keys.stop_message.place()
        && kind != ChannelKind::Node
    {
        let hint = "in handover's own protocol a worker is told to drain";
        log.key(at, nothing("without `channel = \"node\"`").hint(hint));
    }
    let spoken = [keys.ping_timeout.place(), keys.allow_listen.place()];
    for at in spoken.into_iter().flatten().filter(|_| kind == ChannelKind::Nothing) {
        log.key(at, nothing("with `channel = \"none\"`"));
    }
    let dialect = match kind {
        ChannelKind::Handover => Dialect::Handover,
        ChannelKind::Node => Dialect::Node { stop_message: keys.stop_message.cloned() },
        ChannelKind::Nothing => Dialect::None,
    };
    Some(Channel {
        dialect,
        allow_listen: keys.allow_listen.iter().map(|address| address.value.clone()).collect(),
    })
}

fn policy(keys: &PoolKeys, facts: &dyn Facts, log: &mut Log) -> Option<Policy> {
    let workers = match keys.workers.value {
        Workers::Count(count) => count,
        Workers::Auto => facts.cores().clamp(1, Workers::MAX),
    };
    let ready = ready(keys, log);
    let min_ready = keys.min_ready.get()?;
    if min_ready > workers && !keys.workers.is_stand_in() {
        let reason = format!("{min_ready} cannot be ready where there are {workers} workers");
        log.value(&keys.min_ready.at, Wrong::new(reason));
    }
    if !keys.workers.is_stand_in() {
        nothing_can_move(&keys.rollout, workers, log);
    }
    let rollout = rollout(&keys.rollout);
    let restart = restart(&keys.restart, log);
    Some(Policy {
        workers,
        min_ready,
        ready: ready?,
        start_timeout: keys.start_timeout.value,
        stop_timeout: keys.stop_timeout.value,
        drain_timeout: keys.drain_timeout.cloned().unwrap_or(keys.stop_timeout.value),
        stop_signal: keys.stop_signal.0,
        watchdog: keys.watchdog.cloned().map(|watchdog| watchdog.0),
        ping_timeout: keys.ping_timeout.cloned().map(|timeout| timeout.0),
        rollout: rollout?,
        restart: restart?,
    })
}

fn ready(keys: &PoolKeys, log: &mut Log) -> Option<Ready> {
    match (keys.ready.value, &keys.ready_fd) {
        _ if keys.ready.is_stand_in() => None,
        (_, Given::Faulty(_)) => None,
        (ReadyKind::Notify, Given::Absent) => Some(Ready::Notify),
        (ReadyKind::Exec, Given::Absent) => Some(Ready::Exec),
        (ReadyKind::Accept, Given::Absent) if keys.listeners.is_empty() && !keys.listeners.is_stand_in() => {
            let reason = "\"accept\" needs a listener that the workers can be seen to wait on";
            let hint =
                "add `listeners`, or take \"notify\" (it sends READY=1) or \"exec\" (it stays for bake_time)";
            log.value(&keys.ready.at, Wrong::new(reason).hint(hint));
            None
        }
        (ReadyKind::Accept, Given::Absent) => Some(Ready::Accept),
        (ReadyKind::Notify | ReadyKind::Exec | ReadyKind::Accept, Given::Value(fd)) => {
            log.key(&fd.at, Wrong::new("does nothing without `ready = \"fd\"`"));
            None
        }
        (ReadyKind::Fd, Given::Absent) => {
            let hint = format!("add ready_fd = {}", FIRST_LISTENER_FD + keys.listeners.len());
            log.value(&keys.ready.at, Wrong::new("\"fd\" needs `ready_fd`, the number of the fd").hint(hint));
            None
        }
        (ReadyKind::Fd, Given::Value(fd)) => {
            let number: i32 = fd.value.get()?;
            let taken = usize::try_from(number)
                .ok()
                .and_then(|fd| keys.listeners.get(fd.checked_sub(FIRST_LISTENER_FD)?));
            if let Some(listener) = taken {
                let reason = format!("{number} is the fd of listener {:?}", listener.value);
                let hint = format!("take {} or more", FIRST_LISTENER_FD + keys.listeners.len());
                log.value(&fd.at, Wrong::new(reason).hint(hint));
            }
            Some(Ready::Fd(number))
        }
    }
}

fn nothing_can_move(keys: &RolloutKeys, workers: u32, log: &mut Log) {
    let (surge, unavailable) = (&keys.max_surge, &keys.max_unavailable);
    let both_are_0 = surge.of_rounded_up(workers) == 0 && unavailable.of_rounded_down(workers) == 0;
    if both_are_0 && !surge.is_stand_in() && !unavailable.is_stand_in() {
        let reason = match workers {
            1 => "with 1 worker, `max_surge` and `max_unavailable` both come to 0: nothing could move"
                .to_owned(),
            _ => format!(
                "with {workers} workers, `max_surge` and `max_unavailable` both come to 0: nothing could move"
            ),
        };
        let hint = "start first is max_surge = 1; stop first is max_surge = 0 with max_unavailable = 1";
        log.value(&surge.at, Wrong::new(reason).hint(hint));
    }
}

fn rollout(keys: &RolloutKeys) -> Option<RolloutPolicy> {
    Some(RolloutPolicy {
        max_surge: keys.max_surge.value,
        max_unavailable: keys.max_unavailable.value,
        bake_time: keys.bake_time.value,
        max_failures: keys.max_failures.get()?,
        deadline: keys.deadline.value,
        max_draining: keys.max_draining.get()?,
    })
}

fn restart(keys: &RestartKeys, log: &mut Log) -> Option<RestartPolicy> {
    let (first, last) = (&keys.backoff, &keys.backoff_max);
    if first.0 > last.0 && !first.is_stand_in() && !last.is_stand_in() {
        let given = if last.is_given() { last } else { first };
        log.value(&given.at, Wrong::new("`backoff` is longer than `backoff_max`"));
    }
    Some(RestartPolicy {
        stable_after: keys.stable_after.0,
        backoff: first.0,
        backoff_max: last.0,
        burst: keys.burst.get()?,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::facts::{Facts, Fake};
    use crate::config::model::{GroupId, UserId};
    use crate::config::{Faults, parse};

    /// That of [`Fake`], where handover runs as this user.
    struct RunBy(u32);

    impl Facts for RunBy {
        fn cores(&self) -> u32 {
            Fake.cores()
        }

        fn user(&self, name_or_uid: &str) -> Option<UserId> {
            Fake.user(name_or_uid)
        }

        fn group(&self, name_or_gid: &str) -> Option<GroupId> {
            Fake.group(name_or_gid)
        }

        fn own_user(&self) -> Option<u32> {
            Some(self.0)
        }
    }

    fn read(keys: &str, own: u32) -> Result<(), Faults> {
        let text = format!("[pool.web]\ncommand = [\"/bin/x\"]\n{keys}\n");
        parse("a.toml", &text, "a", &RunBy(own)).map(drop)
    }

    #[test]
    fn a_number_without_an_entry_is_a_user_that_needs_a_group_unless_it_is_our_own() {
        for keys in ["user = 1000770001", "user = \"1000770001\""] {
            let faults = read(keys, 0).unwrap_err().to_string();
            assert!(faults.contains("no entry for 1000770001") && faults.contains("add `group`"), "{faults}");
            read(keys, 1_000_770_001).unwrap();
            read(&format!("{keys}\ngroup = 5"), 0).unwrap();
        }
        read("user = 990\nsupplementary_groups = [7, \"8\"]", 0).unwrap();
        let faults = read("user = 1000770001\ngroup = \"nobodys\"", 0).unwrap_err();
        assert_eq!(faults.iter().count(), 1, "of the group only: {faults}");
    }

    #[test]
    fn what_system_calls_take_for_none_is_no_user_and_no_group() {
        for number in ["4294967295", "65535"] {
            for value in [number.to_owned(), format!("\"{number}\"")] {
                for keys in [format!("user = {value}\ngroup = 5"), format!("group = {value}")] {
                    let faults = read(&keys, 0).unwrap_err().to_string();
                    assert!(faults.contains("not the number of a user or group"), "{faults}");
                }
            }
        }
        assert!(read("user = -1", 0).is_err() && read("user = 4294967296\ngroup = 5", 0).is_err());
    }
}

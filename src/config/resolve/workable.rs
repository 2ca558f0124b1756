//! What is well-formed, and cannot work: told now, and not by a rollout that is always rolled back or a worker that can
//! open no file.
//!
//! Only what holds whatever the program and the machine are. What may be right for some program stays allowed.

use std::path::Path;
use std::time::Duration;

use crate::config::error::{Fault, Wrong};
use crate::config::model::{Address, Resource, UnixName};
use crate::config::schema::{ChannelKind, File, PoolKeys, RolloutKeys};
use crate::config::units::format_duration;
use crate::config::values::Positive;
use crate::config::walk::{Given, Log, Place};

/// Standard input, output and error.
const STANDARD_FDS: u64 = 3;
/// What any program must be able to open: its libraries, and what it accepts.
const SPARE_FDS: u64 = 1;
/// Within less, no process can be asked and answer: it takes its turn with others.
const TURN: Duration = Duration::from_millis(10);

/// The keys of a pool.
pub(super) fn pool(keys: &PoolKeys, log: &mut Log) {
    rollout(&keys.rollout, log);
    open_files(keys, log);
    too_little(keys, log);
    for (key, what) in [(&keys.watchdog, "send `WATCHDOG=1`"), (&keys.ping_timeout, "answer a ping")] {
        in_turn(key, what, log);
    }
}

/// The first new worker is watched for `bake_time`, and until then nothing else moves.
fn rollout(keys: &RolloutKeys, log: &mut Log) {
    let (deadline, bake_time) = (&keys.deadline, &keys.bake_time);
    let Some(ends) = deadline.value.duration().filter(|ends| *ends <= bake_time.value) else { return };
    if deadline.is_stand_in() || bake_time.is_stand_in() {
        return;
    }
    let (ends, bakes) = (format_duration(ends), format_duration(bake_time.value));
    let reason = format!(
        "every rollout would be rolled back: it may take {ends} (`deadline`), and its first worker must stay ready for {bakes} \
         (`bake_time`)"
    );
    let hint = "a deadline has room for bake_time and for the start of every worker";
    let (given, other) = if deadline.is_given() {
        (&deadline.at, bake_time.is_given().then_some(&bake_time.at))
    } else {
        (&bake_time.at, None)
    };
    let fault = Fault::new(given.value.clone(), &given.path, Wrong::new(reason).hint(hint));
    log.add(match other {
        Some(other) => fault.with_also(other.value.clone(), "longer than that"),
        None => fault,
    });
}

/// A worker has its fds before it runs, and each that it opens needs a number below the limit.
fn open_files(keys: &PoolKeys, log: &mut Log) {
    let Some((soft, at)) = soft_limit(keys, Resource::NoFile) else { return };
    if keys.listeners.is_stand_in() || keys.channel.is_stand_in() {
        return;
    }
    let listeners = u64::try_from(keys.listeners.len()).unwrap_or(u64::MAX);
    let channel = u64::from(keys.channel.value != ChannelKind::Nothing);
    let ready = keys.ready_fd.value().and_then(|fd| fd.get::<u64>());
    let given = STANDARD_FDS + listeners + channel + u64::from(ready.is_some());
    let needed = (given + SPARE_FDS).max(ready.map_or(0, |fd| fd + 1));
    if soft >= needed {
        return;
    }
    let hint = format!("nofile = {needed} or more; programs that serve many want thousands");
    let (reason, at) = match (&keys.ready_fd, ready) {
        (Given::Value(fd), Some(number)) if number >= soft && soft > given => {
            let reason =
                format!("is beyond the limit of open files: `limits.nofile` allows fds below {soft}");
            (reason, &fd.at)
        }
        _ => (format!("a worker could open nothing: it is given {given} fds, and {soft} are allowed"), at),
    };
    log.value(at, Wrong::new(reason).hint(hint));
}

/// The soft limit, and where it is given.
fn soft_limit(keys: &PoolKeys, resource: Resource) -> Option<(u64, &Place)> {
    let limit = keys.limits.0.get(&resource)?;
    Some((limit.soft?, keys.limits.1.get(&resource)?))
}

/// Without any of these no program runs. (`core`, `memlock`, `fsize` and `nproc` may well be 0.)
fn too_little(keys: &PoolKeys, log: &mut Log) {
    let none = [
        (Resource::As, "no program fits into no address space"),
        (Resource::Cpu, "the kernel takes 0 for 1 second, and then ends the worker"),
        (Resource::Data, "no program runs without memory"),
        (Resource::Stack, "no program runs without a stack"),
    ];
    for (resource, reason) in none {
        if let Some((0, at)) = soft_limit(keys, resource) {
            log.value(at, Wrong::new(reason).hint("\"infinity\" is no limit"));
        }
    }
}

fn in_turn(key: &Given<Positive>, what: &str, log: &mut Log) {
    if let Some(time) = key.value().filter(|time| time.0 < TURN) {
        let reason = format!("no worker can {what} within {}", format_duration(time.0));
        let hint = format!("at least {}; \"10s\" is usual", format_duration(TURN));
        log.value(&time.at, Wrong::new(reason).hint(hint));
    }
}

/// The pid file is put in its place by its name, over whatever is there.
pub(super) fn pid_file(file: &File, log: &mut Log) {
    let Some(pid_file) = file.pid_file.value() else { return };
    let path = &pid_file.0;
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        let wrong = Wrong::new("is a directory's path, not a file's").hint("for example \"/run/myapp/pid\"");
        log.value(&pid_file.at, wrong);
        return;
    }
    if let Some((what, place)) = other_use(file, path) {
        let wrong = Wrong::new(format!("{what}, which the pid file would replace"));
        let fault =
            Fault::new(pid_file.at.value.clone(), &pid_file.at.path, wrong.hint("give it a path of its own"));
        log.add(fault.with_also(place.value.clone(), "used here"));
    }
}

/// What else the configuration has at this path.
fn other_use<'a>(file: &'a File, path: &Path) -> Option<(&'static str, &'a Place)> {
    let is_there = |address: &Address| matches!(address, Address::Unix(_, UnixName::Path(at)) if at == path);
    let listeners = file.listener.value().into_iter().flat_map(|listeners| listeners.values());
    let mut sockets = listeners.filter_map(|listener| listener.address.value());
    if let Some(address) = sockets.find(|address| is_there(&address.value)) {
        return Some(("is the path of a listener's socket", &address.at));
    }
    let pools = || file.pool.value().into_iter().flat_map(|pools| pools.values());
    let mut files = pools().flat_map(|pool| pool.environment_files.iter());
    if let Some(read) = files.find(|read| read.0.path == path) {
        return Some(("is an environment file", &read.at));
    }
    let mut allowed = pools().flat_map(|pool| pool.allow_listen.iter());
    let socket = allowed.find(|address| is_there(&address.value))?;
    Some(("is the path of a socket that workers may ask for", &socket.at))
}

#[cfg(test)]
mod tests {
    use crate::config::facts::Fake;
    use crate::config::parse;

    /// The faults of a pool with these keys, as `KEY: REASON`.
    fn faults(keys: &str) -> Vec<String> {
        let text = format!(
            "[listener.a]\naddress = 'unix:///run/a'\n\
             [pool.web]\ncommand = ['/bin/x']\nlisteners = ['a']\n{keys}\n"
        );
        match parse("a.toml", &text, "a", &Fake) {
            Ok(_) => Vec::new(),
            Err(faults) => {
                assert!(faults.iter().all(|fault| fault.hint.is_some()), "{faults}");
                faults.iter().map(ToString::to_string).collect()
            }
        }
    }

    #[track_caller]
    fn refuses(keys: &str, key: &str, reason: &str) {
        let faults = faults(keys);
        let [fault] = &faults[..] else { panic!("{keys}: {faults:?}") };
        assert!(fault.starts_with(&format!("{key}: ")) && fault.contains(reason), "{keys}: {fault}");
    }

    #[track_caller]
    fn takes(keys: &str) {
        assert_eq!(faults(keys), [""; 0], "{keys}");
    }

    #[test]
    fn a_rollout_has_more_time_than_its_first_worker_takes() {
        refuses("rollout.deadline = '1s'", "pool.web.rollout.deadline", "rolled back");
        refuses("rollout.deadline = '2s'", "pool.web.rollout.deadline", "rolled back");
        refuses("rollout.bake_time = '10min'", "pool.web.rollout.bake_time", "rolled back");
        refuses(
            "rollout = { deadline = '1h', bake_time = '2h' }",
            "pool.web.rollout.deadline",
            "rolled back",
        );
        takes("rollout.deadline = '2001ms'");
        takes("rollout = { bake_time = '1d', deadline = 'infinity' }");
        takes("rollout = { bake_time = 0, deadline = '1ms' }");
    }

    #[test]
    fn a_worker_can_open_something_beside_what_it_is_given() {
        refuses("limits.nofile = 3", "pool.web.limits.nofile", "it is given 5 fds, and 3 are allowed");
        refuses("limits.nofile = 5", "pool.web.limits.nofile", "it is given 5 fds, and 5 are allowed");
        takes("limits.nofile = 6");
        refuses("limits.nofile = '5:100'", "pool.web.limits.nofile", "5 are allowed");
        refuses("channel = 'none'\nlimits.nofile = 4", "pool.web.limits.nofile", "it is given 4 fds");
        takes("channel = 'none'\nlimits.nofile = 5");
        let ready = "ready = 'fd'\nready_fd = 60\n";
        refuses(
            &format!("{ready}limits.nofile = 60"),
            "pool.web.ready_fd",
            "`limits.nofile` allows fds below 60",
        );
        refuses(&format!("{ready}limits.nofile = 5"), "pool.web.limits.nofile", "it is given 6 fds");
        takes(&format!("{ready}limits.nofile = 61"));
        takes("limits.nofile = 'infinity'");
    }

    #[test]
    fn what_no_program_can_do_without_is_not_0() {
        for resource in ["as", "cpu", "data", "stack"] {
            refuses(&format!("limits.{resource} = 0"), &format!("pool.web.limits.{resource}"), "");
        }
        takes("limits = { core = 0, memlock = 0, fsize = 0, nproc = 0 }");
    }

    #[test]
    fn nobody_is_asked_more_often_than_one_can_answer() {
        refuses("watchdog = '9ms'", "pool.web.watchdog", "within 9ms");
        refuses("ping_timeout = '1us'", "pool.web.ping_timeout", "within 1us");
        takes("watchdog = '10ms'\nping_timeout = '10ms'");
    }

    #[test]
    fn a_signal_that_ends_no_program_is_not_sent_to_end_one() {
        for signal in ["CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG"] {
            refuses(&format!("stop_signal = '{signal}'"), "pool.web.stop_signal", "SIG");
        }
        refuses(&format!("stop_signal = {}", libc::SIGCHLD), "pool.web.stop_signal", "SIGCHLD");
        for number in [-1, 0, 65, i64::MAX] {
            refuses(&format!("stop_signal = {number}"), "pool.web.stop_signal", "is not a signal");
        }
        if cfg!(target_os = "linux") {
            refuses("stop_signal = 32", "pool.web.stop_signal", "C library");
        }
        // Some programs take these for a wish to end in good order.
        for signal in ["WINCH", "QUIT", "USR1", "USR2", "INT", "HUP", "KILL"] {
            takes(&format!("stop_signal = '{signal}'"));
        }
    }

    #[test]
    fn the_pid_file_replaces_nothing_else() {
        let with = |path: &str| {
            let text = format!(
                "pid_file = '{path}'\n[listener.a]\naddress = 'unix:///run/a'\n[pool.web]\ncommand = ['/bin/x']\n\
                 listeners = ['a']\nenvironment_files = ['/etc/b']\nallow_listen = ['unix:///run/c']\n"
            );
            parse("a.toml", &text, "a", &Fake).map(drop).map_err(|faults| faults.to_string())
        };
        for path in ["/run/a", "/etc/b", "/run/c", "/run/", "/"] {
            let fault = with(path).unwrap_err();
            assert!(fault.starts_with("a.toml:1:12: pid_file: is "), "{fault}");
            assert!(fault.contains("hint: "), "{fault}");
        }
        with("/run/pid").unwrap();
    }
}

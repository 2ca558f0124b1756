//! What people see of the configuration: faults, the canonical print, the shipped files, the reference page.
//!
//! `tests/golden/config/NAME.toml` with faults has `NAME.txt` beside it, one without has `NAME.print`. After a
//! wanted change, `HANDOVER_BLESS=1 cargo test --test config` writes these and `docs/configuration.md` anew.

#![allow(unreachable_pub, reason = "a test program")]

#[path = "config/validator.rs"]
mod validator;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use handover::config::model::{Config, GroupId, UserId};
use handover::config::{Facts, editor, parse, reference, render};
use proptest::prelude::*;

/// A machine of four cores with one service user and one group beside root.
struct Machine;

impl Facts for Machine {
    fn cores(&self) -> u32 {
        4
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        let (name, uid) = match name_or_uid {
            "root" | "0" => ("root", 0),
            "myapp" | "990" => ("myapp", 990),
            _ => return None,
        };
        Some(UserId { name: name.into(), uid, gid: Some(uid), home: "/".into(), shell: "/bin/sh".into() })
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        match name_or_gid {
            "www-data" | "33" => Some(GroupId { name: "www-data".into(), gid: 33 }),
            _ => None,
        }
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares with a file, or writes it when asked to.
fn compare(path: &Path, actual: &str) {
    if std::env::var_os("HANDOVER_BLESS").is_some() {
        fs::write(path, actual).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; `HANDOVER_BLESS=1 cargo test --test config` takes what is now:\n{actual}",
        path.display()
    );
}

/// What an editor would mark in a text that is TOML.
fn marked_by_editors(text: &str) -> Vec<String> {
    static SCHEMA: LazyLock<serde_json::Value> =
        LazyLock::new(|| serde_json::from_str(&editor::json_schema()).expect("it is JSON"));
    let table: toml::Table = text.parse().expect("it is TOML");
    validator::faults(&SCHEMA, &serde_json::to_value(table).expect("it fits into JSON"))
}

/// Editors take what handover takes.
#[track_caller]
fn check_editors(text: &str) {
    assert_eq!(marked_by_editors(text), [""; 0], "{text}");
}

fn check_round_trip(config: &Config) {
    let text = render::canonical(config);
    let again = parse("canonical.toml", &text, "x", &Machine)
        .unwrap_or_else(|faults| panic!("{}\n{text}", faults.render(false)));
    assert_eq!(&again, config, "{text}");
    assert!(!text.contains(|c| handover::visible::is_hidden(c) && c != '\n'), "{text:?}");
    assert_eq!(render::canonical(&again), text);
    check_editors(&text);
}

#[test]
fn golden_files_are_judged_as_written_down() {
    let mut seen = 0;
    for entry in fs::read_dir(file("tests/golden/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let (name, stem) = (path.file_name().unwrap(), path.file_stem().unwrap());
        match parse(&name.to_string_lossy(), &read(&path), &stem.to_string_lossy(), &Machine) {
            Ok(config) => {
                compare(&path.with_extension("print"), &render::canonical(&config));
                check_round_trip(&config);
                check_editors(&read(&path));
            }
            Err(faults) => {
                assert!(faults.iter().all(|fault| !fault.reason.is_empty()));
                compare(&path.with_extension("txt"), &faults.render(false));
            }
        }
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} golden files were found");
}

#[test]
fn the_plain_form_has_a_line_for_each_fault() {
    let text = "[pool.web]\ncommand = []\nworkers = 0\n";
    let faults = parse("a.toml", text, "a", &Machine).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "a.toml:2:11: pool.web.command: names no program\n  hint: for example [\"/usr/bin/myapp\", \"--serve\"]\n\
         a.toml:3:11: pool.web.workers: 0 is not between 1 and 10000\n  hint: \"auto\" is the number of cores"
    );
    let first = faults.iter().next().unwrap();
    assert_eq!((first.line, first.column, first.key.as_str()), (2, 11, "pool.web.command"));
}

#[test]
fn the_shipped_configurations_are_valid() {
    let mut paths = vec![file("config/handover.toml")];
    paths.extend(fs::read_dir(file("config/examples")).unwrap().map(|entry| entry.unwrap().path()));
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let stem = path.file_stem().unwrap().to_string_lossy();
        match parse(&path.to_string_lossy(), &read(path), &stem, &Machine) {
            Ok(config) => check_round_trip(&config),
            Err(faults) => panic!("{}", faults.render(false)),
        }
        check_editors(&read(path));
    }
}

#[test]
fn editors_mark_what_is_misspelt_or_of_another_type() {
    let golden = |name: &str| marked_by_editors(&read(&file(&format!("tests/golden/config/{name}.toml"))));
    for (name, reasons) in
        [("unknown_keys", "no such key"), ("types", "takes "), ("not_supported_yet", "supported")]
    {
        let text = read(&file(&format!("tests/golden/config/{name}.toml")));
        let faults = parse(name, &text, "x", &Machine).unwrap_err();
        let marked = golden(name);
        for fault in faults.iter().filter(|fault| fault.reason.contains(reasons)) {
            let key = fault.key.replace('"', "");
            assert!(
                marked.iter().any(|mark| mark.starts_with(&format!(".{key}"))),
                "{}: {marked:#?}",
                fault.key
            );
        }
    }
    for wrong in [
        "address = '8080'",
        "address = ':8080'",
        "address = 'http://0.0.0.0:80'",
        "address = '/run/x'",
        "mode = 'dispatch'",
        "backlog = 0",
        "nodelay = 1",
        "socket_mode = 'rw'",
        "balance = 'source-ip'",
        "adress = 'tcp://0.0.0.0:80'",
    ] {
        let marked = marked_by_editors(&format!("[listener.a]\n{wrong}\n[pool.p]\ncommand = ['/x']\n"));
        assert_eq!(marked.len(), 1, "{wrong}: {marked:?}");
    }
    for wrong in [
        "workers = '4'",
        "workers = 'many'",
        "workers = 0",
        "workers = { min = 1, max = 2 }",
        "start_timeout = '30 parsecs'",
        "start_timeout = 0",
        "start_timeout = 1.5",
        "watchdog = 'infinity'",
        "ready = 'soon'",
        "stop_signal = 'SIGTERN'",
        "nice = 20",
        "umask = '0888'",
        "directory = 'srv'",
        "limits = { files = 3 }",
        "limits = { nofile = 'many' }",
        "environment = { A = 1 }",
        "environment = { '1' = 'x' }",
        "environment_files = ['default']",
        "rollout.max_surge = '101%'",
        "rollout.bake_time = 'infinity'",
        "recycle.max_age = '1h'",
        "channel = 'json'",
        "stop_message = 15",
        "ping_timeout = 'infinity'",
        "allow_listen = 'tcp://0.0.0.0:80'",
        "allow_listen = [':80']",
    ] {
        let marked = marked_by_editors(&format!("[pool.p]\ncommand = ['/x']\n{wrong}\n"));
        assert_eq!(marked.len(), 1, "{wrong}: {marked:?}");
    }
    for wrong in ["", "[pool]", "[pool.Web]\ncommand = ['x']", "[pool.web]", "[pool.web]\ncommand = '/bin/x'"]
    {
        assert_eq!(marked_by_editors(wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn the_shipped_configuration_names_every_key() {
    let shipped = read(&file("config/handover.toml"));
    for row in reference::markdown().lines().filter(|line| line.starts_with("| `")) {
        let key = row.split('`').nth(1).unwrap().rsplit('.').next().unwrap();
        let named = shipped.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ', '[']);
            line.starts_with(&format!("{key} =")) || line.starts_with(&format!("pool.web.{key}]"))
        });
        assert!(named, "{key} is missing in config/handover.toml");
    }
}

#[test]
fn uncommented_the_shipped_configuration_is_refused_only_for_what_is_not_built() {
    let shipped = read(&file("config/handover.toml"));
    let uncommented: Vec<&str> = shipped
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let faults = parse("handover.toml", &uncommented.join("\n"), "x", &Machine).unwrap_err();
    for fault in faults.iter() {
        assert_eq!(fault.reason, "is not supported yet", "{}", faults.render(false));
    }
    assert_eq!(faults.iter().count(), 4, "{}", faults.render(false));
}

#[test]
fn the_reference_page_is_the_one_that_the_program_prints() {
    compare(&file("docs/configuration.md"), &reference::markdown());
}

#[test]
fn the_reference_page_begins_with_a_valid_configuration() {
    let page = reference::markdown();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    check_round_trip(&parse("example", example, "x", &Machine).unwrap_or_else(|faults| panic!("{faults}")));
}

/// Every declared key with values of all forms that it takes.
const LISTENER_KEYS: &[&str] = &[
    "backlog = 4096",
    "v6only = true",
    "free_bind = true",
    "defer_accept = '5s'",
    "fast_open = 16",
    "keepalive = false",
    "nodelay = true",
    "receive_buffer = '1MiB'",
    "send_buffer = 65537",
    "nonblocking = true",
    "device = 'eth0'",
    "mark = 4294967295",
];

const POOL_KEYS: &[&str] = &[
    "workers = 'auto'",
    "min_ready = 1",
    "ready = 'exec'",
    "start_timeout = '1min 30s'",
    "stop_timeout = 'infinity'",
    "drain_timeout = '1.5h'",
    "stop_signal = 'QUIT'",
    "stop_signal = 40",
    "watchdog = '333ms'\nwatchdog_pid = false",
    "listen_pid = false",
    "directory = '/srv/${HANDOVER_SLOT}'",
    "user = 990",
    "group = 'www-data'",
    "supplementary_groups = ['www-data', 33]",
    "umask = 0o027",
    "nice = -5",
    "limits = { nofile = 65536, core = 'infinity', memlock = '64K:1M', cpu = '5min', nproc = '10:infinity' }",
    "no_new_privileges = true",
    "environment = { A = \"\\u0001\\t\\n\\\"'\\u007F\\u202E\\U000E0041\", B_1 = '$$ ${HANDOVER_NAME} $X' }",
    "environment_files = ['-/etc/default/x', '/etc/y']",
    "rollout.max_surge = '100%'",
    "rollout.max_unavailable = 1",
    "rollout.bake_time = 0",
    "rollout.max_failures = 3",
    "rollout.deadline = '1w'",
    "rollout.max_draining = 1",
    "restart.stable_after = 20",
    "restart.backoff = '1ms'",
    "restart.backoff_max = '1d'",
    "restart.burst = 1",
    "channel = 'node'\nstop_message = 'shut\\u0001down \"now\"'",
    "ping_timeout = '10s'",
    "allow_listen = ['localhost:9000', 'unix:@control', 'udp://[::1]:53']",
];

fn some_of(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(keys, 0..=keys.len())
}

fn file_with(listener: &[&str], pool: &[&str]) -> String {
    format!(
        "[listener.\"a b\"]\naddress = 'tcp://[::1]:80'\n{}\n[listener.c]\naddress = 'unix:///run/c'\n\
         socket_mode = '0660'\nsocket_user = 'myapp'\nsocket_group = 33\n[pool.p]\ncommand = ['/bin/x', 'y z']\n\
         listeners = ['c', 'a b']\n{}\n[log]\nlevel = 'trace'\nworkers = 'inherit'\nformat = 'json'\n",
        listener.join("\n"),
        pool.join("\n"),
    )
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_an_equal_configuration(listener in some_of(LISTENER_KEYS), pool in some_of(POOL_KEYS)) {
        // The two forms of stop_signal exclude each other.
        let pool: Vec<&str> = match pool.contains(&POOL_KEYS[6]) {
            true => pool.into_iter().filter(|key| *key != POOL_KEYS[7]).collect(),
            false => pool,
        };
        let text = file_with(&listener, &pool);
        match parse("a.toml", &text, "a", &Machine) {
            Ok(config) => check_round_trip(&config),
            Err(faults) => panic!("{}", faults.render(false)),
        }
        check_editors(&text);
    }

    #[test]
    fn editors_never_refuse_a_value_that_handover_takes(
        key in proptest::sample::select(vec![
            ("pool.p", "start_timeout"), ("pool.p", "watchdog"), ("pool.p", "umask"), ("pool.p", "stop_signal"),
            ("pool.p.rollout", "max_surge"), ("pool.p.limits", "cpu"), ("pool.p.limits", "core"), ("pool.p", "workers"),
            ("listener.l", "address"), ("listener.l", "receive_buffer"), ("pool.p.rollout", "bake_time"),
        ]),
        original in proptest::sample::select(VALUES.to_vec()),
        change: proptest::sample::Index,
        insert in "[ \\t0-9a-zA-Z%:./\\[\\]µ@+-]{0,2}",
    ) {
        let mut value: Vec<char> = original.chars().collect();
        value.splice(change.index(value.len())..=change.index(value.len()), insert.chars());
        let value: String = value.into_iter().collect();
        for value in [format!("\"{}\"", value.escape_default()), value, format!("\"{original}\"")] {
            let (section, key) = key;
            let text = format!(
                "[{section}]\n{key} = {value}\n{}",
                if section == "pool.p" { "command = ['x']\n" } else { "[pool.p]\ncommand = ['x']\n" }
            );
            let text = match section {
                "listener.l" => text + "listeners = ['l']\n",
                _ => text,
            };
            if parse("a.toml", &text, "a", &Machine).is_ok() {
                check_editors(&text);
            }
        }
    }

    #[test]
    fn a_half_written_file_gives_faults_or_a_configuration(cut: proptest::sample::Index) {
        let whole = file_with(LISTENER_KEYS, POOL_KEYS);
        let end = (0..=cut.index(whole.len())).rev().find(|end| whole.is_char_boundary(*end)).unwrap_or(0);
        judge(&whole[..end]);
    }

    #[test]
    fn a_mutated_file_gives_faults_or_a_configuration(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), "[\\[\\]{}=.,'\"\n #0-9a-zé$-]{0,3}"), 1..8),
    ) {
        let mut text: Vec<char> = file_with(LISTENER_KEYS, POOL_KEYS).chars().collect();
        for (place, insert) in changes {
            let place = place.index(text.len());
            text.splice(place..(place + 1).min(text.len()), insert.chars());
        }
        judge(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_gives_faults_or_a_configuration(text in "\\PC{0,200}") {
        judge(&text);
    }
}

/// Values of all kinds, to start from.
const VALUES: &[&str] = &[
    "30s",
    "5min 20s",
    "1.5 h",
    " infinity ",
    "2d 3us",
    "7 µs 5 M",
    "0660",
    "0o660",
    "SIGTERM",
    "term",
    "15",
    "25 %",
    "100%",
    "1024:65536",
    "1h:infinity",
    "512 MiB",
    "7B",
    "1.5G",
    "auto",
    "localhost:80",
    "tcp://[::1]:8080",
    "unix:/run/x",
    "unix-dgram://@x",
    "1.2.3.4:5",
    "0x10",
    "-1",
    "1_000",
];

/// Neither reading nor showing may panic, and a refusal says why.
fn judge(text: &str) {
    match parse("a.toml", text, "a", &Machine) {
        Ok(config) => {
            check_round_trip(&config);
            check_editors(text);
        }
        Err(faults) => {
            assert!(faults.iter().count() > 0, "refused without a reason:\n{text}");
            assert!(!faults.render(true).is_empty() && !faults.to_string().is_empty());
        }
    }
}

//! What newcomers do wrong, and what they are told: each mistake is made, and what was typed and what came back stands
//! in `tests/golden/mistakes`; where the advice is a change of the file, it is followed, and then there is no fault.
//! `docs/troubleshooting.md` explains them, and shows no message that is not among them.
//!
//! A file is shown as the user wrote it; beside that the test lets a daemon give up after its first failure. `/srv/myapp`
//! stands for a scratch directory, `127.0.0.1:8080` for an address of the test, `PID` for a process.
//!
//! `HANDOVER_BLESS=1 cargo test --test mistakes` writes the files anew.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

#[path = "mistakes/desk.rs"]
mod desk;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use desk::{Desk, golden_directory};
use support::machine::{cannot_be_nobody, skipped};

const POOL: &str = "[pool.web]\ncommand = [\"/bin/sleep\", \"100\"]\n";
const LISTENER: &str = "[listener.http]\naddress = \"tcp://127.0.0.1:8080\"\n\n";

/// A part of a file, and what to write instead.
type Change = (&'static str, &'static str);

/// Mistakes in a file that `check` finds: the name, the file, and what to change in it.
const FAULTS: &[(&str, &str, &[Change])] = &[
    ("address-port-only", "[listener.http]\naddress = \"8080\"\n", &[("\"8080\"", "\"127.0.0.1:8080\"")]),
    ("address-number", "[listener.http]\naddress = 8080\n", &[("8080", "\"tcp://0.0.0.0:8080\"")]),
    ("address-no-host", "[listener.http]\naddress = \":8080\"\n", &[("\":8080\"", "\"0.0.0.0:8080\"")]),
    (
        "address-host-name",
        "[listener.http]\naddress = \"example.org:80\"\n",
        &[("example.org:80", "0.0.0.0:80")],
    ),
    ("address-url", "[listener.http]\naddress = \"http://0.0.0.0:80\"\n", &[("http://", "tcp://")]),
    ("address-path", "[listener.http]\naddress = \"/run/myapp.sock\"\n", &[("/run", "unix:///run")]),
    (
        "listener-unused",
        "[listener.web]\naddress = \"tcp://0.0.0.0:80\"\n[pool.a]\ncommand = [\"/bin/cat\"]\n",
        &[("[\"/bin/cat\"]", "[\"/bin/cat\"]\nlisteners = [\"web\"]")],
    ),
    (
        "listener-misspelt",
        "[listener.http]\naddress = \"tcp://0.0.0.0:80\"\n[pool.a]\ncommand = [\"/bin/cat\"]\nlisteners = [\"htpp\"]\n",
        &[("htpp", "http")],
    ),
    (
        "command-text",
        "[pool.web]\ncommand = \"/usr/bin/node server.js\"\n",
        &[("\"/usr/bin/node server.js\"", "[\"/usr/bin/node\", \"server.js\"]")],
    ),
    ("number-quoted", "[pool.web]\ncommand = [\"/bin/cat\"]\nworkers = \"4\"\n", &[("\"4\"", "4")]),
    ("key-misspelt", "[pool.web]\ncomand = [\"/bin/cat\"]\n", &[("comand", "command")]),
    (
        "key-elsewhere",
        "workers = 4\n[pool.web]\ncommand = [\"/bin/cat\"]\n",
        &[("workers = 4\n", ""), ("cat\"]", "cat\"]\nworkers = 4")],
    ),
    ("key-of-another-program", "[pool.web]\nexec = [\"/bin/cat\"]\n", &[("exec", "command")]),
    ("section-without-name", "[pool]\ncommand = [\"/bin/cat\"]\n", &[("[pool]", "[pool.web]")]),
    ("section-of-its-own", "[web]\ncommand = [\"/bin/cat\"]\n", &[("[web]", "[pool.web]")]),
    ("section-double-brackets", "[[pool]]\ncommand = [\"/bin/cat\"]\n", &[("[[pool]]", "[pool.web]")]),
    (
        "section-twice",
        "[pool.web]\ncommand = [\"/bin/cat\"]\n[pool.web]\nworkers = 2\n",
        &[("\n[pool.web]", "")],
    ),
    (
        "duration-unquoted",
        "[pool.web]\ncommand = [\"/bin/cat\"]\nstop_timeout = 30s\n",
        &[("30s", "\"30s\"")],
    ),
    ("duration-zero", "[pool.web]\ncommand = [\"/bin/cat\"]\nstop_timeout = 0\n", &[("0", "\"1ms\"")]),
    ("boolean", "[pool.web]\ncommand = [\"/bin/cat\"]\nlisten_pid = False\n", &[("False", "false")]),
    ("text-unquoted", "[pool.web]\ncommand = [\"/bin/cat\"]\nuser = root\n", &[("root", "\"root\"")]),
    ("quotes-typographic", "[pool.web]\ncommand = [“/bin/cat”]\n", &[("“", "\""), ("”", "\"")]),
    ("quote-missing", "[pool.web]\ncommand = [\"/bin/cat]\n", &[("cat]", "cat\"]")]),
    ("backslash", "[pool.web]\ncommand = [\"/bin/grep\", \"\\d+\"]\n", &[("\\d", "\\\\d")]),
    ("json", "{\n  \"pool\": {\n    \"web\": { \"command\": [\"/bin/cat\"] }\n  }\n}\n", &[]),
    ("yaml", "pool:\n  web:\n    command: [\"/bin/cat\"]\n", &[]),
    ("colon", "[pool.web]\ncommand: [\"/bin/cat\"]\n", &[(":", " =")]),
    ("unit-file", "[Service]\nExecStart=/usr/bin/node server.js\n", &[]),
    (
        "environment-list",
        "[pool.web]\ncommand = [\"/bin/cat\"]\nenvironment = [\"RUST_LOG=info\"]\n",
        &[("[\"RUST_LOG=info\"]", "{ RUST_LOG = \"info\" }")],
    ),
    (
        "environment-number",
        "[pool.web]\ncommand = [\"/bin/cat\"]\nenvironment = { PORT = 8080 }\n",
        &[("8080", "\"8080\"")],
    ),
    (
        "user-unknown",
        "[pool.web]\ncommand = [\"/bin/cat\"]\nuser = \"no-such-user\"\n",
        &[("no-such-user", "root")],
    ),
    (
        "not-built-yet",
        "[pool.web]\ncommand = [\"/bin/cat\"]\nworkers = { min = 2, max = 8 }\n",
        &[("{ min = 2, max = 8 }", "2")],
    ),
    ("empty", "", &[]),
];

#[test]
fn a_file_with_a_mistake_says_what_to_change_and_then_is_without_fault() {
    for (name, text, changes) in FAULTS {
        let mut desk = Desk::new();
        // Faults of a listener are shown in a file that is otherwise whole.
        let rest = if text.contains("[listener.") && !text.contains("[pool") {
            "\n[pool.web]\ncommand = [\"/bin/cat\"]\nlisteners = [\"http\"]\n"
        } else {
            ""
        };
        let text = format!("{text}{rest}");
        desk.write("myapp.toml", &text);
        desk.show("myapp.toml");
        desk.type_in("handover check myapp.toml");
        desk.compare(name);
        if changes.is_empty() {
            continue;
        }
        let mut fixed = text;
        for (from, to) in *changes {
            assert!(fixed.contains(from), "{name}: {from}");
            fixed = fixed.replacen(from, to, 1);
        }
        desk.write("myapp.toml", &fixed);
        let said = desk.type_in("handover check myapp.toml");
        assert!(said.contains("no faults"), "{name}: the advice was followed: {fixed}{said}");
    }
}

#[test]
fn what_is_no_text_file_says_what_it_is() {
    let mut desk = Desk::new();
    let utf16: Vec<u8> = "\u{feff}[pool.web]\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    desk.write("myapp.toml", utf16);
    desk.type_in("handover check myapp.toml");
    desk.write("myapp.toml", b"[pool.web]\ncommand = [\"/usr/bin/caf\xe9\"]\n");
    desk.type_in("handover check myapp.toml");
    desk.type_in("handover check .");
    desk.type_in("handover check yourapp.toml");
    desk.compare("file");
    // These are no mistakes, though they look like such.
    for good in
        ["\u{feff}[pool.web]\ncommand = [\"/bin/cat\"]\n", "[pool.web]\r\ncommand = [\"/bin/cat\"]\r\n"]
    {
        desk.write("myapp.toml", good);
        assert!(desk.type_in("handover check myapp.toml").contains("no faults"));
    }
}

#[test]
fn a_wrong_command_line_says_what_was_meant() {
    let mut desk = Desk::new();
    for line in [
        "handover run",
        "handover run -l 127.0.0.1:8080 ./server --fast",
        "handover run -l 8080 -- ./server",
        "handover myapp.toml",
        "handover start",
        "handover relaod",
        "handover reload web",
        "handover scale 4",
    ] {
        desk.type_in(line);
    }
    desk.compare("command-line");
}

/// Programs that cannot be started, or do not serve: the name, and the pool.
const PROGRAMS: &[(&str, &str)] = &[
    ("program-relative", "command = [\"server.js\"]\n"),
    ("program-shell-line", "command = [\"cd /srv && node server.js\"]\n"),
    ("program-missing", "command = [\"/srv/myapp/missing\"]\n"),
    ("program-not-executable", "command = [\"/srv/myapp/text\"]\n"),
    ("program-without-interpreter", "command = [\"/srv/myapp/plain\"]\n"),
    ("program-interpreter-missing", "command = [\"/srv/myapp/node\"]\n"),
    ("program-windows-lines", "command = [\"/srv/myapp/windows\"]\n"),
    ("program-directory", "command = [\"/srv/myapp\"]\n"),
    ("directory-missing", "command = [\"/bin/cat\"]\ndirectory = \"/srv/myapp/current\"\n"),
    (
        "program-never-ready",
        "command = [\"/bin/sleep\", \"100\"]\nlisteners = [\"http\"]\nstart_timeout = \"300ms\"\n",
    ),
    ("program-binds", "command = [\"/srv/myapp/binds\"]\nlisteners = [\"http\"]\n"),
    ("program-into-background", "command = [\"/srv/myapp/background\"]\n"),
];

#[test]
fn a_program_that_cannot_be_started_or_does_not_serve_says_why() {
    for (name, pool) in PROGRAMS {
        let mut desk = Desk::new();
        desk.write("text", "#!/bin/sh\n");
        for (file, text) in [
            ("plain", "echo hello\n"),
            ("node", "#!/usr/bin/no-such-interpreter\n"),
            ("windows", "#!/bin/sh\r\nexit 0\r\n"),
            ("binds", "#!/bin/sh\necho 'bind: Address already in use' >&2\nexit 1\n"),
            ("background", "#!/bin/sh\nsleep 1 &\nexit 0\n"),
        ] {
            desk.write(file, text);
            fs::set_permissions(desk.path(file), fs::Permissions::from_mode(0o755)).expect("our file");
        }
        let listener = if pool.contains("listeners") { LISTENER } else { "" };
        desk.write("myapp.toml", format!("{listener}[pool.web]\n{pool}"));
        desk.show("myapp.toml");
        desk.give_up_at_once("myapp.toml");
        desk.type_in("handover run myapp.toml");
        desk.compare(name);
    }
}

#[test]
fn an_address_that_cannot_be_had_says_who_has_it_or_what_is_missing() {
    let mut desk = Desk::new();
    let taken = std::net::TcpListener::bind(desk.address()).expect("it is the test's own");
    desk.write("myapp.toml", format!("{LISTENER}{POOL}listeners = [\"http\"]\n"));
    desk.show("myapp.toml");
    desk.type_in("handover run myapp.toml");
    drop(taken);
    desk.write(
        "myapp.toml",
        format!("[listener.http]\naddress = \"tcp://203.0.113.7:80\"\n\n{POOL}listeners = [\"http\"]\n"),
    );
    desk.show("myapp.toml");
    desk.type_in("handover run myapp.toml");
    desk.write(
        "myapp.toml",
        format!("[listener.http]\naddress = \"unix:///srv/myapp/none/s\"\n\n{POOL}listeners = [\"http\"]\n"),
    );
    desk.show("myapp.toml");
    desk.type_in("handover run myapp.toml");
    desk.write("myapp.toml", format!("{POOL}environment_files = [\"/srv/myapp/environment\"]\n"));
    desk.show("myapp.toml");
    desk.type_in("handover run myapp.toml");
    desk.compare("start-refused");
}

#[test]
fn who_is_not_root_hears_what_needs_root() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if cannot_be_nobody() || skipped("privileged ports", first.trim().parse().unwrap_or(1024) <= 80) {
        return;
    }
    let mut desk = Desk::new().without_rights();
    desk.write("myapp.toml", format!("{}{POOL}listeners = [\"http\"]\n", LISTENER.replace("8080", "80")));
    desk.show("myapp.toml");
    desk.type_in("handover run myapp.toml");
    desk.write("myapp.toml", format!("{POOL}ready = \"exec\"\nuser = \"root\"\n"));
    desk.show("myapp.toml");
    desk.give_up_at_once("myapp.toml");
    desk.type_in("handover run myapp.toml");
    desk.compare("not-root");
}

#[test]
fn a_client_that_finds_no_daemon_or_several_says_where_it_looked() {
    if cannot_be_nobody() {
        return;
    }
    let mut desk = Desk::new().without_rights();
    desk.type_in("handover reload");
    desk.type_in("handover reload --name myapp");
    desk.type_in("handover reload --socket /srv/myapp/none.sock");
    desk.type_in("handover reload --config none.toml");
    let text = format!("{POOL}ready = \"exec\"\n\n[pool.web.rollout]\nbake_time = \"10ms\"\n");
    for name in ["myapp", "other"] {
        desk.write(&format!("{name}.toml"), &text);
        desk.start(name);
    }
    desk.type_in("handover reload");
    desk.type_in("handover run myapp.toml");
    desk.type_in("handover reload --name myapp --pool wbe");
    desk.type_in("handover cancel --name myapp");
    desk.compare("clients");
}

#[test]
fn a_reload_that_is_refused_says_why_and_changes_nothing() {
    let mut desk = Desk::new();
    let text = format!(
        "{LISTENER}{POOL}listeners = [\"http\"]\nready = \"exec\"\n\n[pool.web.rollout]\nbake_time = \"10ms\"\n"
    );
    desk.write("myapp.toml", &text);
    desk.start("myapp");
    for (from, to) in [
        ("8080\"\n", "8080\"\nfree_bind = true\n"),
        ("[listener", "name = \"yourapp\"\n[listener"),
        ("tcp://127.0.0.1:8080", "tcp://0.0.0.0:8080"),
        ("ready", "raedy"),
    ] {
        desk.note(&format!(
            "# in myapp.toml: {} becomes {}",
            from.trim_end(),
            to.trim_end().replace('\n', ", ")
        ));
        desk.write("myapp.toml", text.replacen(from, to, 1));
        desk.type_in("handover reload");
    }
    desk.write("myapp.toml", &text);
    assert!(desk.type_in("handover reload").contains("generation 2 serves"));
    desk.forget_last();
    desk.compare("reload-refused");
}

/// Fenced blocks of the page whose first line names a golden file: ```` ```text NAME ````.
fn shown() -> Vec<(String, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md");
    let page = fs::read_to_string(page).expect("the page");
    let blocks = page.split("```text ").skip(1).map(|block| block.split("```").next().expect("a block ends"));
    blocks
        .filter_map(|block| block.split_once('\n'))
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn the_page_shows_what_is_said_and_leaves_no_mistake_out() {
    let shown = shown();
    for (name, text) in &shown {
        let golden = fs::read_to_string(golden_directory().join(format!("{name}.txt")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut lines = golden.lines().map(str::trim);
        for line in text.lines().map(str::trim) {
            assert!(lines.any(|said| said == line), "{name} does not say, in this order: {line}");
        }
    }
    let named: BTreeSet<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
    let mut count = 0;
    for entry in fs::read_dir(golden_directory()).expect("it is there") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(
            named.contains(name.trim_end_matches(".txt")),
            "{name} is not explained in docs/troubleshooting.md"
        );
        count += 1;
    }
    assert!(count >= 20, "only {count} mistakes");
}

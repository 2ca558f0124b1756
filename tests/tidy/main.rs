//! The mechanical part of the style: who may use whom, what is pure, where `unsafe` may stand, how long a file
//! may be. The reasons are in `docs/architecture.md`.
//!
//! The rules look at source text, comments and strings taken out, so they need no build and see code that is
//! compiled for another platform only. Each rule is tried on a planted fault as well.

#![allow(unreachable_pub, reason = "a test program")]

mod arrows;
mod examples;
mod lexer;
mod rules;

use std::fs;
use std::path::Path;

use rules::{Fault, Source};

/// What is wrong with one file.
type Rule = fn(&Source) -> Vec<Fault>;

/// All sources under `directory`, with paths relative to the package.
fn sources(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root).expect("it lies under the root").display().to_string();
                found.push(Source::new(&relative, &fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

#[track_caller]
fn assert_none(faults: &[Fault]) {
    assert!(faults.is_empty(), "\n{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>());
}

fn check(rule: Rule, directories: &[&str]) {
    let sources: Vec<Source> = directories.iter().flat_map(|directory| sources(directory)).collect();
    assert!(!sources.is_empty(), "no sources in {directories:?}");
    assert_none(&sources.iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn modules_use_only_what_stands_below_them() {
    check(arrows::forbidden, &["src"]);
}

#[test]
fn every_module_has_its_arrows() {
    check(arrows::unknown, &["src"]);
}

#[test]
fn pure_modules_touch_nothing_outside() {
    check(rules::impure, &["src"]);
}

#[test]
fn unsafe_code_stands_in_os_only() {
    check(rules::unsafe_outside_os, &["src"]);
}

#[test]
fn no_file_is_too_long() {
    check(rules::too_long, &["src", "tests", "benches", "examples"]);
}

#[test]
fn every_file_opens_with_its_why() {
    check(rules::without_why, &["src", "tests", "benches", "examples"]);
}

#[test]
fn every_public_item_shows_how_it_is_used() {
    check(examples::missing, &["src"]);
}

#[test]
fn nothing_is_left_to_do() {
    check(rules::unfinished, &["src", "tests", "benches", "examples"]);
}

#[test]
fn tests_wait_on_events_and_do_not_sleep() {
    check(rules::sleeping, &["src", "tests", "benches"]);
}

/// Each planted fault, and the one rule that must see it.
#[test]
fn the_rules_catch_planted_faults() {
    let long = "//! Why.\n".to_owned() + &"fn f() {}\n".repeat(rules::LINES_MAX);
    let planted: [(Rule, &str, &str); 18] = [
        (arrows::forbidden, "src/supervisor/slot.rs", "//! Why.\nuse crate::os::clock;"),
        (arrows::forbidden, "src/supervisor/slot.rs", "//! Why.\nuse crate::{id, daemon::run};"),
        (arrows::forbidden, "src/supervisor/slot.rs", "//! Why.\nuse crate::config::schema::File;"),
        (arrows::forbidden, "src/os/clock.rs", "//! Why.\nuse super::super::id::Generation;"),
        (arrows::forbidden, "src/os/mod.rs", "//! Why.\nuse super::id::Generation;"),
        (arrows::forbidden, "src/worker/session.rs", "//! Why.\nfn f() { crate::supervisor::f() }"),
        (arrows::unknown, "src/utils/mod.rs", "//! Why."),
        (examples::missing, "src/pipe/item.rs", "//! Why.\n/// Said.\npub const fn f<T>() {}"),
        (
            examples::missing,
            "src/worker/x.rs",
            "//! Why.\nimpl<T> X<T> {\n    /// Said.\n    pub async fn f() {}\n}",
        ),
        (rules::impure, "src/supervisor/slot.rs", "//! Why.\nuse std::time::{Duration, Instant};"),
        (rules::impure, "src/wire/codec.rs", "//! Why.\nuse std::{fmt, fs::File};"),
        (rules::impure, "src/listeners/plan.rs", "//! Why.\nfn f() { tracing::info!(\"\") }"),
        (rules::impure, "src/config/resolve.rs", "//! Why.\nfn f() { std::env::var(\"\"); }"),
        (rules::unsafe_outside_os, "src/daemon/run.rs", "//! Why.\nfn f() { unsafe { g() } }"),
        (rules::too_long, "src/daemon/run.rs", &long),
        (rules::without_why, "src/daemon/run.rs", "use std::fmt;"),
        (rules::unfinished, "src/daemon/run.rs", "//! Why.\nfn f() { todo!() }"),
        (rules::sleeping, "tests/process/stop.rs", "//! Why.\nfn f() { std::thread::sleep(TIME) }"),
    ];
    for (rule, path, text) in planted {
        assert_eq!(rule(&Source::new(path, text)).len(), 1, "not caught: {path}: {text:.60}");
    }
}

/// What looks like a fault and is none.
#[test]
fn the_rules_leave_good_code_alone() {
    let good = [
        ("src/supervisor/slot.rs", "//! Why.\nuse crate::config::model::Policy;\nuse super::event::Event;"),
        (
            "src/supervisor/slot.rs",
            "//! Why.\n// use crate::os;\n/* crate::os */ const S: &str = \"crate::os unsafe\";",
        ),
        ("src/supervisor/slot.rs", "//! Why.\n#[cfg(test)]\nmod tests {\n    use crate::daemon::run;\n}\n"),
        ("src/supervisor/slot/tests.rs", "//! Why.\nuse crate::os::clock;"),
        (
            "src/config/model.rs",
            "//! Why.\nuse std::net::{IpAddr, SocketAddr};\nuse std::{fmt, path::PathBuf};",
        ),
        ("src/os/clock.rs", "//! Why.\nfn f<'a>(x: &'a u8) -> char { unsafe { g(x) }; '\"' }"),
        ("tests/scripted_worker/http.rs", "//! Why.\nfn f() { std::thread::sleep(TIME) }"),
        (
            "src/pipe/item.rs",
            "//! Why.\n/// ```\n/// f()\n/// ```\n#[must_use]\npub fn f() {}\npub(super) fn g() {}",
        ),
        ("src/daemon/run.rs", "//! Why.\nconst T: &str = r#\"todo!() \"unsafe\" \"#;"),
    ];
    let rules = [
        arrows::forbidden,
        arrows::unknown,
        rules::impure,
        rules::unsafe_outside_os,
        examples::missing,
        rules::without_why,
        rules::unfinished,
        rules::sleeping,
    ];
    for (path, text) in good {
        let source = Source::new(path, text);
        assert_none(&rules.iter().flat_map(|rule| rule(&source)).collect::<Vec<_>>());
    }
}

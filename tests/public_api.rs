//! What programs may build on is listed in `docs/public-api`, and changes there are changes of the promise: a line that is gone is a major
//! version. `HANDOVER_BLESS=1` writes the lists anew.
//!
//! They are made by `cargo-public-api`, 0.52 for the toolchains whose rustdoc writes JSON of version 57 (Rust 1.95 to 1.97); where it is not
//! installed this is skipped. No type of a module that is no part of the promise may stand in them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Sets of features, and where their list is.
const LISTS: [(&str, &str); 5] = [
    ("supervisor", "supervisor.txt"),
    ("worker", "worker.txt"),
    ("worker,tokio,tracing", "worker-tokio-tracing.txt"),
    ("pipe", "pipe.txt"),
    ("pipe,tokio", "pipe-tokio.txt"),
];

/// The promise; all else is for the command.
const PROMISED: [&str; 4] = ["handover::embed", "handover::exit", "handover::pipe", "handover::worker"];
const NOT_PROMISED: &str = "handover::worker::session";

/// What the compiler makes of a `derive` for itself.
const NOISE: [&str; 3] = ["TrivialClone", "StructuralPartialEq", "assert_fields_are_eq"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that rustdoc sees, hidden or not, one item a line.
fn everything(features: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    // DEBUG/deps/NAME: a target directory of its own, so that nothing is built twice because of this.
    let target = exe.ancestors().nth(3).unwrap().join("public-api");
    let mut rustdoc = Command::new(env!("CARGO"));
    rustdoc.args([
        "rustdoc",
        "--quiet",
        "--locked",
        "--lib",
        "--no-default-features",
        "--features",
        features,
    ]);
    rustdoc.arg("--target-dir").arg(&target).arg("--");
    rustdoc.args(["-Zunstable-options", "--output-format", "json", "--document-hidden-items"]);
    run(rustdoc.current_dir(root()).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTDOCFLAGS"));
    let mut list = Command::new("cargo-public-api");
    list.args(["public-api", "-ss", "--rustdoc-json"]).arg(target.join("doc/handover.json"));
    run(list.current_dir(root()))
}

/// Where the path of one item ends.
fn path(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next().unwrap_or_default()
}

/// What a line is about: the item, or the type that has the trait.
fn subject(line: &str) -> &str {
    let about = match line.split_once(" for handover::") {
        Some((_, rest)) if line.starts_with("impl") => &line[line.len() - rest.len() - "handover::".len()..],
        _ => line.find("handover").map_or("", |at| &line[at..]),
    };
    path(about)
}

fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Which modules give on types of which others, under the same name. Of two that could, the first does.
const GIVEN_ON: [(&str, &str); 10] = [
    ("handover::wire", "handover::worker"),
    ("handover::id", "handover::worker"),
    ("handover::wire", "handover::embed"),
    ("handover::id", "handover::embed"),
    ("handover::control::event", "handover::embed::event"),
    ("handover::control::answer", "handover::embed::event"),
    ("handover::control::document", "handover::embed::status"),
    ("handover::control::plan", "handover::embed::plan"),
    ("handover::control", "handover::embed"),
    ("handover::daemon", "handover::embed"),
];

/// And those that get another name, or come from deeper.
const RENAMED: [(&str, &str); 5] = [
    ("handover::supervisor::Retirement", "handover::embed::event::Retirement"),
    ("handover::supervisor::StopEffect", "handover::embed::event::StopEffect"),
    ("handover::supervisor::WorkerState", "handover::embed::status::WorkerState"),
    ("handover::daemon::FromWorker", "handover::embed::Message"),
    ("handover::observe::render::Stream", "handover::embed::Stream"),
];

/// What a type is called here, and by programs.
fn given_on(all: &str) -> Vec<(String, String)> {
    let types = |module: &str| -> BTreeSet<String> {
        let found = all.lines().filter_map(|line| {
            let item = line.trim_start_matches("#[non_exhaustive] ");
            let item = item.strip_prefix("pub enum ").or_else(|| item.strip_prefix("pub struct "))?;
            let name = path(item).strip_prefix(module)?.strip_prefix("::")?;
            (!name.contains("::")).then(|| name.to_owned())
        });
        found.collect()
    };
    let mut names: Vec<(String, String)> = Vec::new();
    for (hidden, promised) in GIVEN_ON {
        for name in types(hidden).intersection(&types(promised)) {
            names.push((format!("{hidden}::{name}"), format!("{promised}::{name}")));
        }
    }
    names.extend(RENAMED.map(|(from, to)| (from.to_owned(), to.to_owned())));
    names
}

/// The promise alone, with each type under the name that programs know.
fn promised(all: &str) -> String {
    let names = given_on(all);
    let mut seen = BTreeSet::new();
    let mut out = String::new();
    for line in all.lines().filter(|line| !NOISE.iter().any(|noise| line.contains(noise))) {
        let mut line = line.to_owned();
        for (from, to) in &names {
            let mut at = 0;
            while let Some(found) = line[at..].find(from).map(|found| at + found) {
                let end = found + from.len();
                at = end;
                if !line[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                    line.replace_range(found..end, to);
                    at = found + to.len();
                }
            }
        }
        let about = subject(&line);
        let is_promised = PROMISED.iter().any(|module| is_in(about, module)) && !is_in(about, NOT_PROMISED);
        if is_promised && seen.insert(line.clone()) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

#[test]
fn what_programs_may_build_on_is_as_it_is_listed() {
    let is_there = Command::new("cargo-public-api").arg("--version").stdout(Stdio::null()).status();
    if is_there.is_err() {
        let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
        assert!(!all, "cargo-public-api is not installed");
        let _ = writeln!(std::io::stderr(), "skipped: cargo-public-api (not installed)");
        return;
    }
    let directory: PathBuf = root().join("docs/public-api");
    let mut differ = String::new();
    for (features, file) in LISTS {
        let list = promised(&everything(features));
        let leaks: Vec<&str> = list
            .lines()
            .filter(|line| {
                line.match_indices("handover::")
                    .any(|(at, _)| !PROMISED.iter().any(|module| is_in(path(&line[at..]), module)))
            })
            .collect();
        assert!(leaks.is_empty(), "types of modules that are no part of the promise: {leaks:#?}");
        if std::env::var_os("HANDOVER_BLESS").is_some() {
            std::fs::write(directory.join(file), &list).unwrap();
        }
        let known = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        let (new, old): (BTreeSet<&str>, BTreeSet<&str>) = (list.lines().collect(), known.lines().collect());
        for (sign, line) in
            old.difference(&new).map(|l| ('-', l)).chain(new.difference(&old).map(|l| ('+', l)))
        {
            differ.push_str(&format!("{file}: {sign}{line}\n"));
        }
    }
    assert!(differ.is_empty(), "the promise changes; HANDOVER_BLESS=1 writes it down:\n{differ}");
}

#[test]
fn a_line_is_kept_under_the_name_that_programs_know() {
    let all = "pub struct handover::id::Slot(pub u32)\nimpl core::clone::Clone for handover::id::Slot\n\
        pub struct handover::id::SlotOther\npub struct handover::worker::Slot(pub u32)\n\
        pub fn handover::worker::Worker::slot(&self, handover::id::SlotOther) -> handover::id::Slot\n\
        pub fn handover::worker::session::f()\npub fn handover::os::f()\n";
    let kept = "pub struct handover::worker::Slot(pub u32)\nimpl core::clone::Clone for handover::worker::Slot\n\
        pub fn handover::worker::Worker::slot(&self, handover::id::SlotOther) -> handover::worker::Slot\n";
    assert_eq!(promised(all), kept);
}

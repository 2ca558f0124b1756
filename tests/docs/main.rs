//! What the documentation says is tried: pages with commands from top to bottom, the units of `packaging`, every configuration that
//! is shown; and what it names is there: files, tests, pages.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

mod blocks;
mod captures;
mod figures;
mod reader;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use blocks::{blocks, page, pages, root};
use reader::Reader;
use support::handover;
use support::scratch::Scratch;

/// Says that something is skipped where a program is `absent`.
fn skipped(program: &str, absent: bool) -> bool {
    if absent {
        let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
        assert!(!all, "{program} is not installed");
        let _ = writeln!(std::io::stderr(), "skipped: {program} (not installed)");
    }
    absent
}

/// Pages whose commands are carried out, and what they need.
const WALKS: [(&str, &[&str]); 3] = [
    ("README.md", &["/usr/bin/python3", "/usr/bin/curl"]),
    ("docs/node.md", &["/usr/bin/node", "/usr/bin/curl"]),
    ("examples/services/README.md", &["/usr/bin/curl"]),
];

fn walk(path: &str) {
    let (_, needs) = WALKS.iter().find(|(walk, _)| *walk == path).expect("one of the walks");
    if !needs.iter().any(|program| skipped(program, !Path::new(program).exists())) {
        Reader::new().read(path);
    }
}

#[test]
fn the_readme_does_what_it_says() {
    walk("README.md");
}

#[test]
fn the_page_on_node_does_what_it_says() {
    walk("docs/node.md");
}

#[test]
fn the_page_of_the_services_does_what_it_says() {
    let mut fetch = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    fetch.args(["fetch", "--quiet", "--locked"]).current_dir(root().join("examples/services"));
    if !skipped("the crates of examples/services", !fetch.status().is_ok_and(|status| status.success())) {
        walk("examples/services/README.md");
    }
}

#[test]
fn every_page_with_commands_is_walked() {
    for path in pages() {
        let has_commands = blocks(&page(&path)).iter().any(|block| block.words == ["console"]);
        let is_walked = WALKS.iter().any(|(walk, _)| Path::new(walk) == path);
        assert_eq!(has_commands, is_walked, "{}", path.display());
    }
}

/// What a ```` ```toml part ```` is a part of.
const WHOLE: &str = "[listener.http]\naddress = \"tcp://127.0.0.1:8080\"\n\n\
    [pool.web]\ncommand = [\"/usr/bin/myapp\"]\nlisteners = [\"http\"]\n\n";

#[test]
fn every_configuration_that_is_shown_is_valid() {
    let scratch = Scratch::new();
    let mut tried = 0;
    for path in pages() {
        for block in blocks(&page(&path)) {
            let text = match block.words()[..] {
                ["toml"] => block.text.clone(),
                ["toml", "part"] => format!("{WHOLE}{}", block.text),
                _ => continue,
            };
            let file = scratch.write("example.toml", &text);
            let output = Command::new(handover()).arg("check").arg(file).output().expect("our binary");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:\n{text}\n{said}", path.display());
            tried += 1;
        }
    }
    assert!(tried > 10);
}

#[test]
fn the_units_are_what_systemd_understands() {
    if skipped("systemd-analyze", !Path::new("/usr/bin/systemd-analyze").exists()) {
        return;
    }
    let scratch = Scratch::new();
    let mut verify = Command::new("/usr/bin/systemd-analyze");
    verify.arg("verify");
    for unit in ["myapp.socket", "myapp.service"] {
        let text = page(format!("packaging/systemd/{unit}"));
        // The program has to be there.
        let text = text.replace("/usr/bin/handover", &handover().display().to_string());
        verify.arg(scratch.write(unit, text));
    }
    let output = verify.output().expect("it is there");
    // It ends with 0 on a setting that it does not know, and only says so.
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn each_promise_comparison_and_rule_names_tests_that_are_there() {
    let mut tests = BTreeSet::new();
    let mut open = vec![root().join("src"), root().join("tests")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                tests.extend(functions_marked_as_tests(&text));
            }
        }
    }
    let pages = [
        ("docs/promises.md", "| promise"),
        ("docs/from-amphp-cluster.md", "| amphp/cluster"),
        ("docs/security.md", "| rule"),
    ];
    for (name, head) in pages {
        let mut named = 0;
        for line in rows_under(head, &page(name)) {
            let cell = line.rsplit('|').nth(1).expect("a table").trim();
            assert!(cell.contains('`') || cell == "not yet", "{name}: a line without a test: {line}");
            for test in cell.split('`').skip(1).step_by(2) {
                assert!(tests.contains(test), "{name}: there is no test {test}: {line}");
                named += 1;
            }
        }
        assert!(named > 20, "{name}");
    }
}

/// The rows of all tables of a page whose first line begins with `head`.
fn rows_under<'a>(head: &str, page: &'a str) -> Vec<&'a str> {
    let mut rows = Vec::new();
    let (mut in_table, mut wanted) = (false, false);
    for line in page.lines() {
        let is_row = line.starts_with('|');
        if is_row && !in_table {
            wanted = line.starts_with(head);
        } else if is_row && wanted && !line.starts_with("|--") {
            rows.push(line);
        }
        in_table = is_row;
    }
    rows
}

fn functions_marked_as_tests(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let marked = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    let function = |line: &&str| line.trim_start_matches("async ").strip_prefix("fn ").map(str::to_owned);
    let next = marked.filter_map(|(at, _)| lines[at..].iter().find_map(function));
    next.filter_map(|rest| rest.split('(').next().map(str::to_owned)).collect()
}

#[test]
fn links_lead_somewhere() {
    for path in pages() {
        let text = page(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let file = root().join(&path).parent().expect("a file").join(target);
            assert!(
                target.is_empty() || target.contains("://") || file.exists(),
                "{}: {link}",
                path.display()
            );
        }
    }
}

#[test]
fn every_decision_is_in_the_index_and_numbered() {
    let index = page("docs/decisions/README.md");
    let mut numbers = BTreeSet::new();
    for path in pages().iter().filter(|path| path.starts_with("docs/decisions")) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
        let number = &name[..4];
        assert!(numbers.insert(number.to_owned()), "{number} is there twice");
        let title = page(path);
        assert!(title.starts_with(&format!("# {number}: ")), "{name} begins with another number");
    }
    assert_eq!(numbers.last().map(|last| last.parse()), Some(Ok(numbers.len())), "a number is missing");
}

//! The units that are made from configurations: those that `handover generate systemd` prints, and the same of the
//! generator, as systemd runs it.
//!
//! `tests/golden/units/NAME.toml` has `NAME.units` beside it; after a wanted change, `HANDOVER_BLESS=1 cargo test --test units`
//! writes these anew.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

#[path = "units/generator.rs"]
mod generator;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::handover;
use support::machine::{skipped, succeeds};
use support::scratch::Scratch;

const ANALYZE: &str = "/usr/bin/systemd-analyze";

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/units").join(file)
}

/// The names of the configurations there.
fn names() -> Vec<String> {
    let entries = fs::read_dir(golden("")).expect("our directory");
    let files = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let names: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(".toml")?.to_owned())).collect();
    assert!(names.len() >= 5);
    names
}

fn generate(arguments: &[&str]) -> Output {
    Command::new(handover()).args(["generate", "systemd"]).args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).expect("UTF-8")
}

/// What systemd says of the units in a directory.
fn verify(directory: &Path) {
    let mut units = Vec::new();
    for entry in fs::read_dir(directory).expect("our directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "service" || kind == "socket") {
            units.push(path);
        }
    }
    assert!(!units.is_empty());
    let output = Command::new(ANALYZE).arg("verify").args(units).output().expect("it is there");
    // It ends with 0 on a setting that it does not know, and only says so.
    assert_eq!(text(&[output.stdout, output.stderr].concat()), "");
}

#[test]
fn the_units_of_a_configuration_are_these() {
    for name in names() {
        let file = golden(&format!("{name}.toml"));
        let output = generate(&[file.to_str().expect("UTF-8"), "--program", "/usr/bin/handover"]);
        assert!(output.status.success(), "{output:?}");
        let actual = text(&[output.stdout, output.stderr].concat());
        let actual = actual.replace(file.to_str().expect("UTF-8"), &format!("/etc/handover/{name}.toml"));
        let path = golden(&format!("{name}.units"));
        if std::env::var_os("HANDOVER_BLESS").is_some() {
            fs::write(&path, &actual).expect("our file");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(expected == actual, "{} differs; it is now:\n{actual}", path.display());
    }
}

#[test]
fn systemd_has_nothing_to_say_of_them() {
    if skipped("systemd-analyze", !Path::new(ANALYZE).exists()) {
        return;
    }
    for name in names() {
        let scratch = Scratch::new();
        let file = golden(&format!("{name}.toml"));
        let directory = scratch.path().to_str().expect("UTF-8");
        let output = generate(&[file.to_str().expect("UTF-8"), "--directory", directory]);
        assert!(output.status.success(), "{output:?}");
        verify(scratch.path());
    }
}

#[test]
fn what_is_written_is_what_is_printed_and_replaces_itself() {
    let (scratch, units) = (Scratch::new(), Scratch::new());
    let file = scratch.write("web.toml", fs::read(golden("one.toml")).expect("our file"));
    let (file, directory) = (file.to_str().expect("UTF-8"), units.path().to_str().expect("UTF-8"));
    for _ in 0..2 {
        assert!(generate(&[file, "--directory", directory]).status.success());
    }
    let printed = text(&generate(&[file]).stdout);
    for unit in ["web.service", "web.socket"] {
        let written = fs::read_to_string(units.join(unit)).expect("it was written");
        assert!(printed.contains(&format!("# {unit}\n{written}")), "{unit}");
    }
}

/// The names in a directory.
fn listed(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("our directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn what_somebody_else_has_written_is_left_alone_and_nothing_is_written_beside_it() {
    let (scratch, units) = (Scratch::new(), Scratch::new());
    let file = scratch.write("web.toml", fs::read(golden("one.toml")).expect("our file"));
    let (file, directory) = (file.to_str().expect("UTF-8"), units.path().to_str().expect("UTF-8"));
    let theirs = "[Socket]\nListenStream=1\n";
    let of_another_file = "# Made by handover from /elsewhere/web.toml\n\n[Socket]\n";
    let refused = |what: &str| {
        let before = listed(units.path());
        let output = generate(&[file, "--directory", directory]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{what}");
        let said = text(&output.stderr);
        assert!(said.contains("web.socket: is there already"), "{what}: {said}");
        assert!(said.contains("nothing is written\nhint: "), "{what}: {said}");
        assert_eq!(listed(units.path()), before, "{what}");
    };
    let socket = units.join("web.socket");
    for text in [theirs, of_another_file, ""] {
        fs::write(&socket, text).expect("our file");
        refused(text);
        assert_eq!(fs::read_to_string(&socket).expect("it is left"), text);
    }
    fs::remove_file(&socket).expect("our file");
    // A mask, and a link to what somebody keeps elsewhere: even if that was made from the same file.
    fs::write(units.join("kept"), format!("# Made by handover from {file}\n")).expect("our file");
    for target in ["/dev/null", "kept", "/nowhere"] {
        std::os::unix::fs::symlink(target, &socket).expect("our directory");
        refused(target);
        assert_eq!(fs::read_link(&socket).expect("it is left"), Path::new(target));
        fs::remove_file(&socket).expect("our file");
    }
    fs::create_dir(&socket).expect("our directory");
    refused("a directory");
}

#[test]
fn units_of_listeners_that_are_gone_are_removed_and_no_others() {
    let (scratch, units) = (Scratch::new(), Scratch::new());
    let one = fs::read_to_string(golden("one.toml")).expect("our file");
    let more = "[listener.admin]\naddress = \"unix:///run/web/admin.sock\"\n[listener.log]\naddress = \"udp://127.0.0.1:5\"\n";
    let two = format!("{more}{}", one.replace("[\"http\"]", "[\"http\", \"admin\", \"log\"]"));
    let file = scratch.write("web.toml", &two);
    let other = scratch.write("web-two.toml", &one);
    let directory = units.path().to_str().expect("UTF-8");
    let write = |file: &Path| {
        let output = generate(&[file.to_str().expect("UTF-8"), "--directory", directory]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    write(&file);
    write(&other);
    let foreign = [
        ("web-old.socket", "[Socket]\nListenStream=1\n".to_owned()),
        ("web-copy.txt", format!("# Made by handover from {}\n", file.display())),
        ("web-quoting.service", format!("[Unit]\n# Made by handover from {}\n", file.display())),
    ];
    for (name, text) in &foreign {
        fs::write(units.join(name), text).expect("our file");
    }
    std::os::unix::fs::symlink("web.service", units.join("web-alias.service")).expect("our directory");
    scratch.write("web.toml", &one);
    let said = write(&file);
    let removed: Vec<&str> = said.lines().filter(|line| line.contains(": removed: ")).collect();
    let expected = ["web-http.socket", "web-log.socket"]
        .map(|unit| format!("{directory}/{unit}: removed: no longer made from {}", file.display()));
    assert_eq!(removed, expected);
    assert_eq!(
        listed(units.path()),
        [
            "web-alias.service",
            "web-copy.txt",
            "web-old.socket",
            "web-quoting.service",
            "web-two.service",
            "web-two.socket",
            "web.service",
            "web.socket"
        ]
    );
    assert!(!write(&file).contains("removed"), "once");
}

#[test]
fn a_directory_that_cannot_be_written_stays_as_it_is() {
    let scratch = Scratch::new();
    let file = scratch.write("web.toml", fs::read(golden("kinds.toml")).expect("our file"));
    let file = file.to_str().expect("UTF-8");
    let output = generate(&[file, "--directory", "/no/such/directory"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such/directory: no such file"), "{output:?}");
    // There is no room for the second unit: the first is not written either, and an old one stays.
    let units = Scratch::new();
    let directory = units.path().to_str().expect("UTF-8");
    assert!(generate(&[file, "--directory", directory]).status.success());
    let before: Vec<Vec<u8>> =
        listed(units.path()).iter().map(|name| fs::read(units.join(name)).expect("a unit")).collect();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 1; trap '' XFSZ; exec \"$0\" \"$@\""]).arg(handover());
    limited.args(["generate", "systemd", file, "--program", "/changed", "--directory", directory]);
    let output = limited.output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("file too large"), "{output:?}");
    let after: Vec<Vec<u8>> =
        listed(units.path()).iter().map(|name| fs::read(units.join(name)).expect("a unit")).collect();
    assert_eq!(after, before, "and no draft is left");
}

#[test]
fn a_file_that_makes_no_units_says_why() {
    let scratch = Scratch::new();
    let good = fs::read_to_string(golden("one.toml")).expect("our file");
    for (file, text_of_file, why) in [
        ("my app.toml", format!("name = \"myapp\"\n{good}"), "\"my app\" cannot name a unit of systemd"),
        ("web@1.toml", format!("name = \"web\"\n{good}"), "`@` makes a template"),
        ("web.conf", good.clone(), "NAME.toml"),
        ("web.toml", good.replace("command", "comand"), "comand"),
        ("web.toml", good.replace("http\"", "htpt\""), "there is no listener"),
    ] {
        let path = scratch.write(file, text_of_file);
        let output = generate(&[path.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(output.stdout.is_empty() && text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

#[test]
fn the_manual_tells_how_much_systemd_takes_away() {
    if skipped("systemd-analyze", !succeeds(&[ANALYZE, "--version"])) {
        return;
    }
    let version = text(&Command::new(ANALYZE).arg("--version").output().expect("it is there").stdout);
    let scratch = Scratch::new();
    let directory = scratch.path().to_str().expect("UTF-8");
    assert!(
        generate(&[golden("one.toml").to_str().expect("UTF-8"), "--directory", directory]).status.success()
    );
    let unit = scratch.join("one.service");
    let mut security = Command::new(ANALYZE);
    security.args(["security", "--offline=true", "--no-pager"]).arg(unit);
    let output = security.output().expect("it is there");
    let said = text(&output.stdout);
    let level =
        said.lines().find_map(|line| line.split("exposure level for one.service: ").nth(1)).expect("a level");
    let level = level.split(' ').next().expect("a number");
    // Each version counts in its own way.
    if !skipped("systemd 252", !version.starts_with("systemd 252 ")) {
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd.md"))
            .expect("our page");
        assert!(page.contains(&format!("{level} with systemd 252")), "it is {level}");
    }
}

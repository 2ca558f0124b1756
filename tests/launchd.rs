//! The jobs of launchd that `handover generate launchd` makes, read by Python's `plistlib`, since Linux has no `plutil`;
//! the shipped one is one of them, and the page on macOS does what it says.
//!
//! `tests/golden/launchd` has the lists of the configurations in `tests/golden/units`; after a wanted change,
//! `HANDOVER_BLESS=1 cargo test --test launchd` writes these anew.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use support::handover;
use support::machine::{skipped, succeeds};
use support::scratch::Scratch;

/// Reads a property list by rules that are not ours: XML, and what may stand in it.
const READER: &str = "import json, plistlib, sys\n\
    json.dump(plistlib.load(sys.stdin.buffer, fmt=plistlib.FMT_XML), sys.stdout)";

/// The keys of `launchd.plist(5)` that we use.
const KEYS: [&str; 9] = [
    "ExitTimeOut",
    "KeepAlive",
    "Label",
    "ProcessType",
    "ProgramArguments",
    "RunAtLoad",
    "Sockets",
    "StandardErrorPath",
    "ThrottleInterval",
];
/// Those within an entry of `Sockets`.
const SOCKET_KEYS: [&str; 8] = [
    "SockFamily",
    "SockNodeName",
    "SockPathGroup",
    "SockPathMode",
    "SockPathName",
    "SockPathOwner",
    "SockServiceName",
    "SockType",
];

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn generate(arguments: &[&str]) -> Output {
    Command::new(handover()).args(["generate", "launchd"]).args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).expect("UTF-8")
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What stands in a property list; `None` where there is no Python.
fn read(list: &str) -> Option<Value> {
    if skipped("python3", !succeeds(&["python3", "-c", "import plistlib"])) {
        return None;
    }
    let mut reader = Command::new("python3");
    reader.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut reader = reader.spawn().expect("it was there");
    reader.stdin.take().expect("a pipe").write_all(list.as_bytes()).expect("it reads");
    let output = reader.wait_with_output().expect("our child");
    assert!(output.status.success(), "{}\n{list}", text(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Nothing that launchd would not know, or would take for something else.
fn check(list: &Value) {
    for (key, value) in list.as_object().expect("a dictionary") {
        assert!(KEYS.contains(&key.as_str()), "{key}");
        match key.as_str() {
            "Label" | "StandardErrorPath" | "ProcessType" => assert!(value.is_string(), "{key}"),
            "ExitTimeOut" | "ThrottleInterval" => assert!(value.is_u64(), "{key}"),
            _ => {}
        }
    }
    let none = json!({});
    for (name, entry) in list.get("Sockets").unwrap_or(&none).as_object().expect("a dictionary") {
        let alone = vec![entry.clone()];
        for socket in entry.as_array().unwrap_or(&alone) {
            for (key, value) in socket.as_object().expect("a dictionary") {
                assert!(SOCKET_KEYS.contains(&key.as_str()), "{name}: {key}");
                let is_number = ["SockPathMode", "SockPathOwner", "SockPathGroup"].contains(&key.as_str());
                assert_eq!(value.is_u64(), is_number, "{name}: {key}");
            }
            let kind = socket["SockType"].as_str();
            assert!(kind.is_some_and(|kind| ["stream", "dgram"].contains(&kind)), "{name}");
        }
    }
}

/// Names of the configurations that units are made from, too.
fn names() -> Vec<String> {
    let entries = fs::read_dir(package("tests/golden/units")).expect("our directory");
    let files = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let names: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(".toml")?.to_owned())).collect();
    assert!(names.len() >= 5);
    names
}

/// Compares with a file of the package, or writes it.
fn compare(path: &Path, actual: &str) {
    if std::env::var_os("HANDOVER_BLESS").is_some() {
        fs::write(path, actual).expect("our file");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == actual, "{} differs; it is now:\n{actual}", path.display());
}

#[test]
fn the_job_of_a_configuration_is_this() {
    for name in names() {
        let file = package(&format!("tests/golden/units/{name}.toml"));
        let output = generate(&[utf8(&file), "--program", "/usr/local/bin/handover"]);
        assert!(output.status.success(), "{output:?}");
        let list = text(&output.stdout).replace(utf8(&file), &format!("/usr/local/etc/handover/{name}.toml"));
        compare(&package(&format!("tests/golden/launchd/{name}.plist")), &list);
        let notes = text(&output.stderr);
        for note in notes.lines().map(|line| line.strip_prefix("handover: ").expect("a note")) {
            assert!(list.contains(&format!("\t<!-- {note} -->\n")), "{name}: {note}");
        }
        assert_eq!(
            list.matches("\t<!-- listener").count(),
            notes.lines().filter(|line| line.contains(" listener ")).count()
        );
        read(&list).iter().for_each(check);
    }
}

#[test]
fn a_parser_that_is_not_ours_reads_what_was_meant() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "a < b & -- c-.toml",
        r#"
name = "web"
[listener."a < b & -- c"]
address = "udp://127.0.0.1:53"
[listener.both]
address = "tcp://[::]:80"
[listener.file]
address = "unix:///var/run/a&b <--.sock"
socket_mode = "0660"
socket_user = "501"
socket_group = "wheel"
[listener.none]
address = "tcp://127.0.0.1:0"
[pool.web]
command = ["/bin/x"]
listeners = ["a < b & -- c", "both", "file", "none"]
stop_timeout = "90s"
"#,
    );
    let output = generate(&[utf8(&file), "--program", "/opt/<handover>", "--log", "/tmp/a&b.log"]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(
        said,
        "handover: listener none is bound by handover, not by launchd: launchd knows no port 0\n"
    );
    let Some(list) = read(&text(&output.stdout)) else { return };
    check(&list);
    let inet = |node: &str, family: &str, port: &str, kind: &str| json!({ "SockNodeName": node, "SockFamily": family, "SockServiceName": port, "SockType": kind });
    let expected = json!({
        "Label": "handover.web",
        "ProgramArguments": ["/opt/<handover>", "run", utf8(&file)],
        "RunAtLoad": true,
        "KeepAlive": { "SuccessfulExit": false },
        "ThrottleInterval": 1,
        "ExitTimeOut": 95,
        "ProcessType": "Interactive",
        "StandardErrorPath": "/tmp/a&b.log",
        "Sockets": {
            "a < b & -- c": inet("127.0.0.1", "IPv4", "53", "dgram"),
            "both": [inet("0.0.0.0", "IPv4", "80", "stream"), inet("::", "IPv6", "80", "stream")],
            "file": {
                "SockPathName": "/var/run/a&b <--.sock",
                "SockType": "stream",
                "SockPathMode": 0o660,
                "SockPathOwner": 501,
                "SockPathGroup": 0,
            },
        },
    });
    assert_eq!(list, expected);
}

#[test]
fn the_shipped_job_is_made_from_the_shipped_configuration() {
    let file = package("packaging/launchd/myapp.toml");
    let comment = fs::read_to_string(&file).expect("our file");
    let command = comment.lines().find_map(|line| line.strip_prefix("#   handover generate launchd "));
    let words: Vec<&str> = command.expect("it says how").split(' ').collect();
    let shown = words[0];
    let output = generate(&[&[utf8(&file)], &words[1..]].concat());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let list = text(&output.stdout).replace(utf8(&file), shown);
    compare(&package("packaging/launchd/org.example.myapp.plist"), &list);
    let Some(list) = read(&list) else { return };
    check(&list);
    assert_eq!(list["Label"], "org.example.myapp");
    assert_eq!(list["ProgramArguments"][2], shown);
}

#[test]
fn a_list_that_is_written_replaces_its_predecessor_and_nobody_elses() {
    let (scratch, jobs) = (Scratch::new(), Scratch::new());
    let good = fs::read(package("packaging/launchd/myapp.toml")).expect("our file");
    let file = scratch.write("web.toml", good);
    let (file, directory) = (utf8(&file), utf8(jobs.path()));
    let names = || {
        let entries = fs::read_dir(jobs.path()).expect("our directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    for _ in 0..2 {
        let output = generate(&[file, "--directory", directory]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
        assert_eq!(text(&output.stderr), format!("{directory}/handover.web.plist\n"));
    }
    let written = fs::read(jobs.join("handover.web.plist")).expect("it was written");
    assert_eq!(written, generate(&[file]).stdout);

    let output = generate(&[file, "--directory", directory, "--label", "org.example.web"]);
    let said = text(&output.stderr);
    assert!(said.contains("/handover.web.plist: removed: no longer made from "), "{said}");
    assert_eq!(names(), ["org.example.web.plist"]);

    fs::write(jobs.join("taken.plist"), "<plist/>").expect("our file");
    let output = generate(&[file, "--directory", directory, "--label", "taken"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("taken.plist: is there already") && said.contains("hint: "), "{said}");
    assert_eq!(names(), ["org.example.web.plist", "taken.plist"]);
    assert_eq!(fs::read(jobs.join("taken.plist")).expect("ours"), b"<plist/>");
}

#[test]
fn what_cannot_be_a_job_says_why() {
    let file = package("packaging/launchd/myapp.toml");
    let output = generate(&[utf8(&file), "--label", "a/b"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(text(&output.stderr).starts_with("handover: \"a/b\" cannot be a label"), "{output:?}");
    let scratch = Scratch::new();
    let wrong = scratch.write("web.toml", "[pool.web]\ncomand = 1\n");
    let output = generate(&[utf8(&wrong)]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(text(&output.stderr).contains("comand"), "{output:?}");
}

#[test]
fn the_page_on_macos_names_files_that_are_there() {
    let page = fs::read_to_string(package("docs/macos.md")).expect("our page");
    let named: Vec<&str> =
        page.split('`').filter(|text| text.starts_with("src/") && text.ends_with(".rs")).collect();
    for file in &named {
        assert!(package(file).is_file(), "{file}");
    }
    // Whatever is one system's own is told of.
    let mut open = vec![package("src/os")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("our directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with("_macos.rs") {
                assert!(named.iter().any(|file| path.ends_with(file)), "{name}");
            }
        }
    }
}

/// The blocks of a page that are for a shell.
fn shell_blocks(page: &str) -> Vec<String> {
    let page = fs::read_to_string(package(page)).expect("our page");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_page_on_macos_makes_a_job_that_can_be_loaded() {
    let blocks = shell_blocks("docs/macos.md");
    let [job, check] = &blocks[..] else { panic!("a block that nobody tries: {blocks:#?}") };
    // The second is what is done here to see that it compiles.
    let run = fs::read_to_string(package(".ci/run")).expect("our file");
    let plain = |text: &str| text.replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let words = plain(check);
    let words = words.rsplit(" -Zbuild-std").next().expect("a command");
    assert!(plain(&run).contains(&format!("-Zbuild-std{words}")), "-Zbuild-std{words}");
    if skipped("python3", !succeeds(&["python3", "-c", "import plistlib"])) {
        return;
    }
    // A stand-in for launchctl reads the list, and names the job.
    let scratch = Scratch::new();
    scratch.write("myapp.toml", fs::read(package("packaging/launchd/myapp.toml")).expect("our file"));
    let stand_in = "#!/usr/bin/env python3\nimport plistlib, sys\nassert sys.argv[1:3] == ['bootstrap', 'system']\n\
        print('loaded', plistlib.load(open(sys.argv[3], 'rb'))['Label'])\n";
    let launchctl = scratch.write("launchctl", stand_in);
    assert!(succeeds(&["chmod", "+x", utf8(&launchctl)]));
    let here = utf8(scratch.path());
    let script = job.replace("/usr/local/etc/handover", here).replace("/Library/LaunchDaemons", here);
    let script = script.replace("sudo ", "");
    let path = format!(
        "{here}:{}:{}",
        utf8(handover().parent().expect("a directory")),
        std::env::var("PATH").expect("there is one")
    );
    let output = Command::new("bash").args(["-euc", &script]).env("PATH", path).output().expect("bash");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "loaded handover.myapp\n");
}

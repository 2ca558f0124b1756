//! The clients in other languages keep the protocol: `clients/conformance.py` drives each through all of it.
//!
//! What a client leaves out it must leave out for a reason that is known here. A language that this machine has not is
//! skipped, and that is said in one line; with `HANDOVER_TEST_ALL=1` a skip is a failure.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Says that something is skipped, where it is `absent`, and returns that.
#[track_caller]
fn skipped(what: &str, absent: bool) -> bool {
    if absent {
        let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
        assert!(!all, "{what}: not on this machine");
        // Not `eprintln`, which is swallowed where a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: {what} (not on this machine)");
    }
    absent
}

/// Executes a command at the top of the sources.
fn execute(words: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    // The sources stay as they are, and colours out of what is read here.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NO_COLOR", "1");
    command.output()
}

/// Whether the interpreters that these words ask for are missing; says so.
#[track_caller]
fn is_missing(needs: &[&str]) -> bool {
    let probes: [(&str, &[&str]); 3] = [
        ("python3", &["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))"]),
        ("node", &["node", "-e", "process.exit(+(parseInt(process.versions.node) < 18))"]),
        ("php", &["php", "-r", "exit(PHP_VERSION_ID < 80100 || !extension_loaded('sockets') ? 1 : 0);"]),
    ];
    let is_absent = |words: &[&str]| !execute(words).is_ok_and(|output| output.status.success());
    let wanted = probes.iter().filter(|(name, _)| needs.contains(name));
    wanted.fold(false, |missing, (name, words)| skipped(name, is_absent(words)) || missing)
}

/// Drives a conformance worker through every case. It may leave out those that it skips for one of these reasons.
#[track_caller]
fn conforms(options: &[&str], worker: &[&str], reasons: &[&str]) {
    // Long, because many tests share a machine; nothing waits so long where all is well.
    let words =
        [&["python3", "clients/conformance.py", "--deadline", "60"], options, &["--"], worker].concat();
    let output = execute(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let is_known =
        |line: &&str| line.starts_with("ok ") || reasons.iter().any(|reason| line.contains(reason));
    let wrong: Vec<&str> =
        said.lines().filter(|line| line.starts_with("not ok ") || !is_known(line)).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && wrong.is_empty(), "{words:?}: {wrong:#?}\n{errors}");
    let done = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(done > 40, "{done} cases were tried\n{said}{errors}");
}

const NO_LOOP: &str = "the client has no event loop";

#[test]
fn python_with_asyncio_keeps_the_protocol() {
    if !is_missing(&["python3"]) {
        conforms(&[], &["python3", "clients/conformance_worker.py"], &[]);
    }
}

#[test]
fn python_without_a_loop_keeps_the_protocol() {
    if !is_missing(&["python3"]) {
        conforms(&[], &["python3", "clients/conformance_worker.py", "--blocking"], &[NO_LOOP]);
    }
}

#[test]
fn python_with_a_thread_keeps_the_protocol() {
    if !is_missing(&["python3"]) {
        let reasons = [NO_LOOP, "has not the capability ping"];
        conforms(&[], &["python3", "clients/conformance_worker.py", "--thread"], &reasons);
    }
}

#[test]
fn node_keeps_the_protocol_as_far_as_it_goes_without_fds() {
    if !is_missing(&["python3", "node"]) {
        let reasons = [
            "has not the capability fds",
            "has not the capability listen",
            "only with channel = \"node\"",
            "Node does not fork",
        ];
        conforms(&[], &["node", "clients/conformance_worker.js"], &reasons);
    }
}

#[test]
fn node_keeps_the_protocol_over_its_own_channel() {
    if !is_missing(&["python3", "node"]) {
        let reasons = ["in Node's dialect this belongs to Node"];
        conforms(&["--dialect", "node"], &["node", "clients/conformance_worker.js"], &reasons);
    }
}

#[test]
fn what_node_does_with_servers_and_connections_holds() {
    if is_missing(&["node"]) {
        return;
    }
    let output = execute(&["node", "--test", "clients/"]).expect("it is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("# pass 0"), "{said}");
}

#[test]
fn python_servers_are_closed_without_a_loss() {
    if is_missing(&["python3"]) {
        return;
    }
    let output = execute(&["python3", "clients/handover_test.py"]).expect("it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn php_keeps_the_protocol() {
    if !is_missing(&["python3", "php"]) {
        conforms(&[], &["php", "clients/conformance_worker.php"], &[NO_LOOP]);
    }
}

#[test]
fn a_worker_that_says_nothing_does_not_conform() {
    if is_missing(&["python3"]) {
        return;
    }
    let case = ["python3", "clients/conformance.py", "--deadline", "1", "--only", "echoes", "--", "cat"];
    let output = execute(&case).expect("it is there");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("not ok echoes: "), "{output:?}");
}

#[test]
fn a_worker_that_does_not_obey_is_told_all_that_is_missing_at_once() {
    if is_missing(&["python3"]) {
        return;
    }
    const SAYS_READY: &str = r#"
import os, socket
channel = socket.socket(fileno=int(os.environ["HANDOVER_CHANNEL"]))
channel.sendall(b'{"type":"hello","version":1,"capabilities":["messages","fds"]}\n{"type":"ready"}\n')
while channel.recv(65536):
    pass
"#;
    let words = ["python3", "clients/conformance.py", "--deadline", "1", "--", "python3", "-c", SAYS_READY];
    let output = execute(&words).expect("it is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.starts_with("not ok contract:\n"), "{said}");
    for order in ["about", "echo", "hold", "reply_fd", "run", "fork", "inherited"] {
        assert!(said.contains(&format!("\n  {order}: expected ")), "{order}: {said}");
    }
    assert!(!said.contains("\nok "), "no case is tried then: {said}");
}

#[test]
fn the_contract_of_a_conformance_worker_is_the_same_where_it_is_printed_and_where_it_is_read() {
    if is_missing(&["python3"]) {
        return;
    }
    let output = execute(&["python3", "clients/conformance.py", "--contract"]).expect("it is there");
    let contract = String::from_utf8_lossy(&output.stdout);
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(top.join("clients/README.md")).expect("it is there");
    assert!(output.status.success() && contract.starts_with("### The conformance worker\n"), "{output:?}");
    assert!(
        page.ends_with(&*contract),
        "clients/README.md ends with another contract than --contract prints"
    );
}

#[test]
fn the_packages_have_every_file_of_the_clients() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(top.join("Cargo.toml")).expect("it is there");
    for entry in top.join("clients").read_dir().expect("it is there") {
        let path = entry.expect("an entry").path();
        let Some(kind) = path.extension().filter(|_| path.is_file()).and_then(|kind| kind.to_str()) else {
            continue;
        };
        let places = manifest.matches(&format!("\"clients/*.{kind}\"")).count();
        assert_eq!(places, 2, "{} is to be in the .deb and in the .rpm", path.display());
    }
}

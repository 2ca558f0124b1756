//! What `handover generate` makes: the copies under `packaging` are those that the program prints, manual pages are
//! clean, and the completions complete in real shells.
//!
//! `HANDOVER_BLESS=1 cargo test --test generate` writes the copies anew.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use support::child::OwnedChild;
use support::handover;
use support::machine::{skipped, succeeds};
use support::service::Plan;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

fn generate(arguments: &[&str]) -> String {
    let output = Command::new(handover()).arg("generate").args(arguments).output().expect("it starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_copies_for_packages_are_what_the_program_prints() {
    for (file, arguments) in [
        ("schema/handover.schema.json", &["schema"][..]),
        ("man/handover.1", &["man"]),
        ("man/handover.toml.5", &["man", "handover.toml.5"]),
        ("completions/handover.bash", &["completions", "bash"]),
        ("completions/handover.fish", &["completions", "fish"]),
        ("completions/_handover", &["completions", "zsh"]),
    ] {
        let (path, actual) = (packaging(file), generate(arguments));
        if std::env::var_os("HANDOVER_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("our file");
        }
        let copy = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            copy == actual,
            "{file} differs; `HANDOVER_BLESS=1 cargo test --test generate` writes it anew"
        );
    }
}

#[test]
fn all_pages_can_be_written_into_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new(handover())
        .args(["generate", "man", "--directory"])
        .arg(directory.path())
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    for page in ["handover.1", "handover.toml.5"] {
        let text = std::fs::read_to_string(directory.path().join(page)).expect("it was written");
        assert_eq!(text, generate(&["man", page]));
    }
}

#[test]
fn a_link_in_the_place_of_a_page_is_replaced_and_what_it_leads_to_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let (precious, page) = (directory.path().join("precious"), directory.path().join("handover.1"));
    std::fs::write(&precious, "precious").expect("our file");
    std::os::unix::fs::symlink(&precious, &page).expect("our link");
    let mut command = Command::new(handover());
    let output = command.args(["generate", "man", "--directory"]).arg(directory.path()).output();
    assert!(output.expect("it starts").status.success());
    assert_eq!(std::fs::read_to_string(&precious).expect("our file"), "precious");
    assert_eq!(std::fs::read_to_string(&page).expect("it was written"), generate(&["man", "handover.1"]));
}

#[test]
fn readers_of_manual_pages_have_nothing_to_complain_of() {
    let mut tried = 0;
    for (program, arguments) in [
        ("mandoc", &["-T", "lint", "-W", "warning"][..]),
        ("groff", &["-ww", "-K", "utf8", "-man", "-T", "utf8", "-z"]),
        ("man", &["--warnings", "--encoding=UTF-8", "--local-file"]),
    ] {
        for page in ["man/handover.1", "man/handover.toml.5"] {
            let mut reader = Command::new(program);
            reader.args(arguments).arg(packaging(page)).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
            let Ok(output) = reader.output() else {
                skipped(program, true);
                break;
            };
            let complaints = if program == "mandoc" { &output.stdout } else { &output.stderr };
            assert!(
                output.status.success() && complaints.is_empty(),
                "{program} {page}: {}",
                String::from_utf8_lossy(complaints)
            );
            tried += 1;
        }
    }
    println!("{tried} readings");
}

#[test]
fn the_manual_names_every_exit_status_and_every_command() {
    let page = generate(&["man"]);
    use handover::exit;
    for code in [exit::DONE, exit::FAILED, exit::USAGE, exit::TIMED_OUT, exit::NO_DAEMON, exit::INTERRUPTED] {
        assert!(page.contains(&format!("\n\\fB{code}\\fR\n")), "exit status {code}");
    }
    for command in ["run", "demo", "check", "status", "reload", "restart", "cancel", "scale", "stop"] {
        assert!(page.contains(&format!("\n.SS handover {command}")), "{command}");
    }
}

/// What makes each shell ready: our completions, a prompt that can be waited for, and a `handover` that shows how it was
/// called, unless it is asked for completions.
fn prepared(shell: &str) -> (&'static str, String) {
    let script = |file: &str| packaging("completions").join(file).display().to_string();
    let show = "handover() { if [ \"$1\" = __complete ]; then command handover \"$@\"; else echo \"TYPED:$*:END\"; fi; }";
    match shell {
        "bash" => (
            "exec bash --noprofile --rcfile",
            format!("{show}\n. '{}'\nPS1='REA''DY> '\n", script("handover.bash")),
        ),
        "zsh" => (
            "ZDOTDIR=$(dirname",
            format!(
                "{show}\nautoload -Uz compinit; compinit -u -D\n. '{}'\nPS1='REA''DY> '\n",
                script("_handover")
            ),
        ),
        _ => (
            "exec fish --no-config --init-command",
            format!(
                "set fish_greeting; function handover; echo TYPED:\"$argv\":END; end; . '{}'; function fish_prompt; echo -n REA''DY\\>\\ ; end",
                script("handover.fish")
            ),
        ),
    }
}

/// Types `line` and TAB and ENTER in a shell on a terminal; gives what was then called.
fn complete(shell: &str, line: &str) -> String {
    let scratch = support::scratch::Scratch::new();
    let (start, text) = prepared(shell);
    let file = scratch.write(".zshrc", text.as_bytes()).display().to_string();
    let start = match shell {
        "zsh" => format!("{start} {file}) exec zsh -d -i"),
        "bash" => format!("{start} {file} -i"),
        _ => format!("{start} \"$(cat {file})\" -i"),
    };
    let mut path = handover().parent().expect("it lies in a directory").as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("timeout");
    command.args(["20", "script", "--quiet", "--command", &start, "/dev/null"]);
    command.env("PATH", path).env("TERM", "dumb").env("HOME", scratch.path()).env_remove("RUNTIME_DIRECTORY");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut terminal = OwnedChild::spawn(&mut command);
    let mut keys = terminal.inner().stdin.take().expect("a pipe");
    let mut screen = Screen { shown: terminal.inner().stdout.take().expect("a pipe"), text: String::new() };
    screen.wait_for("READY> ");
    keys.write_all(format!("{line}\t\n").as_bytes()).expect("the shell reads");
    screen.wait_for(":END");
    keys.write_all(b"exit\n").expect("the shell reads");
    let typed = screen.text.rsplit("TYPED:").next().expect("waited for above");
    assert!(!screen.text.contains("rror"), "{shell}: {}", screen.text);
    typed.split(":END").next().unwrap_or_default().trim_end().to_owned()
}

/// What a terminal shows.
struct Screen {
    shown: ChildStdout,
    text: String,
}

impl Screen {
    /// Reads on until `text` is there.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 1024];
        while !self.text.contains(text) {
            let count = self.shown.read(&mut bytes).expect("a pipe");
            assert!(count > 0, "no {text:?} in {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}

#[test]
fn shells_complete_the_pools_of_the_daemon_that_runs() {
    let service = Plan::new().start();
    let at = format!("--socket {}", service.daemon.socket().display());
    for shell in ["bash", "zsh", "fish"] {
        if skipped(shell, !succeeds(&[shell, "-c", "true"])) {
            continue;
        }
        for (line, typed) in [
            (format!("reload {at} --pool w"), format!("reload {at} --pool web")),
            (format!("reload {at} --pool=w"), format!("reload {at} --pool=web")),
            (format!("scale {at} w"), format!("scale {at} web")),
            ("generate comp".to_owned(), "generate completions".to_owned()),
            ("generate completions z".to_owned(), "generate completions zsh".to_owned()),
            ("generate lau".to_owned(), "generate launchd".to_owned()),
            ("generate launchd --lab".to_owned(), "generate launchd --label".to_owned()),
            // Nobody there: nothing is offered, and nothing is said.
            ("reload --socket /nowhere --pool w".to_owned(), "reload --socket /nowhere --pool w".to_owned()),
        ] {
            assert_eq!(complete(shell, &format!("handover {line}")), typed, "{shell}");
        }
    }
    service.stop();
}

#[test]
fn a_daemon_that_does_not_answer_holds_no_prompt_up_and_says_nothing() {
    let scratch = support::scratch::Scratch::new();
    let socket = scratch.join("control.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).expect("our directory");
    let fifo = scratch.join("fifo");
    assert!(succeeds(&["mkfifo", fifo.to_str().expect("UTF-8")]));
    for target in [["--socket", socket.to_str().expect("UTF-8")], ["--config", fifo.to_str().expect("UTF-8")]]
    {
        let mut command = support::daemon::command(["__complete", "--", "reload"]);
        command.args(target).args(["--pool", ""]);
        let output = support::daemon::Running::start(&mut command).finish();
        assert_eq!((output.code, output.text().as_str()), (Some(0), ""), "{target:?}");
    }
}

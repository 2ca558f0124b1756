//! Files that others name and that may keep their reader waiting: nobody waits for ever, and it is said for what.

use std::path::Path;
use std::time::{Duration, Instant};

use handover::exit;

use crate::support::daemon::{Running, command};
use crate::support::lease::Lease;
use crate::support::machine::{skipped, succeeds};
use crate::support::scratch::Scratch;
use crate::support::service::quoted;

/// A configuration with an environment file.
fn with_environment_file(scratch: &Scratch, name: &str, file: &Path) -> String {
    let file = quoted(&file.display().to_string());
    let text = format!("[pool.web]\ncommand = [\"/bin/sleep\", \"60\"]\nenvironment_files = [{file}]\n");
    scratch.write(name, text).display().to_string()
}

/// `handover run` with this configuration.
fn run(scratch: &Scratch, config: &str) -> Running {
    let socket = scratch.join("control").display().to_string();
    Running::start(&mut command(["run", config, "--socket", &socket]))
}

#[test]
fn a_file_that_may_keep_its_reader_waiting_is_no_environment_file() {
    let scratch = Scratch::new();
    let fifo = scratch.join("fifo");
    assert!(succeeds(&["mkfifo", &fifo.display().to_string()]));
    let kernel = "a file of the kernel, which may keep its reader waiting for ever";
    let cases = [
        (Path::new("/proc/kmsg"), kernel),
        (Path::new("/proc/self/environ"), kernel),
        (Path::new("/dev/zero"), "a character device, not a file"),
        (&fifo, "a FIFO, not a file"),
        (scratch.path(), "a directory, not a file"),
    ];
    for (path, reason) in cases {
        let config = with_environment_file(&scratch, "c.toml", path);
        let output = run(&scratch, &config).finish();
        output.assert_code(exit::FAILED);
        // Who is not root may not open it.
        if succeeds(&["test", "-r", "/proc/kmsg"]) || path != Path::new("/proc/kmsg") {
            output.assert_says(&format!("environment file {}: {reason}", path.display()));
        }
    }
}

#[test]
fn a_file_that_may_keep_its_reader_waiting_is_no_configuration() {
    let scratch = Scratch::new();
    for path in ["/proc/self/environ", "/dev/zero"] {
        run(&scratch, path).finish().assert_code(exit::USAGE).assert_says(", ");
        let words = ["check", "generate systemd", "generate launchd", "status --config"];
        for words in words {
            let words = words.split(' ').chain([path]);
            Running::start(&mut command(words)).finish().assert_code(exit::USAGE).assert_says("a ");
        }
    }
}

#[test]
fn a_file_system_that_does_not_answer_ends_a_start_with_its_name() {
    let scratch = Scratch::new();
    let file = scratch.write("environment", "A=1\n");
    let config = with_environment_file(&scratch, "c.toml", &file);
    let silent = scratch.write("silent.toml", "[pool.web]\ncommand = [\"/bin/true\"]\n");
    let _leases = (Lease::take(&file), Lease::take(&silent));
    let silent = silent.display().to_string();
    let began = [
        (run(&scratch, &config), exit::FAILED, file.display().to_string()),
        (run(&scratch, &silent), exit::USAGE, silent.clone()),
        (Running::start(&mut command(["check", &silent])), exit::USAGE, silent.clone()),
        (Running::start(&mut command(["generate", "systemd", &silent])), exit::USAGE, silent.clone()),
        (Running::start(&mut command(["status", "--config", &silent])), exit::USAGE, silent.clone()),
    ];
    let deadline = Instant::now() + Duration::from_secs(42);
    for (running, code, path) in began {
        let output = running.finish_before(deadline);
        output.assert_code(code).assert_says(&format!("reading {path} takes more than 30 s"));
        output.assert_says("hint: does the file system");
    }
}

#[test]
fn a_fuse_server_that_is_stopped_ends_a_start_all_the_same() {
    let mounts = "exec 9<>/dev/fuse && \
                  mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 silent \"$0\"";
    let scratch = Scratch::new();
    let at = scratch.path().display().to_string();
    if skipped("mounting FUSE", !succeeds(&["unshare", "-m", "sh", "-c", mounts, &at])) {
        return;
    }
    let handover = crate::support::handover().display().to_string();
    let script = format!("{mounts} && exec \"$1\" check \"$0/c.toml\"");
    let mut under = std::process::Command::new("unshare");
    under.args(["-m", "sh", "-c", &script, &at, &handover]);
    let output = Running::start(&mut under).finish_before(Instant::now() + Duration::from_secs(42));
    let said = format!("reading {at}/c.toml takes more than 30 s");
    output.assert_code(exit::USAGE).assert_says(&said);
}

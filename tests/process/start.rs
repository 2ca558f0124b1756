//! Starts that fail: at which stage, why, and how soon handover gives up.

use crate::support::daemon::{Setup, command};
use crate::support::machine::{AS_NOBODY, cannot_be_nobody};
use crate::support::scratch::{Address, Scratch};
use crate::support::service::Plan;

/// A plan that reaches its verdict quickly.
fn hasty() -> Plan {
    Plan::new().restart("burst", "2").restart("backoff", "\"5ms\"").restart("backoff_max", "\"10ms\"")
}

/// Starts it, waits for its end, which must be a failure, and returns the log.
#[track_caller]
fn fails(plan: Plan) -> String {
    let mut service = plan.begin();
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(service.manager().said(&["READY"]).is_empty(), "it said READY=1 and then failed");
    service.daemon.assert_nothing_left();
    log
}

#[track_caller]
fn assert_says(log: &str, texts: &[&str]) {
    for text in texts {
        assert!(log.contains(text), "nothing of {text:?} in:\n{log}");
    }
}

#[test]
fn a_program_that_is_missing_fails_at_its_stage() {
    let log = fails(hasty().command(&["/nonexistent/program"]));
    assert_says(&log, &["/nonexistent/program", "at stage program"]);
}

#[test]
fn a_program_that_may_not_be_executed_fails_at_its_stage() {
    let plan = hasty();
    let program = plan.scratch.write("program", "#!/bin/sh\n").display().to_string();
    let log = fails(plan.command(&[&program]));
    assert_says(&log, &[&program, "at stage program"]);
}

#[test]
fn a_directory_that_is_missing_fails_at_its_stage() {
    let log = fails(hasty().pool("directory", "\"/nonexistent/directory\""));
    assert_says(&log, &["/nonexistent/directory", "at stage directory"]);
}

#[test]
fn a_user_that_cannot_be_set_fails_at_its_stage() {
    if cannot_be_nobody() {
        return;
    }
    // As nobody, we cannot become daemon.
    let plan = hasty().pool("user", "\"daemon\"");
    plan.open_to_all();
    let setup = plan.setup().under(AS_NOBODY);
    let mut service = plan.begin_with(setup);
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    assert_says(&log, &["at stage groups", "operation not permitted"]);
}

#[test]
fn a_worker_that_exits_at_once_is_not_ready_even_with_success() {
    for status in ["0", "1"] {
        let log = fails(hasty().script(&format!("eprint=cannot go on\nexit={status}")));
        assert_says(&log, &["cannot go on"]);
    }
}

#[test]
fn a_worker_that_never_becomes_ready_is_a_failed_start_with_a_hint() {
    let log = fails(hasty().pool("start_timeout", "\"100ms\"").script("eprint=thinking\nserve\nhang"));
    let hint =
        r#""hint":"it waited for READY=1: it never wrote to NOTIFY_SOCKET; send READY=1 when it can serve"#;
    let ways = r#"or set ready = \"accept\" (it waits on its listeners) or \"exec\" (it stays for bake_time); if it is slow"#;
    assert_says(&log, &["thinking", "not ready after 100ms", hint, ways]);
    let log = fails(hasty().pool("start_timeout", "\"100ms\"").script("status=thinking\nserve\nhang"));
    assert_says(
        &log,
        &[r#""hint":"it waited for READY=1: it wrote to NOTIFY_SOCKET, but not that; send READY=1"#],
    );
}

#[test]
fn a_worker_that_binds_our_address_itself_gets_a_hint() {
    let plan = hasty().script("eprint=bind: Address already in use (os error 98)\nexit=1");
    assert_says(&fails(plan), &[r#""hint":"this program must listen on fd 3 ($LISTEN_FDS), not bind""#]);
}

#[test]
fn the_others_serve_while_one_slot_fails_for_good() {
    let script = "[slot=1] eprint=bind: Address already in use\n[slot=1] exit=1\nserve\nready";
    let service = hasty().workers(3).script(script).start();
    let ready = service.ready();
    assert_eq!(ready.iter().map(|worker| worker.slot).collect::<Vec<_>>(), [0, 2]);
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(
        status.contains("crash loop") && status.contains("  hint: this program must listen on fd 3"),
        "{status}"
    );
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_two_and_all_faults() {
    let scratch = Scratch::new();
    let half = scratch.write("half.toml", "[pool.web]\ncommand = [\"/bin/true\"\n");
    let faults = scratch.write(
        "faults.toml",
        "[listener.http]\nadress = \"tcp://127.0.0.1:1\"\n[pool.web]\ncommand = [\"/bin/true\"]\nstart_timeout = \"soon\"\n",
    );
    let empty = scratch.write("empty.toml", "");
    let missing = scratch.join("missing.toml");
    let directory = scratch.path().to_owned();
    for path in [&half, &faults, &empty, &missing, &directory] {
        let mut daemon = Setup::new(&scratch, [path]).start();
        assert_eq!(daemon.wait().code(), Some(2), "{}", path.display());
        daemon.log.read_to_end();
        let log = daemon.log.text();
        assert_says(&log, &[&path.display().to_string()]);
        if *path == faults {
            assert_says(&log, &["faults.toml:2:", "did you mean", "faults.toml:5:", "soon"]);
        }
    }
}

#[test]
fn a_command_line_that_is_wrong_ends_with_two() {
    for words in
        [&["run"][..], &["run", "--no-such-flag"], &["no-such-command"], &["run", "-n", "x", "--", "true"]]
    {
        let output = crate::support::daemon::Running::start(&mut command(words)).finish();
        output.assert_code(handover::exit::USAGE);
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn without_a_file_the_command_line_is_enough() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink(crate::support::scripted_worker(), scratch.join("myapp"))
        .expect("a free path");
    let words = ["-l", "127.0.0.1:0", "-l", "admin=127.0.0.1:0", "-n", "2", "--", "./myapp", "version=7"];
    let manager = crate::support::manager::NotifySocket::new(&scratch);
    let setup = Setup::new(&scratch, words).env("NOTIFY_SOCKET", manager.path());
    let mut daemon = setup.directory(scratch.path()).start();
    manager.wait_for("READY=1");
    let status = daemon.status();
    assert_eq!(status.0["daemon"]["name"], "myapp");
    let address = |name: &str| {
        let shown =
            status.listener(name).expect("it is shown")["address"].as_str().expect("a text").to_owned();
        Address::Tcp(shown.trim_start_matches("tcp://").parse().expect("with the port that the kernel gave"))
    };
    for name in ["http", "admin"] {
        assert_eq!(crate::support::client::get(&address(name), "/").expect("an answer").version(), "7");
    }
    let load = crate::support::load::Load::closed(&address("http"), 2).start();
    daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    load.stop().assert_nothing_lost();
    daemon.stop();
}

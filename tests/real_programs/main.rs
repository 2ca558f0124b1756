//! Programs that know nothing of handover, unmodified, as its workers; each with its file in `config/examples`.
//!
//! A program that this machine has not is skipped, and that is said in one line; with `HANDOVER_TEST_ALL=1` a skip
//! is a failure.

// It looks into /proc, and holds processes by pidfds.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

#[path = "../support/mod.rs"]
mod support;

mod editors;
mod redis;
mod stage;

use std::path::Path;

use stage::Stage;
use support::machine::skipped;

/// Deploys a good version and a bad one under load, and stops.
#[track_caller]
fn lives(stage: &Stage, file: &str, bad: &str, complaint: &str) {
    let daemon = stage.start();
    stage.manager.wait_for("READY=1");
    assert_eq!(stage.version(), "1");
    let (open, closed) = stage.load();

    stage.edit(file, "1", "2");
    daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
    closed.wait_for(100);
    daemon.settle();
    assert_eq!(stage.version(), "2");

    let good = std::fs::read_to_string(stage.scratch.join(file)).expect("our file");
    stage.scratch.write(file, bad);
    daemon.cli(&["reload"]).assert_code(handover::exit::FAILED).assert_says(complaint);
    closed.wait_for(100);
    daemon.settle();
    assert_eq!(stage.version(), "2");

    stage.scratch.write(file, good);
    stage.edit(file, "2", "3");
    daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
    daemon.settle();
    let (open, closed) = (open.stop(), closed.stop());
    for tally in [&open, &closed] {
        tally.print(file);
        tally.assert_nothing_lost();
    }
    let status = daemon.status();
    assert_eq!(status.0["daemon"]["fine"], true, "{}", status.0["daemon"]["summary"]);
    assert_eq!(stage.version(), "3");
    stage.finish(daemon);
}

#[test]
fn a_node_server_on_fd_3() {
    if skipped("node", support::machine::find("node").is_none()) {
        return;
    }
    let stage = Stage::new("node.toml", &["server.js"]);
    stage.replace("/usr/bin/node", &support::machine::find("node").expect("looked up above"));
    lives(&stage, "server.js", "throw new Error('no such module');\n", "no such module");
}

#[test]
fn a_python_asyncio_server() {
    if skipped("python3", support::machine::find("python3").is_none()) {
        return;
    }
    let stage = Stage::new("python.toml", &["server.py"]);
    stage.replace("/usr/bin/python3", &support::machine::find("python3").expect("looked up above"));
    lives(&stage, "server.py", "import no_such_module\n", "no_such_module");
}

#[test]
fn gunicorn_as_it_comes_from_the_package_index() {
    let Some(command) = stage::gunicorn() else {
        skipped("gunicorn", true);
        return;
    };
    let stage = Stage::new("gunicorn.toml", &["wsgi.py"]);
    stage.replace("\"/srv/myapp/venv/bin/gunicorn\"", &command);
    lives(&stage, "wsgi.py", "import no_such_module\n", "no_such_module");
}

#[test]
fn nginx_with_its_own_way_to_inherit_sockets() {
    let nginx = Path::new("/usr/sbin/nginx");
    if skipped("nginx", !nginx.exists()) {
        return;
    }
    let stage = Stage::new("nginx.toml", &["nginx.conf"]);
    lives(&stage, "nginx.conf", "no_such_directive;\n", "no_such_directive");
}

#[test]
fn a_shell_script_with_systemd_notify() {
    if skipped("systemd-notify", support::machine::find("systemd-notify").is_none()) {
        return;
    }
    let stage = Stage::new("shell.toml", &["job.sh"]);
    let daemon = stage.start();
    stage.manager.wait_for("READY=1");
    assert!(daemon.status().mentions("version=1"));
    stage.edit("job.sh", "1", "2");
    daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
    assert!(daemon.status().mentions("version=2"));
    stage.scratch.write_program("job.sh", "#!/bin/sh\necho out of luck >&2\nexit 1\n");
    daemon.cli(&["reload"]).assert_code(handover::exit::FAILED).assert_says("out of luck");
    assert!(daemon.status().mentions("version=2"));
    stage.finish(daemon);
}

//! The `handover` command as people and scripts see it: help, output, exit codes. The daemon that it talks to here
//! is the real server of the control API with a script behind it.
//!
//! `HANDOVER_BLESS=1 cargo test --test cli` writes the files of `tests/golden/cli` anew.

#![cfg(feature = "cli")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use handover::control::event::{Of, What};
use handover::control::plan::{Plan, ProgramPlan};
use handover::control::protocol::{Reload, Request, Scale, Stop};
use handover::control::server::Traffic;
use handover::control::{Access, Call, Event, Finish, Reply, StatusDocument, Telling, Verdict, serve};
use handover::exit;
use handover::id::PoolName;

#[path = "cli/events.rs"]
mod events;
#[path = "cli/send.rs"]
mod send;
#[path = "cli/telling.rs"]
mod telling;

const COMMANDS: [&str; 12] = [
    "run", "demo", "check", "status", "events", "reload", "restart", "cancel", "scale", "stop", "send",
    "generate",
];

fn handover(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    read(command.output().expect("the command starts"))
}

fn read(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn code(exit: u8) -> i32 {
    i32::from(exit)
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(name);
    if std::env::var_os("HANDOVER_BLESS").is_some() {
        fs::write(&path, actual).expect("the golden file can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{name} differs\n--- expected\n{expected}--- actual\n{actual}");
}

/// A daemon whose every answer is scripted.
struct Daemon {
    socket: PathBuf,
    requests: mpsc::Receiver<Request>,
    end: tokio::sync::mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Daemon {
    fn new(script: impl FnMut(Call) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("control.sock");
        let (ready, bound) = mpsc::channel();
        let (seen, requests) = mpsc::channel();
        let (end, ended) = tokio::sync::mpsc::channel(1);
        let path = socket.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let tasks = tokio::task::LocalSet::new();
            runtime.block_on(tasks.run_until(answer(path, script, seen, ready, ended)));
        });
        bound.recv().expect("the socket is bound");
        Self { socket, requests, end, thread: Some(thread), _directory: directory }
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = handover(arguments);
        command.arg("--socket").arg(&self.socket);
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        output(&mut self.client(arguments))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.end.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(
    path: PathBuf,
    mut script: impl FnMut(Call),
    seen: mpsc::Sender<Request>,
    ready: mpsc::Sender<()>,
    mut ended: tokio::sync::mpsc::Receiver<()>,
) {
    let listener = tokio::net::UnixListener::bind(&path).expect("the socket");
    ready.send(()).expect("somebody waits");
    let access = Access { owner: nix::unistd::geteuid().as_raw(), group: None };
    let (sender, mut calls) = tokio::sync::mpsc::channel::<handover::control::Call>(1);
    let traffic = Rc::new(Traffic::default());
    tokio::task::spawn_local(serve(listener, access, |_| Ok(Vec::new()), sender, traffic));
    loop {
        tokio::select! {
            _ = ended.recv() => return,
            Some(call) = calls.recv() => {
                let _ = seen.send(call.request.clone());
                let delivery = call.reply.delivery();
                script(call);
                // A script may keep its call for ever; then there is nothing to deliver.
                tokio::task::spawn_local(delivery.done());
            }
        }
    }
}

fn example() -> (String, StatusDocument) {
    let page = include_str!("../docs/control.md");
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.expect("the page has an example").to_owned();
    let document = serde_json::from_str(&example).expect("the example is a status document");
    (example, document)
}

fn on_the_way(reply: &Reply) {
    let what = What::RolloutStarted(Of { generation: 4 });
    reply.tell(&Telling::new(&Event::new(7, std::time::UNIX_EPOCH, what)));
}

fn finishing(finish: Finish) -> Daemon {
    Daemon::new(move |call| {
        on_the_way(&call.reply);
        call.reply.finish(finish.clone());
    })
}

#[test]
fn help_is_as_it_was() {
    let (status, text, _) = output(&mut handover(&["--help"]));
    assert_eq!(status, code(exit::DONE));
    golden("help.txt", &text);
    for command in COMMANDS {
        let (status, text, _) = output(&mut handover(&[command, "--help"]));
        assert_eq!(status, code(exit::DONE), "{command}");
        golden(&format!("help-{command}.txt"), &text);
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error_on_standard_error() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run"],
        &["run", "a.toml", "--", "prog"],
        &["run", "a.toml", "-n", "2"],
        &["run", "-n", "many", "--", "prog"],
        &["run", "--name", "../x", "--", "prog"],
        &["check"],
        &["status", "--name", "a", "--socket", "/x"],
        &["status", "--name", "A/b"],
        &["reload", "--wait", "--no-wait"],
        &["reload", "--dry-run", "--no-wait"],
        &["reload", "--timeout", "soon"],
        &["reload", "--no-wait", "--timeout", "3s"],
        &["scale", "web"],
        &["scale", "web", "0"],
        &["scale", "web", "3", "--reset"],
        &["generate"],
        &["generate", "completions", "tcsh"],
        &["generate", "man", "handover.1", "--directory", "/x"],
    ] {
        let (status, out, err) = output(&mut handover(arguments));
        assert_eq!(status, code(exit::USAGE), "{arguments:?}: {err}");
        assert!(
            out.is_empty() && err.contains("--help") | err.contains("Usage:"),
            "{arguments:?}: {out}{err}"
        );
    }
}

#[test]
fn words_that_are_no_text_are_a_usage_error_as_well() {
    use std::os::unix::ffi::OsStrExt;
    let word = std::ffi::OsStr::from_bytes(b"\xff");
    let (status, _, err) = output(handover(&["reload"]).arg(word));
    assert_eq!(status, code(exit::USAGE), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn check_shows_all_faults_at_once_or_the_canonical_form() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "[pool.web]\ncommand = [\"/bin/cat\"]\n").unwrap();
    let (status, out, err) = output(&mut handover(&["check", path]));
    assert_eq!((status, out, err), (code(exit::DONE), format!("{path}: no faults\n"), String::new()));
    let (status, canonical, _) = output(&mut handover(&["check", path, "--print"]));
    assert_eq!(status, code(exit::DONE));
    fs::write(&file, &canonical).unwrap();
    assert_eq!(output(&mut handover(&["check", path, "--print"])).1, canonical);

    fs::write(&file, "[pool.web]\ncommand = []\nwokers = 3\nready = \"soon\"\n").unwrap();
    let (status, out, err) = output(&mut handover(&["check", path]));
    assert_eq!((status, out.as_str()), (code(exit::USAGE), ""));
    for place in ["app.toml:2:", "app.toml:3:", "app.toml:4:"] {
        assert!(err.contains(place), "{err}");
    }
    assert!(!err.contains('\u{1b}'), "no colour where nobody looks");
    let (status, _, err) = output(&mut handover(&["check", "/nowhere.toml"]));
    assert_eq!(status, code(exit::USAGE));
    assert_eq!(err, "error: /nowhere.toml: no such file or directory\n");
}

#[test]
fn status_is_a_table_for_people_and_the_document_for_programs() {
    let daemon = Daemon::new(|call| call.reply.status(&example().1));
    let (status, out, err) = daemon.run(&["status"]);
    assert_eq!((status, err.as_str()), (code(exit::DONE), ""));
    golden("status.txt", &out);
    let (status, out, _) = daemon.run(&["status", "--json"]);
    assert_eq!(status, code(exit::DONE));
    let document: StatusDocument = serde_json::from_str(&out).unwrap();
    assert_eq!(document, example().1);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = Daemon::new(|call| call.reply.status(&example().1));
    let mut client =
        daemon.client(&["status"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(client.stdout.take());
    assert_eq!(read(client.wait_with_output().unwrap()), (code(exit::DONE), String::new(), String::new()));
}

#[test]
fn each_end_has_its_exit_code() {
    let end = |verdict| Finish::new(verdict, "that is how it ended");
    for (verdict, expected) in [
        (Verdict::Done, exit::DONE),
        (Verdict::Accepted, exit::DONE),
        (Verdict::RolledBack, exit::FAILED),
        (Verdict::Failed, exit::FAILED),
        (Verdict::Refused, exit::USAGE),
    ] {
        let daemon = finishing(end(verdict));
        for arguments in
            [&["reload"][..], &["restart", "--pool", "web"], &["cancel"], &["scale", "web", "3"], &["stop"]]
        {
            let (status, out, err) = daemon.run(arguments);
            assert_eq!(status, code(expected), "{arguments:?} {verdict:?}");
            assert!(err.starts_with("rolling out generation 4\n"), "{err}");
            let good = expected == exit::DONE;
            assert_eq!(out, if good { "that is how it ended\n" } else { "" });
            assert_eq!(err.contains("handover: that is how it ended"), !good, "{err}");
        }
    }
}

#[test]
fn what_is_typed_is_what_is_asked() {
    let daemon = finishing(Finish::new(Verdict::Done, "done"));
    let web = || PoolName::new("web");
    for (arguments, request) in [
        (&["reload"][..], Request::Reload(Reload::default())),
        (
            &["reload", "--changed", "--no-wait", "--pool", "web", "--pool", "api"],
            Request::Reload(Reload {
                pools: [web(), PoolName::new("api")].into(),
                changed: true,
                wait: false,
                dry_run: false,
            }),
        ),
        (
            &["reload", "--dry-run", "--changed"],
            Request::Reload(Reload { changed: true, dry_run: true, ..Reload::default() }),
        ),
        (
            &["scale", "web", "3", "--wait"],
            Request::Scale(Scale { pool: web(), workers: Some(3), by: None, reset: false, wait: true }),
        ),
        (
            &["scale", "web", "--reset"],
            Request::Scale(Scale { pool: web(), workers: None, by: None, reset: true, wait: true }),
        ),
        (&["stop", "--now"], Request::Stop(Stop { now: true })),
    ] {
        assert_eq!(daemon.run(arguments).0, code(exit::DONE), "{arguments:?}");
        assert_eq!(daemon.requests.recv().unwrap(), request);
    }
}

/// The plan that the page shows.
fn documented_plan() -> Plan {
    let page = include_str!("../docs/control.md");
    let example = page.split("```json plan\n").nth(1).and_then(|rest| rest.split("```").next());
    serde_json::from_str(example.expect("the page has a plan")).expect("the example is a plan")
}

#[test]
fn a_dry_run_is_a_short_text_for_people() {
    let finish = |verdict, plan: &Plan| Finish {
        plan: Some(Box::new(plan.clone())),
        ..Finish::new(verdict, "the same in short")
    };
    let plan = documented_plan();
    let (status, out, err) = finishing(finish(Verdict::Done, &plan)).run(&["reload", "--dry-run"]);
    assert_eq!((status, err.as_str()), (code(exit::DONE), "rolling out generation 4\n"));
    golden("dry-run.txt", &out);

    let missing = "program /srv/myapp/current/bin/myapp: no such file or directory".to_owned();
    let program = ProgramPlan { path: None, differs: None, missing: Some(missing.clone()) };
    let mut running = Plan { rollout_running: true, warnings: vec![format!("pool web: {missing}")], ..plan };
    running.pools[3].program = Some(program);
    running.summary = running.verdict();
    let (status, out, _) = finishing(finish(Verdict::Done, &running)).run(&["reload", "--dry-run"]);
    assert_eq!(status, code(exit::DONE));
    golden("dry-run-running.txt", &out);

    let refusals =
        ["name: the runtime directory has this name: needs a restart", "listener x: no\nhint: \u{1b}[2J"];
    let mut refused = Plan { refusals: refusals.map(str::to_owned).to_vec(), ..Plan::default() };
    refused.summary = refused.verdict();
    let (status, out, err) = finishing(finish(Verdict::Refused, &refused)).run(&["reload", "--dry-run"]);
    assert_eq!((status, err.as_str()), (code(exit::USAGE), "rolling out generation 4\n"));
    golden("dry-run-refused.txt", &out);

    let (_, out, _) = finishing(finish(Verdict::Refused, &refused)).run(&["reload", "--dry-run", "--json"]);
    let line: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(line["plan"], serde_json::to_value(&refused).unwrap());
}

#[test]
fn json_lines_are_the_answer_as_it_came() {
    let (status, out, err) = finishing(Finish::new(Verdict::Refused, "no")).run(&["reload", "--json"]);
    assert_eq!((status, err.as_str()), (code(exit::USAGE), ""));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[1]["type"]), (&"progress".into(), &"result".into()));
    assert_eq!((&lines[1]["result"], lines.len()), (&"refused".into(), 2));
}

#[test]
fn the_clients_own_timeout_is_not_the_works() {
    let mut kept = Vec::new();
    let daemon = Daemon::new(move |call| kept.push(call));
    let (status, _, err) = daemon.run(&["reload", "--timeout", "300ms"]);
    assert_eq!(status, code(exit::TIMED_OUT));
    assert!(err.contains("the reload goes on"), "{err}");
}

#[test]
fn ctrl_c_ends_the_client_only() {
    let mut kept = Vec::new();
    let daemon = Daemon::new(move |call| kept.push(call));
    let client: Child =
        daemon.client(&["reload"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    daemon.requests.recv().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(client.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let (status, _, err) = read(client.wait_with_output().unwrap());
    assert_eq!(status, code(exit::INTERRUPTED));
    assert!(err.contains("the reload goes on"), "{err}");
}

#[test]
fn no_daemon_has_its_exit_code_and_says_where_it_looked() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    for command in ["status", "reload", "stop"] {
        let (status, out, err) = output(handover(&[command, "--socket"]).arg(&socket));
        assert_eq!((status, out.as_str()), (code(exit::NO_DAEMON), ""));
        assert!(err.starts_with(&format!("handover: {}: no daemon answers here", socket.display())), "{err}");
    }
    let left = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    drop(left);
    let (status, ..) = output(handover(&["status", "--socket"]).arg(&socket));
    assert_eq!(status, code(exit::NO_DAEMON), "a socket that a dead daemon left");
}

#[test]
fn a_daemon_that_ends_in_between_did_not_do_it_unless_that_was_wanted() {
    let daemon = Daemon::new(|call| {
        on_the_way(&call.reply);
    });
    let (status, _, err) = daemon.run(&["reload"]);
    assert_eq!(status, code(exit::NO_DAEMON));
    assert!(err.contains("handover: the connection ended: the daemon is gone"), "{err}");
    assert_eq!(daemon.run(&["status"]).0, code(exit::NO_DAEMON));
    let (status, out, _) = daemon.run(&["stop"]);
    assert_eq!((status, out.as_str()), (code(exit::DONE), "stopped\n"));
}

#[test]
fn the_surroundings_of_the_service_name_its_daemon() {
    let daemon = Daemon::new(|call| call.reply.status(&example().1));
    let directory = daemon.socket.parent().unwrap();
    let (status, out, _) = output(handover(&["status", "--json"]).env("RUNTIME_DIRECTORY", directory));
    assert_eq!(status, code(exit::DONE));
    assert!(out.contains("\"myapp\""));
}

#[test]
fn the_demos_worker_serves_the_socket_it_was_given_and_ends_when_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let script = "export LISTEN_PID=$$; exec \"$0\" __demo-worker 3<&0 0</dev/null";
    let mut worker = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_handover")])
        .env("LISTEN_FDS", "1")
        .stdin(std::os::fd::OwnedFd::from(listener))
        .spawn()
        .unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answer = std::io::read_to_string(client).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(worker.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(worker.wait().unwrap().code(), Some(code(exit::DONE)));
}

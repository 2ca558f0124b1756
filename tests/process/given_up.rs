//! Clients that wait for the daemon's end, and clients that do not wait for its answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use handover::exit::{DONE, NO_DAEMON, TIMED_OUT};

use crate::support::service::{Plan, Service};
use crate::support::{PATIENCE, eventually};

/// A standard error that nobody reads, and that is full: a daemon takes two seconds to say its last words there.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::os::fd::AsRawFd;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    #[allow(unsafe_code, reason = "no safe call sets a flag of an fd")]
    let nonblocking = |on: bool| {
        let flags = if on { libc::O_NONBLOCK } else { 0 };
        // SAFETY: an open fd and flags.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }
    };
    nonblocking(true);
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    #[allow(unsafe_code, reason = "as above")]
    // SAFETY: as above.
    unsafe {
        libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, 0)
    };
    (reader, writer)
}

#[test]
fn when_stop_returns_the_next_daemon_can_start() {
    let plan = Plan::new();
    let mut daemon = plan.setup().start();
    plan.manager.wait_for("READY=1");
    for _ in 0..30 {
        let socket = daemon.socket().to_owned();
        daemon.cli(&["stop"]).assert_code(DONE);
        assert!(!socket.exists() && !socket.with_file_name("lock").exists());
        let next = plan.setup().start();
        plan.manager.wait_for("READY=1");
        assert!(!daemon.is_running());
        daemon = next;
    }
    daemon.stop();
}

#[test]
fn stop_waits_for_a_daemon_that_takes_long_to_end() {
    let plan = Plan::new();
    let (reader, writer) = full_pipe();
    let mut daemon = plan.setup().stderr(writer).start();
    plan.manager.wait_for("READY=1");
    // Its answer is there long before the end.
    let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("our socket");
    let stop = daemon.begin(&["stop", "--json"]);
    let output = stop.finish();
    output.assert_code(DONE).assert_says("\"process_ends\":true");
    assert!(
        output.stderr.contains("the workers have ended, process"),
        "it is said after a second: {output:#?}"
    );
    assert!(!daemon.is_running(), "the process is gone");
    let mut next = plan.setup().start();
    plan.manager.wait_for("READY=1");
    drop(reader);
    next.stop();
    drop(stream.read(&mut [0; 1]));
}

#[test]
fn a_stop_has_a_timeout_and_goes_on() {
    let mut service = Plan::new().script("serve\nready\nend-takes=2s").start();
    let output = service.daemon.cli(&["stop", "--timeout", "200ms"]);
    output.assert_code(TIMED_OUT).assert_says("the stop goes on");
    assert_eq!(service.daemon.wait().code(), Some(0));
}

fn request(service: &Service, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(service.daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("our socket");
    let length = body.len();
    let text = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).expect("a new connection has room");
    stream
}

fn stopped(service: &Service) {
    service.daemon.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", service.daemon.pid());
    eventually("it is stopped", || std::fs::read_to_string(&stat).ok()?.contains(") T ").then_some(()));
}

#[test]
fn what_a_client_gave_up_on_before_it_was_begun_is_not_done() {
    let mut service = Plan::new().start();
    stopped(&service);
    let requests = [
        ("/v1/restart", ""),
        ("/v1/reload", ""),
        ("/v1/scale", r#"{"pool": "web", "workers": 3}"#),
        ("/v1/send", r#"{"pool": "web", "data": "x"}"#),
        ("/v1/stop", ""),
        ("/v1/stop", r#"{"now": true}"#),
    ];
    for (path, body) in requests {
        drop(request(&service, path, body));
    }
    service.daemon.signal(libc::SIGCONT);
    // Who comes next is served after them.
    let status = service.daemon.status();
    assert_eq!(status.ready("web").len(), 1);
    assert!(service.daemon.is_running());
    service.daemon.log.wait_for("a dropped request", |line| {
        line.message() == "request dropped: its client left before it was begun"
    });
    assert_eq!(service.reports().count("started"), 1, "nothing was rolled");
    service.daemon.cli(&["status"]).assert_code(DONE).assert_says("test: fine: 1 of 1 workers ready");
    service.stop();
}

#[test]
fn the_command_that_gave_up_has_stopped_nothing() {
    let mut service = Plan::new().start();
    stopped(&service);
    let stop = service.daemon.cli(&["stop"]);
    stop.assert_code(NO_DAEMON).assert_says("no answer yet").assert_says("the daemon does not answer");
    service.daemon.signal(libc::SIGCONT);
    service.daemon.cli(&["status", "--check"]).assert_code(DONE);
    assert!(service.daemon.is_running());
    service.stop();
}

#[test]
fn a_client_that_has_only_said_all_it_wants_gets_its_answer() {
    let service = Plan::new().start();
    for is_stopped in [false, true] {
        if is_stopped {
            stopped(&service);
        }
        let mut stream = request(&service, "/v1/restart", "");
        // As `nc -N` does.
        stream.shutdown(Shutdown::Write).expect("our socket");
        service.daemon.signal(libc::SIGCONT);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(r#""result":"done""#), "{answer}");
    }
    service.stop();
}

#[test]
fn what_was_begun_goes_on_without_its_client() {
    let service = Plan::new().script("serve\nready\nend-takes=100ms").start();
    service.deploy("serve\nwait=300ms\nready");
    let stream = request(&service, "/v1/restart", "");
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    drop(stream);
    service.reports().wait("the canary", |report| report.what == "ready" && report.generation == 2);
    // A client that does not wait is answered, and may leave.
    service.daemon.cli(&["restart", "--no-wait"]).assert_code(DONE);
    service.reports().wait("the next", |report| report.what == "ready" && report.generation == 3);
    service.stop();
}

#[test]
fn a_client_says_that_a_daemon_was_stopped_in_the_middle_of_its_work() {
    let service = Plan::new().start();
    service.deploy("hang");
    let reload = service.daemon.begin(&["reload", "--json", "--timeout", "6s"]);
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    stopped(&service);
    let output = reload.finish();
    output.assert_code(TIMED_OUT).assert_says("; state T (stopped)");
    assert!(!output.stdout.contains("no answer"), "{output:#?}");
    service.daemon.signal(libc::SIGCONT);
    service.stop();
}

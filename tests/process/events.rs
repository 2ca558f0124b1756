//! The event stream: in order, complete, and no burden to anybody.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use handover::control::answer::Line;
use handover::control::event::{self, Who};
use handover::control::server::BACKLOG_MAX;
use handover::control::{Event, Verdict, What};

use crate::support::child::OwnedChild;
use crate::support::events::Events;
use crate::support::log::Log;
use crate::support::machine::cannot_be_nobody;
use crate::support::service::{Plan, Service};
use crate::support::{PATIENCE, deadline, eventually, handover, proc, scripted_worker};

/// The `type` of each, for the order.
fn types(events: &[Event]) -> Vec<String> {
    let value = |event: &Event| serde_json::to_value(event).expect("an event is JSON");
    events.iter().map(|event| value(event)["type"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Those of one worker.
fn of_worker(events: &[Event], worker: u64) -> Vec<String> {
    let of: Vec<Event> = events
        .iter()
        .filter(|event| event.what.who().is_some_and(|who| who.worker == worker))
        .cloned()
        .collect();
    types(&of)
}

/// Those that are of no worker.
fn of_no_worker(events: &[Event]) -> Vec<String> {
    let of: Vec<Event> = events.iter().filter(|event| event.what.who().is_none()).cloned().collect();
    types(&of)
}

/// Each number once, in order, from the one after `hello`.
fn assert_complete(events: &Events) -> Vec<Event> {
    let seen = events.seen();
    let numbers: Vec<u64> = seen.iter().map(|event| event.number).collect();
    let first = events.begin() + 1;
    assert_eq!(numbers, (first..first + seen.len() as u64).collect::<Vec<_>>());
    assert!(!seen.iter().any(|event| matches!(event.what, What::Lost { .. })), "{}", events.text());
    seen
}

fn wait_for_gone(events: &Events, worker: u64) {
    events.wait_for(
        "the worker's end",
        |event| matches!(&event.what, What::WorkerGone(Who { worker: gone, .. }) if *gone == worker),
    );
}

const BORN: [&str; 3] = ["worker_started", "worker_executed", "worker_ready"];

#[test]
fn a_start_and_a_stop_are_told_from_the_first_to_the_last() {
    let plan = Plan::new().workers(2);
    let go = plan.scratch.join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("our directory");
    // Neither becomes a worker before it has read a line.
    let program = scripted_worker().display().to_string();
    let script = format!("read line < {}; exec {program}", go.display());
    let service = plan.command(&["/bin/sh", "-c", &script]).begin();
    let socket = service.daemon.socket().to_owned();
    eventually("it listens", || UnixStream::connect(&socket).ok());
    let events = service.daemon.events();
    // For reading as well, so that this waits for nobody: fifo(7).
    let mut gate = File::options().read(true).write(true).open(&go).expect("a FIFO");
    gate.write_all(b"go\ngo\n").expect("room");
    let ready = events.wait_for("readiness", |event| event.what == What::DaemonReady);
    drop(gate);
    assert_eq!(ready.message, "the daemon is ready");
    let Service { mut daemon, plan } = service;
    daemon.stop();
    let seen = events.read_to_end();
    assert_complete(&events);
    for worker in [1, 2] {
        let told = of_worker(&seen, worker);
        assert!(
            told.ends_with(
                &["worker_ready", "worker_draining", "worker_ended", "worker_gone"].map(str::to_owned)
            ),
            "{told:?}"
        );
    }
    assert_eq!(
        of_no_worker(&seen),
        [
            "daemon_ready",
            "request_received",
            "daemon_stopping",
            "stop_signal",
            "request_answered",
            "daemon_ended"
        ]
    );
    assert_eq!(seen.last().map(|event| &event.what), Some(&What::DaemonEnded { failure: None }));
    drop(plan);
}

#[test]
fn a_reload_is_told_step_by_step_and_its_progress_is_the_same() {
    let service = Plan::new().start();
    let events = service.daemon.events();
    let output = service.daemon.cli(&["reload", "--json"]);
    output.assert_code(handover::exit::DONE);
    events.wait_for("the last of it", |event| matches!(event.what, What::GenerationForgotten(_)));
    let seen = assert_complete(&events);
    assert_eq!(
        of_no_worker(&seen),
        [
            "request_received",
            "daemon_reloading",
            "rollout_started",
            "canary_proven",
            "rollout_done",
            "generation_committed",
            "daemon_ready",
            "request_answered",
            "generation_forgotten",
        ]
    );
    assert_eq!(of_worker(&seen, 2), BORN);
    assert_eq!(of_worker(&seen, 1), ["worker_draining", "worker_ended", "worker_gone"]);
    let What::RequestReceived { request, asked } = &seen[0].what else { panic!("{seen:#?}") };
    assert_eq!((asked.what, asked.changed), (event::Command::Reload, Some(false)));
    let answered = events.wait_for(
        "the answer",
        |event| matches!(&event.what, What::RequestAnswered { request: answered, .. } if answered == request),
    );
    assert!(matches!(
        answered.what,
        What::RequestAnswered { result: Verdict::Done, generation: Some(2), .. }
    ));

    let lines: Vec<Line> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    let [progress @ .., Line::Result(_)] = &lines[..] else { panic!("{lines:#?}") };
    assert!(!progress.is_empty());
    for line in progress {
        let Line::Progress(progress) = line else { panic!("{line:#?}") };
        assert!(progress.event.what.is_progress() && seen.contains(&progress.event), "{progress:#?}");
    }
    service.stop();
}

#[test]
fn a_deploy_that_fails_is_told_with_its_reason() {
    let service = Plan::new().start();
    let events = service.daemon.events();
    service.deploy("eprint=no key\nexit=3");
    service.reload().assert_code(handover::exit::FAILED);
    wait_for_gone(&events, 2);
    let seen = assert_complete(&events);
    let told = of_worker(&seen, 2);
    assert_eq!(told[told.len() - 3..], ["worker_ended", "worker_failed", "worker_gone"]);
    let rollout = of_no_worker(&seen);
    for pair in [
        ["rollout_started", "rolling_back"],
        ["rolling_back", "rolled_back"],
        ["rolled_back", "daemon_ready"],
        ["daemon_ready", "request_answered"],
    ] {
        let at = |name| rollout.iter().position(|other| other == name);
        assert!(at(pair[0]).is_some() && at(pair[0]) < at(pair[1]), "{rollout:?}");
    }
    let failed = events.wait_for("the failure", |event| matches!(event.what, What::WorkerFailed { .. }));
    let What::WorkerFailed { failure, .. } = &failed.what else { panic!("{failed:#?}") };
    assert_eq!((failure.kind.as_str(), failure.exit_code), ("ended_before_ready", Some(3)));
    assert_eq!(failure.output.as_deref(), Some(["no key".to_owned()].as_slice()));
    let back = events.wait_for("the rollback", |event| matches!(event.what, What::RollingBack { .. }));
    let What::RollingBack { generation: 2, failure } = &back.what else { panic!("{back:#?}") };
    assert_eq!(failure.worker, Some(2));
    service.stop();
}

#[test]
fn a_configuration_that_is_refused_is_told() {
    let service = Plan::new().start();
    let events = service.daemon.events();
    service.plan.scratch.write("c.toml", "nonsense");
    service.reload().assert_code(handover::exit::USAGE);
    events.wait_for("the answer", |event| matches!(event.what, What::RequestAnswered { .. }));
    assert_eq!(
        types(&assert_complete(&events)),
        ["request_received", "daemon_reloading", "reload_refused", "daemon_ready", "request_answered"]
    );
    service.stop();
}

#[test]
fn a_crash_is_told_with_the_status_that_the_worker_had() {
    let service = Plan::new().script("serve\nstatus=at work\nready").start();
    let events = service.daemon.events();
    let worker = service.ready()[0].clone();
    service.kill(&worker);
    events.wait_for(
        "the next one",
        |event| matches!(&event.what, What::WorkerReady { who, .. } if who.worker == 2),
    );
    wait_for_gone(&events, 1);
    let seen = assert_complete(&events);
    assert_eq!(of_worker(&seen, 1), ["worker_ended", "worker_failed", "worker_gone"]);
    assert!(of_no_worker(&seen).is_empty(), "{seen:#?}");
    let ended = events.wait_for("its end", |event| matches!(event.what, What::WorkerEnded { .. }));
    let What::WorkerEnded { who, end } = &ended.what else { panic!("{ended:#?}") };
    assert_eq!((who.pid, end.signal, end.exit_code), (Some(worker.pid), Some(libc::SIGKILL), None));
    let said = events.wait_for("what it says", |event| matches!(event.what, What::WorkerStatus { .. }));
    assert!(said.message == "worker 2 says: at work", "{said:#?}");
    service.stop();
}

#[test]
fn scaling_is_told() {
    let service = Plan::new().start();
    let events = service.daemon.events();
    service.daemon.cli(&["scale", "web", "2"]).assert_code(0);
    service.daemon.cli(&["scale", "web", "1"]).assert_code(0);
    wait_for_gone(&events, 2);
    let seen = assert_complete(&events);
    let told = of_worker(&seen, 2);
    let ends = ["worker_draining", "worker_ended", "worker_gone"];
    assert_eq!(told, BORN.iter().chain(&ends).copied().collect::<Vec<_>>());
    assert_eq!(types(&seen).iter().filter(|name| *name == "request_answered").count(), 2);
    let What::RequestReceived { asked, .. } = &seen[0].what else { panic!("{seen:#?}") };
    assert_eq!(
        (asked.what, asked.workers, asked.pool.as_deref()),
        (event::Command::Scale, Some(2), Some("web"))
    );
    service.stop();
}

#[test]
fn listeners_that_come_and_go_are_told() {
    let mut service = Plan::new().start();
    let more = crate::support::scratch::Address::tcp();
    let events = service.daemon.events();
    service.configure("listener.more", "address", Some(&format!("\"{more}\"")));
    service.configure("pool.web", "listeners", Some("[\"http\", \"more\"]"));
    service.reload_and_settle();
    service.configure("listener.more", "address", None);
    service.configure("pool.web", "listeners", Some("[\"http\"]"));
    service.reload_and_settle();
    let bound = events.wait_for("a new listener", |event| matches!(event.what, What::ListenerBound { .. }));
    let What::ListenerBound { at, afresh: false } = &bound.what else { panic!("{bound:#?}") };
    assert_eq!((at.listener.as_str(), &at.address), ("more", &more.to_string()));
    let closed = events.wait_for("its end", |event| matches!(event.what, What::ListenerClosed { .. }));
    assert!(matches!(&closed.what, What::ListenerClosed { at: gone, reset: 0 } if gone == at));
    assert_eq!(
        types(&assert_complete(&events)).iter().filter(|name| name.starts_with("listener_")).count(),
        2
    );
    service.stop();
}

#[test]
fn the_status_says_which_event_it_includes() {
    let service = Plan::new().start();
    let last = |service: &Service| service.daemon.status().0["daemon"]["last_event"].as_u64();
    let events = service.daemon.events();
    assert_eq!(last(&service), Some(events.begin()));
    service.reload_and_settle();
    let included = last(&service).expect("a number");
    events.wait_for("the last event", |event| event.number == included);
    service.stop();
}

/// A stream that nobody reads.
fn silent(service: &Service) -> UnixStream {
    let mut stream = UnixStream::connect(service.daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("our socket");
    stream.write_all(b"GET /v1/events HTTP/1.0\r\n\r\n").expect("it reads");
    stream
}

#[test]
fn a_reader_that_does_not_read_harms_nobody_and_is_told_what_it_missed() {
    let service = Plan::new().script("serve\nready\nstatus-flood=700").start();
    let stream = silent(&service);
    let events = service.daemon.events();
    let memory = proc::own_memory_kib(service.daemon.pid());
    for number in 2..12 {
        service.daemon.cli(&["restart"]).assert_code(0);
        events.wait_for("the last that it says", |event| {
            matches!(&event.what, What::WorkerStatus { who, status } if who.worker == number && status.starts_with("699 "))
        });
        service.daemon.settle();
    }
    let last = service.daemon.status().0["daemon"]["last_event"].as_u64().expect("a number");
    events.wait_for("the last event", |event| event.number >= last);
    assert_complete(&events);
    let grown = proc::own_memory_kib(service.daemon.pid()).saturating_sub(memory);
    let most = BACKLOG_MAX as u64 / 1024 * 4;
    assert!(grown < most, "{grown} KiB more than {memory} KiB");

    let mut number = None;
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it is not cut off"));
    lines.by_ref().find(String::is_empty).expect("the head has an end");
    let lost = loop {
        let event: Event = serde_json::from_str(&lines.next().expect("more")).expect("an event");
        if let What::Lost { count } = event.what {
            assert_eq!(number.map(|number: u64| number + count), Some(event.number));
            break event.number;
        }
        assert!(number.is_none_or(|number| number + 1 == event.number), "{event:#?}");
        number = Some(event.number);
    };
    service.reload_well();
    let next: Event = serde_json::from_str(&lines.next().expect("more")).expect("an event");
    assert_eq!(next.number, lost + 1, "and it goes on");
    service.stop();
}

#[test]
fn two_hundred_readers_all_see_the_same_and_those_that_vanish_are_no_matter() {
    let service = Plan::new().workers(2).start();
    let before = proc::fds(service.daemon.pid()).len();
    let mut readers: Vec<Events> = (0..200).map(|_| service.daemon.events()).collect();
    service.reload_well();
    readers.truncate(150);
    service.reload_and_settle();
    let last = service.daemon.status().0["daemon"]["last_event"].as_u64().expect("a number");
    let all: Vec<Vec<Event>> = readers
        .iter()
        .map(|reader| {
            reader.wait_for("the last event", |event| event.number >= last);
            assert_complete(reader).into_iter().filter(|event| event.number <= last).collect()
        })
        .collect();
    assert!(all.iter().all(|one| *one == all[0]));
    drop(readers);
    eventually("their sockets are closed", || {
        (proc::fds(service.daemon.pid()).len() == before).then_some(())
    });
    service.stop();
}

#[test]
fn readers_at_the_end_hear_of_it_and_do_not_hold_it_up() {
    let service = Plan::new().workers(3).script("serve\nready\nend-takes=100ms").start();
    let events: Vec<Events> = (0..20).map(|_| service.daemon.events()).collect();
    let _silent: Vec<UnixStream> = (0..20).map(|_| silent(&service)).collect();
    let stop = service.daemon.begin(&["stop", "--json"]);
    for reader in &events {
        let seen = reader.read_to_end();
        assert_eq!(seen.last().map(|event| &event.what), Some(&What::DaemonEnded { failure: None }));
    }
    stop.finish().assert_code(0);
    let Service { mut daemon, plan } = service;
    assert_eq!(daemon.wait().code(), Some(0));
    drop(plan);
}

/// `handover events` that has shown its first line.
struct Watcher {
    child: OwnedChild,
    out: Log,
}

impl Watcher {
    fn start(service: &Service, wrapper: &[&str], words: &[&str]) -> Self {
        let program = handover().display().to_string();
        let words: Vec<&str> =
            wrapper.iter().chain(&[program.as_str(), "events"]).chain(words).copied().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--socket").arg(service.daemon.socket()).stdout(Stdio::piped());
        let mut child = OwnedChild::spawn(&mut command);
        let out = Log::read(child.inner().stdout.take().expect("a pipe"));
        out.wait_for("hello", |line| line.text.contains("what happens in test from now on"));
        Self { child, out }
    }

    /// Its exit code, and what it showed.
    fn finish(mut self) -> (Option<i32>, String) {
        let status = self.child.wait(deadline()).expect("it ends");
        self.out.read_to_end();
        (status.code(), self.out.text())
    }
}

#[test]
fn who_may_only_look_sees_no_output() {
    if cannot_be_nobody() {
        return;
    }
    let service = Plan::new().top("control_group", "\"daemon\"").start();
    let reader = ["setpriv", "--reuid=65534", "--regid=65534", "--groups=1", "--"];
    let (may_look, may_all) =
        (Watcher::start(&service, &reader, &["--json"]), Watcher::start(&service, &[], &["--json"]));
    service.deploy("eprint=a secret\nexit=1");
    service.reload().assert_code(handover::exit::FAILED);
    service.stop();
    for (watcher, sees) in [(may_look, false), (may_all, true)] {
        let (code, text) = watcher.finish();
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("worker_failed") && text.contains("rolling_back"), "{text}");
        assert_eq!(text.contains("a secret"), sees, "{text}");
    }
}

#[test]
fn the_command_shows_lines_until_the_daemon_ends() {
    let service = Plan::new().start();
    let (people, programs) = (Watcher::start(&service, &[], &[]), Watcher::start(&service, &[], &["--json"]));
    let events = service.daemon.events();
    service.reload_well();
    service.stop();
    let (code, text) = people.finish();
    assert_eq!(code, Some(0));
    assert!(text.contains(" generation 2 serves\n") && text.ends_with(" the daemon has ended\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let (code, text) = programs.finish();
    assert_eq!(code, Some(0));
    let mut lines = text.lines().map(|line| serde_json::from_str::<Event>(line).expect("an event"));
    assert_eq!(lines.next_back(), events.read_to_end().pop());
}

#[test]
fn a_daemon_that_is_killed_leaves_a_stream_without_an_end() {
    let service = Plan::new().start();
    let watching = Watcher::start(&service, &[], &[]);
    service.daemon.signal(libc::SIGKILL);
    assert_eq!(watching.finish().0, Some(i32::from(handover::exit::NO_DAEMON)));
}

//! Workers in this process, against a stand-in for handover at the other end of a socket pair. What needs an environment or fds of
//! its own is in `tests/worker`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::surroundings::Surroundings;
use super::*;
use crate::os::passing;

mod sockets;
mod talking;
mod waiting;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(20);

const HELLO: &str = r#"{"type":"hello","version":1,"versions":[1,1],"capabilities":["drain","ping","listen","messages","log"],"name":"myapp","pool":"web","slot":0,"generation":3,"worker":17}"#;

/// handover's end.
struct Handover {
    write: UnixStream,
    read: BufReader<UnixStream>,
}

impl Handover {
    fn say(&mut self, line: &str) {
        self.write.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn say_with(&self, line: &str, fds: &[OwnedFd]) {
        let line = format!("{line}\n");
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        assert_eq!(passing::send_now(self.write.as_fd(), line.as_bytes(), &fds).unwrap(), line.len());
    }

    #[track_caller]
    fn hears(&mut self, line: &str) {
        assert_eq!(self.next(), line);
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.read.read_line(&mut line).expect("in time");
        line.trim_end().to_owned()
    }
}

fn connect(options: Options) -> (Worker, Handover) {
    connect_in(options, Surroundings::default())
}

fn connect_in(options: Options, surroundings: Surroundings) -> (Worker, Handover) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(LONG)).unwrap();
    let mut handover = Handover { write: ours.try_clone().unwrap(), read: BufReader::new(ours) };
    handover.say(HELLO);
    let worker = options.connect_in(Surroundings { channel: Some(theirs), ..surroundings }).unwrap();
    assert!(handover.next().starts_with(r#"{"type":"hello","version":1,"#));
    (worker, handover)
}

fn alone() -> Worker {
    Options::default().connect_in(Surroundings::default()).unwrap()
}

fn tcp() -> (OwnedFd, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

#[test]
fn what_is_said_is_on_its_way_when_the_call_returns() {
    let (worker, mut handover) = connect(Options::default());
    assert_eq!(worker.identity().unwrap().worker, WorkerId(17));
    worker.ready();
    worker.status("42 clients");
    worker.heartbeat();
    worker.extend_timeout(Duration::from_secs(20));
    assert!(worker.replace("fragmented"));
    worker.stopping();
    handover.hears(r#"{"type":"ready"}"#);
    handover.hears(r#"{"type":"status","text":"42 clients"}"#);
    handover.hears(r#"{"type":"heartbeat"}"#);
    handover.hears(r#"{"type":"extend_timeout","ms":20000}"#);
    handover.hears(r#"{"type":"replace","reason":"fragmented"}"#);
    handover.hears(r#"{"type":"stopping"}"#);
    worker.close();
    assert_eq!(handover.next(), "", "the end of the file");
}

#[test]
fn alone_every_call_is_harmless() {
    let worker = alone();
    worker.ready();
    worker.status("x");
    worker.heartbeat();
    worker.extend_timeout(LONG);
    worker.stopping();
    assert!(!worker.replace("x") && !worker.is_connected() && worker.lost().is_none());
    assert!(!worker.log(Level::Info, "", "x", vec![]) && !worker.feed_watchdog().unwrap());
    assert!(worker.send(Target::All, "x").is_ok());
    assert!(matches!(worker.deliver(Target::All, "x", &[]), Err(Error::NotConnected)));
    assert!(!worker.store_fd("x", std::io::stdin().as_fd()).unwrap());
    assert!(worker.store_fd("a:b", std::io::stdin().as_fd()).is_err());
    assert!(worker.messages().next().is_none() && worker.wait_for_removed_listener().is_none());
    assert!(matches!(worker.listener("x").get(), Err(Error::NoListener(_))));
    assert!(!worker.is_draining() && worker.flush(Duration::ZERO));
    worker.close();
    assert!(!worker.is_draining());
}

#[test]
fn without_a_channel_the_service_manager_hears_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let notify = notify::Notify::at(path.as_os_str());
    let watchdog = Some(Duration::from_millis(20));
    let worker =
        Options::default().connect_in(Surroundings { notify, watchdog, ..Surroundings::default() }).unwrap();
    let hear = || {
        let mut buffer = [0; 2_000];
        let received = passing::receive(manager.as_fd(), &mut buffer).unwrap();
        (String::from_utf8_lossy(&buffer[..received.length]).into_owned(), received.fds.len())
    };
    worker.ready();
    worker.status("a\nMAINPID=1");
    worker.extend_timeout(Duration::from_millis(2));
    worker.stopping();
    assert!(worker.store_fd("x", std::io::stdin().as_fd()).unwrap());
    assert!(worker.remove_stored_fds("x").unwrap());
    let long = "é".repeat(1 << 20);
    let expected = ["READY=1", "STATUS=a MAINPID=1", "EXTEND_TIMEOUT_USEC=2000", "STOPPING=1"];
    for text in expected {
        assert_eq!(hear(), (text.to_owned(), 0));
    }
    worker.status(&long);
    assert_eq!(hear(), ("FDSTORE=1\nFDNAME=x".to_owned(), 1));
    assert_eq!(hear(), ("FDSTOREREMOVE=1\nFDNAME=x".to_owned(), 0));
    assert_eq!(hear(), (format!("STATUS={}", "é".repeat(512)), 0), "cut as on the channel");
    assert!(worker.feed_watchdog().unwrap());
    for _ in 0..3 {
        assert_eq!(hear().0, "WATCHDOG=1");
    }
    let pulse = worker.pulse().unwrap();
    // A place that does not beat holds the next ones back, whatever was on its way.
    manager.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 20];
    while manager.recv(&mut buffer).is_ok() {}
    manager.set_read_timeout(Some(LONG)).unwrap();
    pulse.beat();
    assert_eq!(hear().0, "WATCHDOG=1");
}

#[test]
fn a_drain_reaches_everybody_who_waits() {
    let (worker, mut handover) = connect(Options::default());
    let (told, tell) = mpsc::channel();
    worker.on_drain(move |drain| told.send(drain.reason().to_owned()).unwrap()).unwrap();
    let mut future = pin!(worker.drained());
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    assert!(worker.wait_for_drain_within(Duration::from_millis(1)).is_none());
    handover.say(r#"{"type":"drain","reason":"scaled down","deadline_ms":30000}"#);
    let drain = worker.wait_for_drain();
    assert_eq!(drain.reason(), "scaled down");
    assert_eq!(worker.wait_for_drain_within(LONG).unwrap().reason(), "scaled down");
    assert!(drain.time_left().unwrap() <= Duration::from_secs(30));
    assert_eq!(tell.recv_timeout(LONG).unwrap(), "scaled down");
    assert!(future.as_mut().poll(&mut context).is_ready() && worker.is_draining());
    let mut entry = [crate::os::poll::Entry::readable(worker.drain_fd())];
    assert!(crate::os::poll::poll(&mut entry, Some(Duration::ZERO)).unwrap());
}

#[test]
fn handover_that_is_gone_is_a_drain_and_a_broken_rule_is_none() {
    let (worker, handover) = connect(Options::default());
    drop(handover);
    assert_eq!(worker.wait_for_drain().reason(), "handover is gone");
    assert!(worker.lost().is_none());
    let (worker, mut handover) = connect(Options::default());
    handover.say("what?");
    assert!(worker.wait_for_removed_listener().is_none(), "the channel has ended");
    assert!(worker.lost().unwrap().contains("not JSON") && !worker.is_draining());
    assert!(handover.next().contains("protocol"));
}

#[test]
fn pings_are_answered_by_those_who_must_turn() {
    let (worker, mut handover) = connect(Options::default());
    handover.say(r#"{"type":"ping","id":1}"#);
    handover.hears(r#"{"type":"pong","re":1}"#);
    let (first, second) = (worker.pulse().unwrap(), worker.pulse().unwrap());
    handover.say(r#"{"type":"ping","id":2}"#);
    // It is rung; before it beats nothing is said, which the status that is said next shows.
    assert!(
        crate::os::poll::poll(&mut [crate::os::poll::Entry::readable(first.as_fd())], Some(LONG)).unwrap()
    );
    first.beat();
    worker.status("one of two");
    handover.hears(r#"{"type":"status","text":"one of two"}"#);
    second.beat();
    handover.hears(r#"{"type":"pong","re":2}"#);
    first.rest(|| {
        handover.say(r#"{"type":"ping","id":3}"#);
        assert!(
            crate::os::poll::poll(&mut [crate::os::poll::Entry::readable(second.as_fd())], Some(LONG))
                .unwrap()
        );
        second.beat();
        handover.hears(r#"{"type":"pong","re":3}"#);
    });
    handover.say(r#"{"type":"ping","id":4}"#);
    assert!(
        crate::os::poll::poll(&mut [crate::os::poll::Entry::readable(first.as_fd())], Some(LONG)).unwrap()
    );
    drop(second);
    first.beat();
    handover.hears(r#"{"type":"pong","re":4}"#);
}

#[test]
fn idle_connections_are_closed_and_busy_ones_waited_for() {
    let worker = alone();
    let tracker = worker.tracker();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (idle, busy) = (tracker.enter(), tracker.enter());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Ends when its connection is closed for reading.
            idle.idle(&ours, |mut ours| std::io::Read::read(&mut ours, &mut [0]).unwrap());
            assert!(idle.is_draining());
            (&ours).write_all(b"bye").unwrap();
        });
        worker.begin_drain("test");
        assert!(tracker.finish(Some(Duration::from_millis(10))) >= 1, "the busy one is left");
        drop(busy);
    });
    assert_eq!(tracker.finish(None), 0);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut theirs, &mut said).unwrap();
    assert_eq!(said, "bye");
    assert!(pin!(tracker.finished()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_panic_while_a_connection_is_idle_does_not_keep_it_open() {
    let tracker = alone().tracker();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(LONG)).unwrap();
    let guard = tracker.enter();
    let served = std::thread::spawn(move || guard.idle(&ours, |_| panic!("as programs do")));
    assert!(served.join().is_err());
    assert_eq!(std::io::Read::read(&mut theirs, &mut [0]).unwrap(), 0, "closed with its thread");
    assert_eq!(tracker.count(), 0);
}

#[test]
fn a_pulse_beats_again_after_a_panic_in_its_rest() {
    let (worker, mut handover) = connect(Options::default());
    let pulse = worker.pulse().unwrap();
    let rested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pulse.rest(|| panic!("so"))));
    assert!(rested.is_err());
    handover.say(r#"{"type":"ping","id":1}"#);
    assert!(
        crate::os::poll::poll(&mut [crate::os::poll::Entry::readable(pulse.as_fd())], Some(LONG)).unwrap()
    );
    worker.status("not yet");
    handover.hears(r#"{"type":"status","text":"not yet"}"#);
}

#[test]
fn a_program_that_empties_the_fd_of_its_pulse_does_not_hang() {
    let (worker, mut handover) = connect(Options::default());
    let pulse = worker.pulse().unwrap();
    handover.say(r#"{"type":"ping","id":1}"#);
    let mut alarm = std::fs::File::from(pulse.as_fd().try_clone_to_owned().unwrap());
    std::io::Read::read_exact(&mut alarm, &mut [0]).unwrap();
    std::thread::spawn(move || pulse.beat());
    handover.hears(r#"{"type":"pong","re":1}"#);
}

#[test]
fn room_is_waited_for_until_it_is_time_to_finish() {
    let worker = alone();
    let tracker = worker.tracker();
    let mut guards: Vec<_> = (0..3).map(|_| tracker.enter()).collect();
    tracker.wait_for_room(4);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            tracker.wait_for_room(2);
            tracker.count()
        });
        // Not the last of them, but those that matter.
        guards.truncate(1);
        assert_eq!(waits.join().unwrap(), 1);
        let waits = scope.spawn(|| tracker.wait_for_room(1));
        worker.begin_drain("test");
        waits.join().unwrap();
    });
}

#[test]
fn what_is_no_channel_is_done_without() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let worker = Options::default()
        .connect_in(Surroundings { channel: Some(theirs), ..Surroundings::default() })
        .unwrap();
    assert!(!worker.is_connected() && !worker.is_draining() && worker.lost().is_none());
}

#[test]
fn what_the_process_was_started_with_is_taken_once() {
    let worker = Worker::connect().unwrap();
    assert!(matches!(Worker::connect(), Err(Error::ConnectedBefore)));
    assert!(!worker.is_draining());
}

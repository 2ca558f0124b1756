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
        let mut buffer = [0; 200];
        let received = passing::receive(manager.as_fd(), &mut buffer).unwrap();
        (String::from_utf8_lossy(&buffer[..received.length]).into_owned(), received.fds.len())
    };
    worker.ready();
    worker.status("a\nMAINPID=1");
    worker.extend_timeout(Duration::from_millis(2));
    worker.stopping();
    assert!(worker.store_fd("x", std::io::stdin().as_fd()).unwrap());
    assert!(worker.remove_stored_fds("x").unwrap());
    let expected = ["READY=1", "STATUS=a MAINPID=1", "EXTEND_TIMEOUT_USEC=2000", "STOPPING=1"];
    for text in expected {
        assert_eq!(hear(), (text.to_owned(), 0));
    }
    assert_eq!(hear(), ("FDSTORE=1\nFDNAME=x".to_owned(), 1));
    assert_eq!(hear(), ("FDSTOREREMOVE=1\nFDNAME=x".to_owned(), 0));
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
    handover.say(r#"{"type":"drain","reason":"scaled down","deadline_ms":30000}"#);
    let drain = worker.wait_for_drain();
    assert_eq!(drain.reason(), "scaled down");
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
fn an_accept_loop_answers_pings_and_ends_at_a_drain() {
    let (fd, address) = tcp();
    let surroundings = Surroundings { passed: vec![("http".to_owned(), fd)], ..Surroundings::default() };
    let (worker, mut handover) = connect_in(Options::default(), surroundings);
    let http = worker.listener("http").get().unwrap();
    assert!(!http.is_own() && http.name() == "http");
    std::thread::scope(|scope| {
        let served = scope.spawn(|| http.incoming().unwrap().map(Result::unwrap).count());
        for id in 1..4 {
            let mut client = TcpStream::connect(address).unwrap();
            assert_eq!(std::io::Read::read(&mut client, &mut [0]).unwrap(), 0, "it was taken and dropped");
            handover.say(&format!(r#"{{"type":"ping","id":{id}}}"#));
            handover.hears(&format!(r#"{{"type":"pong","re":{id}}}"#));
        }
        handover.say(r#"{"type":"drain","reason":"x"}"#);
        assert_eq!(served.join().unwrap(), 3);
    });
}

#[test]
fn a_socket_of_its_own_is_emptied_before_the_loop_ends() {
    let worker = alone();
    let http = worker.listener("http").or_bind("127.0.0.1:0").unwrap();
    assert!(http.is_own());
    let address = TcpListener::from(http.sockets()[0].try_clone().unwrap()).local_addr().unwrap();
    let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    worker.begin_drain("test");
    assert_eq!(http.incoming().unwrap().count(), clients.len());
}

#[test]
fn a_removed_listener_ends_its_loop_alone() {
    let (fd, _) = tcp();
    let surroundings = Surroundings { passed: vec![("old".to_owned(), fd)], ..Surroundings::default() };
    let (worker, mut handover) = connect_in(Options::default(), surroundings);
    let old = worker.listener("old").passed().unwrap();
    handover.say(r#"{"type":"listener_removed","name":"old"}"#);
    assert_eq!(old.incoming().unwrap().count(), 0);
    assert!(old.is_removed() && !worker.is_draining());
    assert_eq!(worker.wait_for_removed_listener().as_deref(), Some("old"));
}

#[test]
fn sockets_are_asked_for_by_name_and_by_address() {
    let (worker, mut handover) = connect(Options::default());
    let (told, tell) = mpsc::channel();
    let asker = worker.clone();
    std::thread::spawn(move || {
        told.send(asker.listener("admin").or_bind("tcp://127.0.0.1:1")).unwrap();
        told.send(asker.listener("udp://127.0.0.1:0").get()).unwrap();
    });
    handover.hears(r#"{"type":"listen","id":1,"name":"admin"}"#);
    let (fd, _) = tcp();
    handover.say_with(
        r#"{"type":"grant","re":1,"name":"admin","address":"tcp://127.0.0.1:7","fds":1,"id":9}"#,
        &[fd],
    );
    handover.hears(r#"{"type":"ack","re":9}"#);
    let admin = tell.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!((admin.name(), admin.granted_address()), ("admin", Some("tcp://127.0.0.1:7")));
    assert!(admin.into_udp().unwrap_err().to_string().contains("it is a TCP socket, not a UDP socket"));
    handover.hears(r#"{"type":"listen","id":2,"address":"udp://127.0.0.1:0"}"#);
    handover.say(r#"{"type":"refused","re":2,"error":"not_allowed","reason":"not in allow_listen"}"#);
    let refused = tell.recv_timeout(LONG).unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "refused: not_allowed: not in allow_listen");
}

#[test]
fn messages_are_answered_even_by_those_who_forget() {
    let (worker, mut handover) = connect(Options::default().messages(true));
    let mut messages = worker.messages();
    for id in 1..4 {
        handover
            .say(&format!(r#"{{"type":"message","id":{id},"from":"handover","data":[{id}],"reply":true}}"#));
    }
    let mut first = messages.next().unwrap();
    assert_eq!(first.to::<Vec<u8>>().unwrap(), [1]);
    assert!(first.to::<String>().is_err() && first.wants_reply());
    first.reply("well").unwrap();
    first.reply("again").unwrap();
    handover.hears(r#"{"type":"reply","re":1,"data":"well"}"#);
    drop(messages.next_within(LONG).unwrap());
    handover.hears(r#"{"type":"refused","re":2,"error":"failed","reason":"the worker did not reply"}"#);
    let mut third = {
        let future = pin!(messages.received());
        let Poll::Ready(Some(third)) = future.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it is there")
        };
        third
    };
    third.refuse("busy", "");
    handover.hears(r#"{"type":"refused","re":3,"error":"busy","reason":""}"#);
    drop(third);
    worker.begin_drain("test");
    assert!(messages.next().is_none());
    handover.say(r#"{"type":"message","from":"handover","data":1}"#);
    assert!(
        std::iter::repeat_with(|| messages.try_next()).flatten().next().is_some(),
        "also while it drains"
    );
}

#[test]
fn a_question_is_waited_for_awaited_or_given_up() {
    let (worker, mut handover) = connect(Options::default());
    let ask = || worker.ask(Target::Worker(WorkerId(3)), &1, Duration::from_secs(2)).unwrap();
    let (waited, given_up) = (ask(), ask());
    let mut awaited = pin!(ask());
    handover.hears(r#"{"type":"message","id":1,"to":{"worker":3},"data":1,"reply":true,"timeout_ms":2000}"#);
    drop(given_up);
    handover.say(r#"{"type":"reply","re":2,"from":"handover","data":2}"#);
    handover.say(r#"{"type":"refused","re":3,"error":"gone"}"#);
    handover.say(r#"{"type":"reply","re":1,"from":"handover","data":3}"#);
    assert_eq!(waited.wait().unwrap().to::<u8>().unwrap(), 3);
    let Poll::Ready(Err(refused)) = awaited.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it came before the other")
    };
    assert!(matches!(refused, Error::Refused { error: ErrorCode::Gone, .. }));
    let lost = ask();
    drop(handover);
    assert!(matches!(lost.wait(), Err(Error::Lost)));
    assert!(matches!(worker.ask(Target::Handover, &1, LONG), Err(Error::NotConnected)));
}

#[test]
fn what_the_socket_does_not_take_is_bounded_and_written_later() {
    let (worker, mut handover) = connect(Options::default());
    let long = "x".repeat(100_000);
    let mut sent = 0;
    while worker.try_send(Target::Handover, &long).is_ok() {
        sent += 1;
    }
    assert!(sent >= 10, "1 MiB is kept");
    assert!(!worker.log(Level::Info, "", "left out", vec![]));
    assert!(!worker.flush(Duration::ZERO));
    for _ in 0..sent {
        assert!(handover.next().len() > long.len());
    }
    assert!(worker.flush(LONG));
    assert!(worker.log(Level::Info, "a::b", "back", vec![("n".to_owned(), Payload::of(&1).unwrap())]));
    handover.hears(r#"{"type":"log","level":"info","message":"back","target":"a::b","fields":{"n":1}}"#);
}

#[test]
fn a_messages_queue_that_nobody_takes_is_bounded() {
    let (worker, mut handover) = connect(Options::default().messages(true));
    for id in 0..1_030 {
        handover.say(&format!(r#"{{"type":"message","id":{id},"from":"handover","data":1,"reply":true}}"#));
    }
    for id in 1_024..1_030 {
        assert!(
            handover.next().starts_with(&format!(r#"{{"type":"refused","re":{id},"error":"queue_full""#))
        );
    }
    assert_eq!(worker.messages().next_within(LONG).unwrap().to::<u8>().unwrap(), 1);
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

#[cfg(feature = "tracing")]
#[test]
fn events_keep_level_target_and_fields() {
    use tracing_subscriber::prelude::*;
    let (worker, mut handover) = connect(Options::default());
    assert!(alone().tracing_layer().is_none());
    let subscriber = tracing_subscriber::registry().with(worker.tracing_layer());
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("request", client = "a", code = tracing::field::Empty);
        let _entered = span.enter();
        span.record("code", 7);
        tracing::warn!(target: "app::db", ms = 1200, ok = false, client = "b", "slow {}", "query");
    });
    handover.hears(
        r#"{"type":"log","level":"warn","message":"slow query","target":"app::db","fields":{"ms":1200,"ok":false,"client":"b","code":7}}"#,
    );
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_listener_is_accepted_from_in_either_mode_until_the_drain() {
        for nonblocking in [true, false] {
            let (fd, address) = tcp();
            TcpListener::from(fd.try_clone().unwrap()).set_nonblocking(nonblocking).unwrap();
            let passed = vec![("http".to_owned(), fd.try_clone().unwrap())];
            let (worker, mut handover) =
                connect_in(Options::default(), Surroundings { passed, ..Surroundings::default() });
            runtime().block_on(async {
                let http = worker.listener("http").get().unwrap().into_async().unwrap();
                for _ in 0..3 {
                    let client = tokio::net::TcpStream::connect(address);
                    let (client, accepted) = tokio::join!(client, http.accept());
                    drop(accepted.unwrap().unwrap().into_tcp().unwrap());
                    assert_eq!(client.unwrap().read(&mut [0]).await.unwrap(), 0);
                }
                assert_eq!(crate::os::kind::is_nonblocking(fd.as_fd()).unwrap(), nonblocking);
                handover.say(r#"{"type":"ping","id":1}"#);
                handover.say(r#"{"type":"drain","reason":"x"}"#);
                assert!(http.accept().await.unwrap().is_none());
                assert_eq!(worker.drained().await.reason(), "x");
                // The task that beats has its turn.
                let pong = tokio::task::spawn_blocking(move || handover.next());
                assert_eq!(pong.await.unwrap(), r#"{"type":"pong","re":1}"#);
            });
        }
    }

    #[test]
    fn tokios_own_listener_needs_a_socket_that_may_be_nonblocking() {
        let worker = alone();
        runtime().block_on(async {
            let own = worker.listener("http").or_bind("127.0.0.1:0").unwrap().into_tokio_tcp().unwrap();
            assert!(own.local_addr().unwrap().port() > 0);
            let (fd, _) = tcp();
            let passed = vec![("http".to_owned(), fd)];
            let worker =
                Options::default().connect_in(Surroundings { passed, ..Surroundings::default() }).unwrap();
            let error = worker.listener("http").get().unwrap().into_tokio_tcp().unwrap_err();
            assert!(error.to_string().contains("hint: set nonblocking = true"), "{error}");
        });
    }
}

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::*;
use crate::control::answer::{Finish, Line, Progress, Refusal, Verdict};
use crate::control::client::{Client, ClientError};
use crate::control::document::StatusDocument;
use crate::control::event::{Event, Of, What};
use crate::control::protocol::{BODY_MAX, Reload, SEND_BODY_MAX};

const DEADLINE: Duration = Duration::from_secs(30);

struct Bench {
    path: PathBuf,
    calls: mpsc::Receiver<Call>,
    traffic: Rc<Traffic>,
    _directory: tempfile::TempDir,
}

fn bench(access: Access) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, calls) = mpsc::channel(4);
    let traffic = Rc::new(Traffic::default());
    tokio::task::spawn_local(serve(listener, access, |_| Ok(Vec::new()), sender, Rc::clone(&traffic)));
    Bench { path, calls, traffic, _directory: directory }
}

fn ours() -> Access {
    Access { owner: nix::unistd::geteuid().as_raw(), group: None }
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(async { timeout(DEADLINE, test).await.expect("too slow") }))
}

/// The same for a test that lets hours pass, once it is where it wants to be.
fn run_for_hours<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(test))
}

fn reload() -> Request {
    Request::Reload(Reload::default())
}

/// Some event with this number.
fn event(number: u64) -> Event {
    Event::new(number, std::time::UNIX_EPOCH, What::RolloutStarted(Of { generation: number }))
}

fn tell(reply: &Reply, number: u64) -> bool {
    reply.tell(&Telling::new(&event(number)))
}

fn progress(number: u64) -> Line {
    Line::Progress(Progress { event: event(number) })
}

async fn raw(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The server may answer and close before it has read all of it.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn long_work_is_answered_with_lines_and_one_result() {
    run(async {
        let mut bench = bench(ours());
        let path = bench.path.clone();
        let client = async move {
            let mut answer = Client::connect(&path).await.unwrap().send(&reload()).await.unwrap();
            let mut lines = Vec::new();
            while let Some((_, line)) = answer.next().await.unwrap() {
                lines.push(line);
            }
            lines
        };
        let daemon = async {
            let call = bench.calls.recv().await.unwrap();
            assert_eq!((call.level, &call.request), (Level::Admin, &reload()));
            assert!(tell(&call.reply, 1) && tell(&call.reply, 2));
            let delivery = call.reply.delivery();
            call.reply.finish(Finish::new(Verdict::Done, "done"));
            delivery.done().await;
        };
        let (lines, ()) = tokio::join!(client, daemon);
        assert_eq!(lines, [progress(1), progress(2), Line::Result(Finish::new(Verdict::Done, "done"))]);
    });
}

#[test]
fn a_daemon_that_drops_the_request_is_no_success() {
    run(async {
        let mut bench = bench(ours());
        let client = async {
            let mut answer = Client::connect(&bench.path).await.unwrap().send(&reload()).await.unwrap();
            answer.next().await.unwrap()
        };
        let daemon = async { drop(bench.calls.recv().await) };
        assert_eq!(tokio::join!(client, daemon).0, None);
        let client = async { Client::connect(&bench.path).await.unwrap().status().await };
        let daemon = async { drop(bench.calls.recv().await) };
        let error = tokio::join!(client, daemon).0.unwrap_err();
        assert!(matches!(error, ClientError::Refused { status: 500, .. }), "{error}");
    });
}

/// A client that has asked for events and has read nothing, and the daemon's end.
async fn silent_reader(bench: &mut Bench) -> (UnixStream, Reply) {
    let mut stream = UnixStream::connect(&bench.path).await.unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let call = bench.calls.recv().await.unwrap();
    assert_eq!(call.request, Request::Events);
    (stream, call.reply)
}

/// Tells of events from `number` on, giving the server its turns, until the reader is behind; gives the next number.
async fn until_behind(reply: &Reply, mut number: u64) -> u64 {
    while !reply.is_behind() {
        assert!(tell(reply, number), "it is still there");
        number += 1;
        tokio::task::yield_now().await;
    }
    number
}

#[test]
fn who_reads_too_slowly_is_told_what_it_missed_and_goes_on() {
    run(async {
        let mut bench = bench(ours());
        let (mut stream, reply) = silent_reader(&mut bench).await;
        let behind = until_behind(&reply, 1).await;
        for number in behind..behind + 1000 {
            assert!(tell(&reply, number));
        }
        let client = async {
            let mut text = String::new();
            let mut buffer = vec![0; 1 << 16];
            while !text.contains("\"lost\"") {
                let length = stream.read(&mut buffer).await.unwrap();
                assert!(length > 0, "it is not cut off");
                text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            (stream, text)
        };
        let (mut stream, text) = client.await;
        assert!(!reply.is_behind());
        let last = behind + 1000;
        reply.tell_last(&Telling::new(&event(last)));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        let numbers = |text: &str| -> Vec<Event> {
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let events = numbers(&format!("{text}{rest}"));
        let lost = events.iter().position(|event| matches!(event.what, What::Lost { .. })).unwrap();
        let told: Vec<u64> = events[..lost].iter().map(|event| event.number).collect();
        let odd = told.iter().zip(1..).find(|(told, number)| *told != number);
        assert_eq!((odd, told.len() as u64 + 2), (None, behind), "all before it was behind, in order");
        assert_eq!(events[lost].what, What::Lost { count: 1001 });
        assert_eq!(events[lost].number, last - 1);
        assert_eq!(events[lost + 1..].iter().map(|event| event.number).collect::<Vec<_>>(), [last]);
    });
}

#[test]
fn who_reads_nothing_for_long_is_cut_off_and_blocks_nothing() {
    run_for_hours(async {
        let mut bench = bench(ours());
        let (_stream, reply) = silent_reader(&mut bench).await;
        until_behind(&reply, 1).await;
        tokio::time::pause();
        tokio::time::timeout(BEHIND_TIME * 2, reply.delivery().done()).await.expect("it is cut off");
        assert!(reply.is_gone() && !tell(&reply, 0));
        assert_eq!(bench.traffic.open.get(), 0);
    });
}

#[test]
fn who_reads_everything_is_never_cut_off() {
    run_for_hours(async {
        let mut bench = bench(ours());
        let (_stream, reply) = silent_reader(&mut bench).await;
        tell(&reply, 1);
        tokio::task::yield_now().await;
        tokio::time::pause();
        let cut_off = tokio::time::timeout(BEHIND_TIME * 100, reply.delivery().done()).await;
        assert!(cut_off.is_err() && !reply.is_gone(), "no timer runs while nobody is behind");
    });
}

#[test]
fn the_result_is_the_last_line_though_something_was_lost_before() {
    run(async {
        let mut bench = bench(ours());
        let mut stream = UnixStream::connect(&bench.path).await.unwrap();
        stream.write_all(b"POST /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let reply = bench.calls.recv().await.unwrap().reply;
        until_behind(&reply, 1).await;
        reply.finish(Finish::new(Verdict::Done, "done"));
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let [.., Line::Progress(lost), Line::Result(finish)] = &lines[..] else { panic!("{text:.2000}") };
        assert_eq!((&lost.event.what, finish.result), (&What::Lost { count: 1 }, Verdict::Done));
    });
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    run(async {
        let mut bench = bench(ours());
        let answer = async { Client::connect(&bench.path).await.unwrap().send(&reload()).await.unwrap() };
        let (answer, call) = tokio::join!(answer, bench.calls.recv());
        let reply = call.unwrap().reply;
        assert!(!reply.is_gone());
        drop(answer);
        reply.delivery().done().await;
        assert!(reply.is_gone() && !tell(&reply, 1));
    });
}

#[test]
fn what_is_no_good_request_is_answered_and_closed() {
    run(async {
        let bench = bench(ours());
        let post = |path: &str, body: &str| {
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let head = format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
        for (request, status) in [
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("GET /v1/status HTTP/1.1\r\n\0\r\n".to_owned(), "400"),
            (head, "431"),
            ("GET /v1/secrets HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "404"),
            ("GET /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "405"),
            (post("/v1/reload", "{"), "400"),
            (post("/v1/reload", &" ".repeat(BODY_MAX + 1)), "413"),
            (post("/v1/send", &" ".repeat(SEND_BODY_MAX + 1)), "413"),
            (post("/v1/status", ""), "405"),
        ] {
            let answer = raw(&bench.path, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60?}: {answer:?}");
        }
    });
}

#[test]
fn the_kernel_says_who_is_at_the_other_end() {
    run(async {
        let (_other, stream) = UnixStream::pair().unwrap();
        let access = Access { group: Some(50), ..ours() };
        let seen = client(&stream, access, |_| Ok(vec![50, 60])).unwrap();
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        assert_eq!(seen, Peer { uid, groups: vec![gid, 50, 60] });
        let seen = client(&stream, ours(), |_| panic!("no group, no question")).unwrap();
        assert_eq!(seen.groups, [gid]);
    });
}

#[test]
fn the_level_of_a_connection_is_checked_for_each_route() {
    for level in [None, Some(Level::Read), Some(Level::Admin)] {
        run(async {
            for route in ROUTES {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let (sender, mut calls) = mpsc::channel(1);
                let server = connection(theirs, level, sender, Rc::default());
                let client = async move {
                    let (mut read, mut write) = ours.into_split();
                    let request = format!("{} {} HTTP/1.1\r\nhost: x\r\n", route.method, route.path);
                    let body = match route.path {
                        "/v1/scale" => r#"{"pool":"a","reset":true}"#,
                        "/v1/send" => r#"{"data":1}"#,
                        _ => "",
                    };
                    let request = format!("{request}content-length: {}\r\n\r\n{body}", body.len());
                    write.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = String::new();
                    read.read_to_string(&mut answer).await.unwrap();
                    answer
                };
                let daemon = async { calls.recv().await.map(|call: Call| call.request.route().path) };
                let (answer, reached, ()) = tokio::join!(client, daemon, server);
                let permitted = level.is_some_and(|level| level >= route.level);
                assert_eq!(reached, permitted.then_some(route.path));
                assert_eq!(answer.starts_with("HTTP/1.1 403 "), !permitted, "{level:?} {}", route.path);
            }
        });
    }
}

#[test]
fn a_client_that_may_only_look_gets_no_output_of_workers() {
    let page = include_str!("../../../docs/control.md");
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let document: StatusDocument = serde_json::from_str(example).unwrap();
    for (level, sees) in [(Level::Read, false), (Level::Admin, true)] {
        run(async {
            let patience = Arc::new(watch::Sender::new(Patience::Endless));
            let way = Way { patience, socket: None };
            let (reply, mut received) = Reply::new(&Request::Status, level, way);
            reply.status(&document);
            let (status, json) = received.whole().await.expect("there is an answer");
            assert_eq!(status, StatusCode::OK);
            assert_eq!(String::from_utf8(json).unwrap().contains("permission denied"), sees);
        });
    }
}

#[test]
fn too_many_connections_are_refused_and_readers_cannot_fill_the_house() {
    run(async {
        let bench = bench(ours());
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            held.push(UnixStream::connect(&bench.path).await.unwrap());
        }
        let answer = raw(&bench.path, b"").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("content-length: {}", body.len()))
        );
        assert!(serde_json::from_str::<Refusal>(body).is_ok());
        assert_eq!(bench.traffic.refused(), 1);
    });
    let traffic = Rc::new(Traffic::default());
    let readers: Vec<_> = std::iter::from_fn(|| traffic.enter(Some(Level::Read))).collect();
    assert_eq!(readers.len(), READERS_MAX);
    assert!(traffic.enter(None).is_none() && traffic.enter(Some(Level::Admin)).is_some());
    drop(readers);
    assert!(traffic.enter(None).is_some() && traffic.open.get() == 0);
}

#[test]
fn event_streams_leave_room_for_the_operator_and_for_those_who_look() {
    let traffic = Rc::new(Traffic::default());
    let of_readers: Vec<_> = std::iter::from_fn(|| traffic.listen(Level::Read)).collect();
    assert_eq!(of_readers.len(), READER_STREAMS_MAX);
    let of_admins: Vec<_> = std::iter::from_fn(|| traffic.listen(Level::Admin)).collect();
    assert_eq!(of_readers.len() + of_admins.len(), STREAMS_MAX);
    const { assert!(STREAMS_MAX < CONNECTIONS_MAX && READER_STREAMS_MAX < READERS_MAX) };
    assert_eq!(traffic.refused(), 2);
    drop((of_readers, of_admins));
    assert!(traffic.listen(Level::Read).is_some());
}

#[test]
fn who_does_not_send_its_request_is_cut_off() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(LocalSet::new().run_until(async {
        let bench = bench(ours());
        assert_eq!(raw(&bench.path, b"GET /v1/st").await, "");
        let answer =
            raw(&bench.path, b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(bench.traffic.open.get(), 0);
    }));
}

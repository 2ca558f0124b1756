use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::*;
use crate::control::answer::Verdict;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::{BODY_MAX, Reload};

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

fn reload() -> Request {
    Request::Reload(Reload::default())
}

fn progress(message: &str) -> Progress {
    Progress { message: message.to_owned(), ..Progress::default() }
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
            while let Some(line) = answer.next().await.unwrap() {
                lines.push(line);
            }
            lines
        };
        let daemon = async {
            let call = bench.calls.recv().await.unwrap();
            assert_eq!((call.level, &call.request), (Level::Admin, &reload()));
            assert!(call.reply.progress(progress("one")) && call.reply.progress(progress("two")));
            let delivery = call.reply.delivery();
            call.reply.finish(Finish::new(Verdict::Done, "done"));
            delivery.done().await;
        };
        let (lines, ()) = tokio::join!(client, daemon);
        assert_eq!(
            lines,
            [
                Line::Progress(progress("one")),
                Line::Progress(progress("two")),
                Line::Result(Finish::new(Verdict::Done, "done"))
            ]
        );
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

#[test]
fn a_client_that_never_reads_is_dropped_and_blocks_nothing() {
    run(async {
        let mut bench = bench(ours());
        let mut stream = UnixStream::connect(&bench.path).await.unwrap();
        stream.write_all(b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let call = bench.calls.recv().await.unwrap();
        let long = "x".repeat(8 * 1024);
        for _ in 0..1000 {
            assert!(call.reply.progress(progress(&long)), "much at once is no proof of a slow reader");
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        tokio::time::timeout(REQUEST_TIME * 2, call.reply.delivery().done()).await.expect("it is cut off");
        assert!(call.reply.is_gone());
        assert_eq!(bench.traffic.open.get(), 0);
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
        assert!(reply.is_gone() && !reply.progress(progress("anybody?")));
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
        let seen = peer(&stream, access, |_| Ok(vec![50, 60])).unwrap();
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        assert_eq!(seen, Peer { uid, groups: vec![gid, 50, 60] });
        let seen = peer(&stream, ours(), |_| panic!("no group, no question")).unwrap();
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
                let server = connection(theirs, level, sender);
                let client = async move {
                    let (mut read, mut write) = ours.into_split();
                    let request = format!("{} {} HTTP/1.1\r\nhost: x\r\n", route.method, route.path);
                    let body = if route.path == "/v1/scale" { r#"{"pool":"a","reset":true}"# } else { "" };
                    let request = format!("{request}content-length: {}\r\n\r\n{body}", body.len());
                    write.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = String::new();
                    read.read_to_string(&mut answer).await.unwrap();
                    answer
                };
                let daemon = async { calls.recv().await.map(|call| call.request.route().path) };
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
        let (parts, mut received) = mpsc::channel(1);
        let patience = Arc::new(watch::Sender::new(Patience::Endless));
        Reply { level, parts, patience }.status(&document);
        let Ok(Part::Whole(StatusCode::OK, json)) = received.try_recv() else { panic!("there is an answer") };
        assert_eq!(String::from_utf8(json).unwrap().contains("permission denied"), sees);
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

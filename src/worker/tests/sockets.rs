//! Listeners, in threads and on a runtime.

use super::*;

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
fn a_connection_waits_no_longer_than_it_is_told() {
    let (unix, _theirs) = UnixStream::pair().unwrap();
    let (socket, address) = tcp();
    let _client = TcpStream::connect(address).unwrap();
    let (tcp, _) = TcpListener::from(socket).accept().unwrap();
    for mut connection in [Connection::Unix(unix), Connection::Tcp(tcp)] {
        let short = Some(Duration::from_millis(10));
        connection.set_read_timeout(short).unwrap();
        connection.set_write_timeout(short).unwrap();
        let is_over = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(std::io::Read::read(&mut connection, &mut [0]).is_err_and(is_over));
        let full = std::iter::repeat_with(|| connection.write(&[0; 65_536])).find_map(Result::err).unwrap();
        assert!(is_over(full));
    }
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
fn a_listener_that_is_removed_before_the_program_takes_it_is_removed() {
    let (fd, _) = tcp();
    let surroundings = Surroundings { passed: vec![("old".to_owned(), fd)], ..Surroundings::default() };
    let (worker, mut handover) = connect_in(Options::default(), surroundings);
    handover.say(r#"{"type":"listener_removed","name":"old"}"#);
    assert_eq!(worker.wait_for_removed_listener().as_deref(), Some("old"));
    let old = worker.listener("old").get().unwrap();
    assert!(old.is_removed());
    assert_eq!(old.incoming().unwrap().count(), 0);
}

#[test]
fn a_listener_that_is_granted_again_is_there_again_under_the_name_that_it_has() {
    let (worker, mut handover) = connect(Options::default());
    handover.say(r#"{"type":"listener_removed","name":"listener1"}"#);
    assert!(worker.wait_for_removed_listener().is_some());
    let asker = worker.clone();
    let asked = std::thread::spawn(move || asker.listener("tcp://127.0.0.1:0").get().unwrap());
    handover.hears(r#"{"type":"listen","id":1,"address":"tcp://127.0.0.1:0"}"#);
    let grant = r#"{"type":"grant","re":1,"name":"listener1","address":"tcp://127.0.0.1:7","fds":1,"id":9}"#;
    handover.say_with(grant, &[tcp().0]);
    let again = asked.join().unwrap();
    assert!(again.name() == "listener1" && !again.is_removed());
    handover.say(r#"{"type":"listener_removed","name":"listener1"}"#);
    assert!(worker.wait_for_removed_listener().is_some() && again.is_removed());
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
    fn two_tasks_that_accept_are_both_woken() {
        let worker = alone();
        runtime().block_on(async {
            let http = worker.listener("http").or_bind("127.0.0.1:0").unwrap();
            let address = TcpListener::from(http.sockets()[0].try_clone().unwrap()).local_addr().unwrap();
            let http = std::sync::Arc::new(http.into_async().unwrap());
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..2 {
                let http = std::sync::Arc::clone(&http);
                tasks.spawn(async move { http.accept().await.unwrap().is_some() });
            }
            // Both wait.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            for _ in 0..2 {
                let _client = tokio::net::TcpStream::connect(address).await.unwrap();
                let accepted = tokio::time::timeout(LONG, tasks.join_next()).await.expect("one is woken");
                assert!(accepted.unwrap().unwrap());
            }
        });
    }

    #[test]
    fn an_accept_that_is_given_up_loses_no_connection() {
        let (fd, address) = tcp();
        let surroundings = Surroundings { passed: vec![("http".to_owned(), fd)], ..Surroundings::default() };
        let worker = Options::default().connect_in(surroundings).unwrap();
        runtime().block_on(async {
            let http = worker.listener("http").get().unwrap().into_async().unwrap();
            let mut clients = Vec::new();
            for _ in 0..50 {
                clients.push(tokio::net::TcpStream::connect(address).await.unwrap());
                // Given up wherever it waits: for the next turn, for readiness, for the connection.
                for turns in 0..4 {
                    let mut turn = 0;
                    let given_up = std::future::poll_fn(|context| {
                        turn += 1;
                        context.waker().wake_by_ref();
                        if turn > turns { Poll::Ready(()) } else { Poll::Pending }
                    });
                    tokio::select! {
                        biased;
                        accepted = http.accept() => clients.truncate(clients.len() - usize::from(accepted.unwrap().is_some())),
                        () = given_up => {}
                    }
                }
            }
            for _ in 0..clients.len() {
                let accepted = tokio::time::timeout(LONG, http.accept()).await.expect("none was lost");
                assert!(accepted.unwrap().is_some());
            }
        });
    }

    #[test]
    fn a_second_runtime_beats_after_the_first_has_ended() {
        let (worker, mut handover) = connect(Options::default());
        runtime().block_on(async { worker.beat_on_runtime().unwrap() });
        let second = runtime();
        second.block_on(async { worker.beat_on_runtime().unwrap() });
        handover.say(r#"{"type":"ping","id":1}"#);
        handover.say(r#"{"type":"listener_removed","name":"x"}"#);
        // It came, and the runtime does not turn.
        assert!(worker.wait_for_removed_listener().is_some());
        worker.status("still");
        handover.hears(r#"{"type":"status","text":"still"}"#);
        second.block_on(async {
            let pong = tokio::task::spawn_blocking(move || handover.next());
            assert_eq!(pong.await.unwrap(), r#"{"type":"pong","re":1}"#);
        });
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

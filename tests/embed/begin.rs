//! Start, stop, and what is refused at the start.

use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use handover::embed::event::What;
use handover::embed::{self, Builder, Error, Listener, Pool, Settings, StartError};

use crate::scene::{assert_gone, builder, event, pids, soon, start, web, workers};
use crate::support::client::get;
use crate::support::scratch::{Address, Scratch};
use crate::support::{eventually, handover};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_inside_a_multi_thread_runtime_until_it_is_stopped() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 2))).await;
    let status = supervisor.status().await.unwrap();
    assert_eq!((status.daemon.name.as_str(), status.pools[0].ready), ("embedded", 2));
    assert_eq!((status.daemon.pid, status.counters.orphans), (std::process::id(), 0));
    let pids = pids(&supervisor).await;
    assert!(pids.contains(&get(&address, "/").unwrap().pid()));

    let other = supervisor.clone();
    let waits = tokio::spawn(async move { other.wait().await });
    soon("the stop", supervisor.stop()).await.unwrap();
    assert_eq!(soon("the end", waits).await.unwrap(), Ok(()));
    assert_gone(&pids);
    assert!(get(&address, "/").is_err(), "its sockets are closed");
    assert!(!supervisor.is_running());
    assert!(matches!(supervisor.restart().await, Err(Error::Ended)));
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn it_serves_inside_a_current_thread_runtime() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 1))).await;
    assert!(tokio::task::spawn_blocking(move || get(&address, "/")).await.unwrap().is_ok());
    soon("the stop", supervisor.stop()).await.unwrap();
}

/// Everything that is written to the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn its_log_and_the_output_of_workers_go_to_the_subscriber_of_who_starts_it() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let settings =
        Settings::new("logged").pool(workers(1, &["print=good morning", "eprint=<3>bad", "ready"]));
    let started = {
        let _mine = tracing::subscriber::set_default(subscriber);
        soon("its start", builder(&settings).start()).await
    };
    let supervisor = started.unwrap();
    soon("its workers", supervisor.ready()).await.unwrap();
    soon("the stop", supervisor.stop()).await.unwrap();
    let text = || String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    eventually("all lines", || (text().contains("good morning") && text().contains(": bad")).then_some(()));
    let has = |what: &[&str]| text().lines().any(|line| what.iter().all(|what| line.contains(what)));
    assert!(has(&["INFO", "worker started", "pool=\"web\""]), "{}", text());
    assert!(has(&["INFO", "handover::output", "good morning", "slot=0"]), "{}", text());
    assert!(has(&["ERROR", "handover::output", "bad"]), "{}", text());
}

fn is_for_all_threads<T: Clone + Send + Sync + 'static>(_: &T) {}

#[test]
fn it_serves_without_a_runtime() {
    let address = Address::tcp();
    let supervisor = builder(&web(&address, 1)).start_blocking().unwrap();
    is_for_all_threads(&supervisor);
    embed::block_on(async {
        supervisor.ready().await.unwrap();
        assert!(get(&address, "/").is_ok());
        supervisor.stop_now().await.unwrap();
    });
}

#[tokio::test]
async fn what_happens_is_told_as_values_from_the_hello_to_the_end() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 1))).await;
    let mut events = supervisor.events().await.unwrap();
    let hello = soon("the hello", events.next()).await.unwrap();
    assert!(matches!(&hello.what, What::Hello { daemon, .. } if daemon.name == "embedded"), "{hello:?}");
    supervisor.scale("web", 2).await.unwrap();
    let ready = event(&mut events, "a worker", |what| matches!(what, What::WorkerReady { .. })).await;
    assert_eq!(ready.what.who().unwrap().place.slot, Some(1));
    supervisor.scale_as_configured("web").await.unwrap();
    assert!(matches!(supervisor.scale("web", 0).await, Err(Error::Refused(_))));
    assert!(matches!(supervisor.scale("wbe", 1).await, Err(Error::Refused(_))));
    supervisor.stop().await.unwrap();
    let mut last = ready;
    while let Some(event) = soon("the rest", events.next()).await {
        last = event;
    }
    assert_eq!(last.what, What::DaemonEnded { failure: None });
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_many_events_it_has_missed() {
    let steps = &["status-flood=4000", "ready"];
    let settings = Settings::new("flood").pool(workers(1, steps));
    let supervisor = soon("the start", builder(&settings).start()).await.unwrap();
    let mut events = supervisor.events().await.unwrap();
    soon("its worker", supervisor.ready()).await.unwrap();
    supervisor.stop().await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = soon("the rest", events.next()).await {
        seen.push(event);
    }
    let lost: u64 =
        seen.iter().map(|event| if let What::Lost { count } = event.what { count } else { 0 }).sum();
    assert!(lost > 0 && seen.len() < 4000, "{lost} {}", seen.len());
    assert_eq!(seen.last().unwrap().what, What::DaemonEnded { failure: None });
}

#[tokio::test]
async fn the_last_handle_that_is_dropped_stops_it_gracefully() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 1))).await;
    let mut events = supervisor.events().await.unwrap();
    let pids = pids(&supervisor).await;
    let clone = supervisor.clone();
    drop(supervisor);
    assert!(clone.is_running());
    drop(clone);
    let mut killed = false;
    while let Some(event) = soon("the end", events.next()).await {
        killed |= matches!(event.what, What::WorkerKilled(_));
    }
    assert!(!killed);
    eventually("nothing is left", || {
        pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_supervisors_in_one_process_do_not_meet() {
    let (one, two) = (Address::tcp(), Address::tcp());
    let first = start(builder(&web(&one, 1))).await;
    let second = start(builder(&web(&two, 2))).await;
    let of_second = pids(&second).await;
    soon("the first stop", first.stop_now()).await.unwrap();
    assert_eq!(pids(&second).await, of_second);
    assert!(get(&two, "/").is_ok());
    assert!(get(&one, "/").is_err());
    soon("a restart", second.restart()).await.unwrap();
    soon("the second stop", second.stop()).await.unwrap();
}

#[tokio::test]
async fn a_control_socket_is_there_where_it_is_asked_for() {
    let (scratch, address) = (Scratch::new(), Address::tcp());
    let socket = scratch.join("control.sock");
    let supervisor = start(builder(&web(&address, 1)).control_socket(&socket)).await;
    let status = |socket: std::path::PathBuf| async move {
        let mut command = Command::new(handover());
        command.args(["status", "--json", "--socket"]).arg(socket);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let output = status(socket.clone()).await;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["daemon"]["pid"], std::process::id());
    let second = soon("the second", builder(&web(&Address::tcp(), 1)).control_socket(&socket).start()).await;
    assert!(matches!(second, Err(StartError::Directory(_))), "{second:?}");
    soon("the stop", supervisor.stop()).await.unwrap();
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn sockets_that_the_program_has_made_are_taken_as_they_are() {
    let Address::Tcp(address) = Address::tcp() else { panic!("TCP") };
    let socket = TcpListener::bind(address).unwrap();
    let settings =
        Settings::new("given").listener(Listener::given("http")).pool(workers(1, &[]).listener("http"));
    let supervisor = start(builder(&settings).socket("http", socket)).await;
    let listeners = supervisor.status().await.unwrap().listeners;
    assert_eq!(listeners[0].origin, "inherited");
    assert!(get(&Address::Tcp(address), "/").is_ok());
    soon("the stop", supervisor.stop()).await.unwrap();

    let missing = soon("the start", builder(&settings).start()).await;
    assert!(matches!(missing, Err(StartError::Listeners(_))), "{missing:?}");
    let no_socket = std::fs::File::open("/dev/null").unwrap();
    let wrong = soon("the start", builder(&settings).socket("http", no_socket).start()).await;
    assert!(matches!(wrong, Err(StartError::Listeners(_))), "{wrong:?}");
}

#[tokio::test]
async fn all_that_is_wrong_with_the_configuration_is_told_at_the_start() {
    let settings =
        Settings::new("wrong").pool(Pool::new("web", ["/bin/x"]).set("wrokers", 1).set("umask", "x"));
    let Err(StartError::Configuration(by_key)) = builder(&settings).start().await else { panic!("refused") };
    assert!(by_key.contains("pool.web.wrokers: ") && by_key.contains("pool.web.umask: "), "{by_key}");
    let text = "[pool.web]\ncommand = ['/bin/x']\nwrokers = 1\n";
    let text = Builder::from_toml("wrong", text).helper(handover());
    let Err(StartError::Configuration(by_line)) = text.start().await else { panic!("refused") };
    assert!(by_line.contains("wrong:3:1") || by_line.contains("--> wrong"), "{by_line}");
    let Err(StartError::Configuration(file)) =
        Builder::from_file("/no/such.toml").helper(handover()).start().await
    else {
        panic!("refused")
    };
    assert!(file.contains("/no/such.toml"), "{file}");
}

#[tokio::test]
async fn a_program_that_is_no_helper_is_found_out_at_the_start() {
    let settings = web(&Address::tcp(), 1);
    let scratch = Scratch::new();
    let other = scratch.write_program("other", "#!/bin/sh\necho '{\"helper\":\"9.9.9\"}' >&0\n");
    let hangs = scratch.write_program("hangs", "#!/bin/sh\nsleep 1000\n");
    let (other, hangs) = (other.to_str().unwrap(), hangs.to_str().unwrap());
    for (program, why) in [
        (Some(other), "an exec helper of version 9.9.9"),
        (Some(hangs), "did not answer within 10 s"),
        (None, "has not called helper_main"),
        (Some("/no/such/handover"), "no such file"),
        (Some("/bin/true"), "ended without an answer"),
        (Some("/bin/cat"), "ended without an answer"),
    ] {
        let mut builder = Builder::from_settings(&settings);
        if let Some(program) = program {
            builder = builder.helper(program);
        }
        match soon("the start", builder.start()).await {
            Err(StartError::Helper(text)) => {
                assert!(text.contains(why) && text.contains("hint: "), "{text}");
            }
            other => panic!("{program:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_pool_that_never_becomes_ready_is_the_end_and_says_why() {
    let settings = Settings::new("never").pool(workers(1, &["exit=3"]).set("restart.burst", 1));
    let supervisor = soon("the start", builder(&settings).start()).await.unwrap();
    let Err(Error::Failed(reason)) = soon("its end", supervisor.ready()).await else { panic!("it failed") };
    assert!(reason.contains("web"), "{reason}");
    assert_eq!(supervisor.wait().await.unwrap_err().0, reason);
}

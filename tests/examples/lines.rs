//! The service on plain TCP.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::program::Alone;
use crate::stage::{End, Stage};
use crate::support::{PATIENCE, eventually};

/// A client that connects again when it is told `BYE`.
struct Client {
    host: String,
    connection: Option<BufReader<TcpStream>>,
    /// Commands that met the end of their connection, and were said again.
    repeated: u64,
}

impl Client {
    fn new(stage: &Stage) -> Self {
        Self { host: stage.host(), connection: None, repeated: 0 }
    }

    /// A command and its answer.
    fn ask(&mut self, command: &str) -> String {
        loop {
            let mut connection = self.connection.take().unwrap_or_else(|| connect(&self.host));
            let _ = connection.get_mut().write_all(format!("{command}\n").as_bytes());
            let mut answer = String::new();
            let read = connection.read_line(&mut answer);
            if read.is_err() || answer.is_empty() || answer == "BYE\n" {
                self.repeated += 1;
                assert!(self.repeated < 10_000, "{command} is never answered");
                continue;
            }
            assert!(answer.ends_with('\n'), "{command}: a part of an answer: {answer:?}");
            // What is in its buffer came with the answer.
            if connection.buffer() != b"BYE\n" {
                self.connection = Some(connection);
            }
            return answer.trim_end().to_owned();
        }
    }
}

#[track_caller]
fn connect(host: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(host).expect("it listens, always");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    BufReader::new(stream)
}

#[test]
fn the_line_service_answers_every_command_across_deploys_and_scaling() {
    let Some(stage) = Stage::new("lines", &[]) else { return };
    let mut daemon = stage.start();
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = End(&over);
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let (stage, over, answered) = (&stage, &over, &answered);
                scope.spawn(move || {
                    let mut client = Client::new(stage);
                    for count in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let text = format!("{number} {count}");
                        assert_eq!(client.ask(&format!("ECHO {text}")), text);
                        answered.fetch_add(1, Ordering::Relaxed);
                        std::thread::park_timeout(Duration::from_millis(1));
                    }
                    client.repeated
                })
            })
            .collect();
        let wait_for_more = || {
            let before = answered.load(Ordering::Relaxed);
            eventually("commands are answered", || {
                (answered.load(Ordering::Relaxed) > before + 100).then_some(())
            });
        };
        wait_for_more();
        // In hand when its worker is asked to end.
        let mut held = connect(&stage.host());
        held.get_mut().write_all(b"STATS\nWAIT 2500\n").expect("it listens");
        let mut stats = String::new();
        held.read_line(&mut stats).expect("an answer");
        assert!(stats.contains("generation=1 "), "{stats}");
        stage.install();
        daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut held, &mut rest).expect("an answer");
        assert_eq!(rest, "DONE\nBYE\n");
        wait_for_more();
        daemon.cli(&["scale", "lines", "4"]).assert_code(handover::exit::DONE);
        wait_for_more();
        daemon.cli(&["scale", "lines", "1"]).assert_code(handover::exit::DONE);
        wait_for_more();
        over.store(true, Ordering::Relaxed);
        let repeated: u64 = clients.into_iter().map(|client| client.join().expect("nothing is lost")).sum();
        // Busy clients learn it behind an answer; only one that is idle for half a second can cross the end.
        assert_eq!(repeated, 0);
    });
    assert!(Client::new(&stage).ask("STATS").contains("generation=2 "));
    assert!(daemon.status().mentions(" commands so far"));
    daemon.stop();
}

#[test]
fn the_line_service_runs_alone() {
    let Some(stage) = Stage::new("lines", &[]) else { return };
    let alone = Alone::start(Command::new(stage.program()).env("LISTEN", stage.host()));
    eventually("it listens", || TcpStream::connect(stage.host()).ok());
    let mut client = Client::new(&stage);
    assert_eq!(client.ask("PING"), "PONG");
    assert!(client.ask("STATS").starts_with("alone pid="));
    assert!(client.ask("WHAT").starts_with("ERROR "));
    let mut long = connect(&stage.host());
    long.get_mut().write_all(&[b'x'; 5_000]).expect("it reads");
    let mut answer = String::new();
    let _ = long.read_line(&mut answer);
    assert!(answer.is_empty() || answer == "BYE\n", "{answer:?}");
    alone.ends_well();
}

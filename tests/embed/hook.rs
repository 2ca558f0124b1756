//! What a program adds to each start, and the lines that workers write.

use std::sync::{Arc, Mutex};

use handover::embed::event::What;
use handover::embed::{Extra, OutputLine, Settings, Stream, Supervisor};
use tokio::sync::mpsc;

use crate::scene::{builder, event, soon, start, web, workers};
use crate::support::scratch::{Address, Scratch};

#[tokio::test]
async fn a_hook_adds_to_the_environment_and_the_arguments_of_each_start() {
    let scratch = Scratch::new();
    let dump = scratch.join("dump-SLOT");
    let settings = Settings::new("hooked").pool(workers(2, &[]).variable("COLOUR", "red"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let hooked = builder(&settings).on_spawn(move |start| {
        told.lock().unwrap().push((start.pool.clone(), start.slot, start.generation));
        let colour = if start.slot == 0 { "blue" } else { "green" };
        let dump = format!("dump={}", dump.display());
        Ok(Extra::default().variable("COLOUR", colour).argument(dump).argument("ready"))
    });
    let supervisor = start(hooked).await;
    let dump = |slot: u32| std::fs::read_to_string(scratch.join(&format!("dump-{slot}"))).unwrap();
    assert!(dump(0).contains("COLOUR=blue") && dump(1).contains("COLOUR=green"), "{}", dump(0));
    assert_eq!(*seen.lock().unwrap(), [("web".to_owned(), 0, 1), ("web".to_owned(), 1, 1)]);
    soon("the stop", supervisor.stop()).await.unwrap();
}

/// The failure of a worker whose start was refused.
async fn failure(supervisor: &Supervisor) -> (Option<String>, String) {
    let mut events = supervisor.events().await.unwrap();
    let more = supervisor.clone();
    let scaled = tokio::spawn(async move { more.scale("web", 2).await });
    let failed = event(&mut events, "a failure", |what| matches!(what, What::WorkerFailed { .. })).await;
    let What::WorkerFailed { failure, .. } = failed.what else { panic!("it failed") };
    soon("back", supervisor.scale("web", 1)).await.unwrap();
    let _ = soon("the answer", scaled).await;
    (failure.stage, failure.text)
}

#[tokio::test]
async fn a_hook_that_refuses_or_panics_is_a_failed_start_and_nothing_else() {
    for what in ["refuse", "panic", "reserved"] {
        let address = Address::tcp();
        let hooked = builder(&web(&address, 1)).on_spawn(move |start| match (start.slot, what) {
            (0, _) => Ok(Extra::default()),
            (_, "refuse") => Err("there is no licence for it".to_owned()),
            (_, "reserved") => Ok(Extra::default().variable("LISTEN_FDS", "7")),
            _ => panic!("what a hook should not do"),
        });
        let supervisor = start(hooked).await;
        let (stage, text) = failure(&supervisor).await;
        assert_eq!(stage.as_deref(), Some("hook"), "{text}");
        let reason = match what {
            "refuse" => "there is no licence for it",
            "reserved" => "LISTEN_FDS is set by handover itself",
            _ => "it panicked: what a hook should not do",
        };
        assert!(text.contains(reason), "{text}");
        assert_eq!(supervisor.status().await.unwrap().pools[0].ready, 1);
        soon("the stop", supervisor.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn lines_of_workers_come_to_the_program_whole_and_in_order() {
    let steps = &["print=one", "eprint=<4>two", "print=three", "ready"];
    let settings = Settings::new("lines").pool(workers(1, steps));
    let (send, mut lines) = mpsc::unbounded_channel::<OutputLine>();
    let supervisor = start(builder(&settings).on_output(move |line| drop(send.send(line)))).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(soon("a line", lines.recv()).await.unwrap());
    }
    let of = |stream| -> Vec<&str> {
        seen.iter().filter(|line| line.stream == stream).map(|line| line.text.as_str()).collect()
    };
    assert_eq!((of(Stream::Stdout), of(Stream::Stderr)), (vec!["one", "three"], vec!["two"]));
    let two = seen.iter().find(|line| line.text == "two").unwrap();
    assert_eq!((two.pool.as_str(), two.slot, two.priority), ("web", 0, Some(4)));
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_program_that_does_not_take_lines_slows_the_worker_and_not_the_supervisor() {
    let settings = Settings::new("flood").pool(workers(1, &["ready", "flood=8M"]));
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let supervisor = start(builder(&settings).on_output(move |_| {
        // Until the gate is open, and its other end is dropped.
        let _ = gate.lock().unwrap().recv();
    }))
    .await;
    soon("the status", supervisor.status()).await.unwrap();
    soon("a restart", supervisor.restart()).await.unwrap();
    drop(open);
    soon("the stop", supervisor.stop()).await.unwrap();
}

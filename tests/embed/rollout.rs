//! Changes of all kinds while clients ask.

use handover::embed::event::What;
use handover::embed::{Builder, Configuration, Error};

use crate::scene::{builder, event, pids, soon, start, web, workers};
use crate::support::load::Load;
use crate::support::scratch::{Address, Scratch};
use crate::support::{handover, scripted_worker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_inside_a_program_lose_no_connection() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 3))).await;
    let load = Load::closed(&address, 4).start();
    let before = pids(&supervisor).await;
    for _ in 0..3 {
        let done = soon("a restart", supervisor.restart()).await.unwrap();
        assert!(done.generation.is_some() && done.message.contains("serves"), "{done:?}");
        load.wait_for(50);
    }
    soon("more", supervisor.scale("web", 4)).await.unwrap();
    soon("fewer", supervisor.scale("web", 1)).await.unwrap();
    load.wait_for(50);
    let tally = load.stop();
    tally.assert_nothing_lost();
    assert!(tally.by_generation.len() >= 4, "{:?}", tally.by_generation);
    assert!(!pids(&supervisor).await.iter().any(|pid| before.contains(pid)));
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_rollout_that_fails_is_a_typed_error_and_the_old_generation_serves() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 2))).await;
    let before = pids(&supervisor).await;
    let steps = &["eprint=it does not work", "exit=3"];
    let broken = handover::embed::Settings::new("embedded")
        .listener(handover::embed::Listener::new("http", address.to_string()))
        .pool(workers(2, steps).listener("http"));
    match soon("the reload", supervisor.reload_with(&broken)).await {
        Err(Error::RolledBack { generation, failure: Some(failure), kept, message }) => {
            assert_eq!((generation, failure.exit_code, kept.len()), (Some(2), Some(3), 0), "{message}");
            assert_eq!(failure.output.as_deref(), Some(&["it does not work".to_owned()][..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pids(&supervisor).await, before);
    // What did not work is not where later reloads look.
    soon("a reload", supervisor.reload()).await.unwrap();
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
    let (scratch, address) = (Scratch::new(), Address::tcp());
    let text = |workers: &str| {
        format!(
            "name = 'file'\n[listener.http]\naddress = '{address}'\n[pool.web]\ncommand = ['{}']\nlisteners = ['http']\n\
             workers = {workers}\nrollout.bake_time = '10ms'\n",
            scripted_worker().display()
        )
    };
    let file = scratch.write("app.toml", text("1"));
    let supervisor = start(Builder::from_file(&file).helper(handover())).await;
    assert_eq!(supervisor.status().await.unwrap().daemon.config, Some(file.display().to_string()));
    scratch.write("app.toml", text("'many'"));
    match soon("the reload", supervisor.reload()).await {
        Err(Error::Refused(reason)) => assert!(reason.contains("workers"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(!supervisor.plan().await.unwrap().refusals.is_empty());
    assert_eq!(pids(&supervisor).await.len(), 1);
    scratch.write("app.toml", text("2"));
    assert!(supervisor.plan().await.unwrap().refusals.is_empty());
    soon("the reload", supervisor.reload()).await.unwrap();
    assert_eq!(pids(&supervisor).await.len(), 2);
    soon("another", supervisor.reload_with(Configuration::toml("file", text("3")))).await.unwrap();
    assert_eq!(pids(&supervisor).await.len(), 3);
    soon("again", supervisor.reload_changed()).await.unwrap();
    soon("the stop", supervisor.stop()).await.unwrap();
}

#[tokio::test]
async fn a_rollout_can_be_cancelled() {
    let address = Address::tcp();
    let supervisor = start(builder(&web(&address, 1))).await;
    assert!(matches!(supervisor.cancel().await, Err(Error::Failed(_))), "none runs");
    let mut events = supervisor.events().await.unwrap();
    let slow = handover::embed::Settings::new("embedded")
        .listener(handover::embed::Listener::new("http", address.to_string()))
        .pool(workers(1, &["hang"]).listener("http"));
    let other = supervisor.clone();
    let reload = tokio::spawn(async move { other.reload_with(&slow).await });
    event(&mut events, "its worker", |what| matches!(what, What::WorkerExecuted(_))).await;
    soon("the cancel", supervisor.cancel()).await.unwrap();
    assert!(matches!(soon("the end", reload).await.unwrap(), Err(Error::RolledBack { .. })));
    soon("the stop", supervisor.stop()).await.unwrap();
}

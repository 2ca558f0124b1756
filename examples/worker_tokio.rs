//! A server on tokio, the same under handover, under systemd and by hand; see `worker_blocking` for the commands.
//!
//! It answers each connection with its pid. What waits for the network here would be hyper or another framework in a real program.

use handover::worker::{AsyncConnection, Error, Worker};

fn main() -> Result<(), Error> {
    // Before the runtime has threads: see "The environment" in the documentation of the module.
    let worker = Worker::options().client("worker_tokio").drain_on_signals(true).connect()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(worker))
}

async fn serve(worker: Worker) -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let http = worker.listener("http").or_bind(&address)?.into_async()?;
    let tracker = worker.tracker();
    worker.ready();
    println!("ready");
    while let Some(connection) = http.accept().await? {
        let guard = tracker.enter();
        tokio::spawn(async move {
            let _guard = guard;
            let _ = answer(connection).await;
        });
    }
    drop(http);
    let left = worker.drained().await.time_left();
    match left {
        Some(left) => drop(tokio::time::timeout(left, tracker.finished()).await),
        None => tracker.finished().await,
    }
    println!("finished");
    Ok(())
}

async fn answer(connection: AsyncConnection) -> std::io::Result<()> {
    let text = format!("{}\n", std::process::id());
    match connection.into_tcp() {
        Ok(stream) => {
            stream.writable().await?;
            stream.try_write(text.as_bytes()).map(drop)
        }
        Err(other) => {
            let Ok(stream) = other.into_unix() else { return Ok(()) };
            stream.writable().await?;
            stream.try_write(text.as_bytes()).map(drop)
        }
    }
}

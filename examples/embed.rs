//! A program that is the supervisor of its workers, beside whatever else it does: here, a message to all of them every second.
//!
//! ```text
//! cargo build --examples
//! target/debug/examples/embed 127.0.0.1:8080 target/debug/examples/worker_blocking
//! ```
//!
//! Lines on standard input are orders: `roll` (or an empty line), `scale N`, `status`, `stop`; its end is a stop as well.

use std::error::Error;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use handover::embed::{self, Builder, Listener, Pool, Settings, Supervisor};
use tokio::sync::mpsc;

fn main() -> ExitCode {
    // First of all, while nothing else has happened: this program is started again to become each worker.
    if let Some(code) = embed::helper_main() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, command @ ..] = &arguments[..] else {
        let _ = writeln!(std::io::stderr(), "usage: embed HOST:PORT COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    // Any runtime will do, and so will none.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let run = |runtime: tokio::runtime::Runtime| runtime.block_on(run(address, command));
    match runtime.map_err(Into::into).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(address: &str, command: &[String]) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new("web", command.iter().cloned()).workers(2).listener("http");
    let settings =
        Settings::new("embedded").listener(Listener::new("http", format!("tcp://{address}"))).pool(pool);
    let supervisor = Builder::from_settings(&settings)
        .take_messages()
        .on_output(|line| say(&format!("{}[{}] {}", line.pool, line.slot, line.text)))
        .start()
        .await?;
    let events = tokio::spawn(print_events(supervisor.clone()));
    let messages = tokio::spawn(answer_messages(supervisor.clone()));
    supervisor.ready().await?;
    say(&format!("ready: {}", supervisor.status().await?.daemon.summary));
    let mut orders = orders();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            // Nobody may be there to hear it.
            _ = second.tick() => drop(supervisor.broadcast("a second has passed").await),
            order = orders.recv() => match order.as_deref() {
                None | Some("stop") => break,
                Some(order) => carry_out(&supervisor, order).await,
            },
            end = supervisor.wait() => return Ok(end?),
        }
    }
    supervisor.stop().await?;
    // Both end with the supervisor.
    events.await?;
    messages.await?;
    Ok(())
}

async fn carry_out(supervisor: &Supervisor, order: &str) {
    let done = match order.split_once(' ').unwrap_or((order, "")) {
        ("" | "roll", _) => supervisor.restart().await.map(|done| done.message),
        ("scale", number) => {
            supervisor.scale("web", number.parse().unwrap_or(0)).await.map(|done| done.message)
        }
        ("status", _) => supervisor.status().await.map(|status| status.daemon.summary),
        _ => Ok("roll, scale N, status or stop".to_owned()),
    };
    say(&done.unwrap_or_else(|error| format!("not done: {error}")));
}

async fn print_events(supervisor: Supervisor) {
    let Ok(mut events) = supervisor.events().await else { return };
    while let Some(event) = events.next().await {
        say(&event.message);
    }
}

async fn answer_messages(supervisor: Supervisor) {
    let Some(mut messages) = supervisor.messages() else { return };
    while let Some(message) = messages.next().await {
        say(&format!("worker {} says {}", message.worker(), message.data()));
        if message.is_question() {
            let answer = message.data().clone();
            // It may have ended meanwhile.
            let _ = message.reply(answer);
        }
    }
}

/// Lines of standard input, read by a thread: that may block for ever.
fn orders() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

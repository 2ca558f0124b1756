//! The program that `clients/conformance.py` starts to try `handover::worker`: `conformance_worker`, or with `--tokio` on a runtime.
//!
//! What it must do is in clients/README.md. Orders are carried out on one thread (or by one task), in the order in which they come.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use handover::worker::{
    Error, ErrorCode, Level, Listener, Message, Payload, PoolName, Sender, SlotIndex, Target, Worker, WorkerId,
};
use serde_json::{Value, json};

type Outcome = Result<Option<Value>, Error>;

/// What the worker has in its hands.
struct Orders {
    worker: Worker,
    listener: Option<Listener>,
    held: Vec<OwnedFd>,
}

fn main() -> Result<(), Error> {
    let worker = Worker::options().messages(true).drain_on_signals(true).connect()?;
    if !worker.is_connected() {
        plain(&worker);
        return Ok(());
    }
    let (removals, reporter) = (worker.clone(), worker.clone());
    std::thread::spawn(move || {
        while let Some(name) = removals.wait_for_removed_listener() {
            let _ = reporter.send(Target::Handover, &json!({ "removed": name }));
        }
        if reporter.lost().is_some() {
            print_line("lost");
        }
    });
    worker.ready();
    let orders = Orders { worker: worker.clone(), listener: None, held: Vec::new() };
    if std::env::args().any(|argument| argument == "--tokio") { on_tokio(orders)? } else { orders.obey_all() }
    if worker.lost().is_some() {
        worker.wait_for_drain();
    }
    worker.close();
    Ok(())
}

fn plain(worker: &Worker) {
    worker.status("without handover");
    worker.heartbeat();
    worker.log(Level::Info, "", "without handover", Vec::new());
    worker.ready();
    print_line("plain");
    worker.wait_for_drain();
}

fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(feature = "tokio")]
fn on_tokio(mut orders: Orders) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        orders.worker.beat_on_runtime()?;
        let messages = orders.worker.messages();
        while let Some(mut message) = messages.received().await {
            orders.obey(&mut message);
        }
        Ok(())
    })
}

#[cfg(not(feature = "tokio"))]
fn on_tokio(_: Orders) -> Result<(), Error> {
    Err(Error::NotConnected)
}

impl Orders {
    fn obey_all(mut self) {
        for mut message in self.worker.messages() {
            self.obey(&mut message);
        }
    }

    fn obey(&mut self, message: &mut Message) {
        let order: Value = message.to().unwrap_or_default();
        let fds = message.take_fds();
        match order["do"].as_str() {
            Some("hold") => self.held.extend(fds),
            Some("release") => write_and_close(std::mem::take(&mut self.held)),
            _ if !fds.is_empty() => {
                let count = fds.len();
                write_and_close(fds);
                let _ = message.reply(&json!({ "fds": count }));
            }
            Some("echo") => {
                // Byte for byte: numbers that this program could not hold, too.
                let parts: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                    message.to().unwrap_or_default();
                let _ = parts.get("data").map(|data| message.reply(data));
            }
            Some("refuse") => message.refuse(order["error"].as_str().unwrap_or("failed"), "as ordered"),
            Some("hang") => loop {
                std::thread::park();
            },
            Some(what) if *message.from() == Sender::Handover => self.report(what, &order),
            _ => {}
        }
    }

    fn report(&mut self, what: &str, order: &Value) {
        let outcome = match self.carry_out(what, order) {
            Ok(None) | Err(Error::Lost) => return,
            Ok(Some(outcome)) => outcome,
            Err(Error::Refused { error, .. }) => json!({ "refused": { "error": error.word() } }),
            Err(Error::NoListener(_)) => json!({ "refused": { "error": "missing" } }),
            Err(Error::NotConnected) => {
                json!({ "refused": { "error": ErrorCode::Unsupported.word() } })
            }
            Err(error) => json!({ "failed": error.to_string() }),
        };
        let mut report = json!({ "outcome": outcome });
        if let Some(tag) = order.get("tag") {
            report["tag"] = tag.clone();
        }
        let _ = self.worker.send(Target::Handover, &report);
    }

    fn carry_out(&mut self, what: &str, order: &Value) -> Outcome {
        let worker = &self.worker;
        let text = |name: &str| order[name].as_str().unwrap_or_default();
        match what {
            "about" => return Ok(Some(json!({ "about": { "loop": true } }))),
            "send" => return send(worker, order),
            "send_fd" => return send_fd(worker, order),
            "flood" => {
                for n in 0..order["count"].as_u64().unwrap_or(0) {
                    let size = order["size"].as_u64().unwrap_or(0);
                    let pad = "x".repeat(usize::try_from(size).unwrap_or(0));
                    worker.send(Target::Handover, &json!({ "n": n, "pad": pad }))?;
                }
            }
            "log" => log(worker, order),
            "status" => worker.status(text("text")),
            "heartbeat" => worker.heartbeat(),
            "extend_timeout" => {
                worker.extend_timeout(Duration::from_millis(order["ms"].as_u64().unwrap_or(0)));
            }
            "replace" => {
                worker.replace(text("reason"));
            }
            "stopping" => worker.stopping(),
            "listen" => {
                let name = order["name"].as_str().or(order["address"].as_str()).unwrap_or_default();
                let listener = worker.listener(name).ask_again()?;
                let granted = json!({
                    "name": listener.name(), "address": listener.granted_address(), "fds": listener.sockets().len(),
                });
                self.listener = Some(listener);
                return Ok(Some(json!({ "granted": granted })));
            }
            "inherited" => {
                let listener = worker.listener(text("name")).passed()?;
                let granted = json!({ "name": listener.name(), "fds": listener.sockets().len() });
                self.listener = Some(listener);
                return Ok(Some(json!({ "granted": granted })));
            }
            "accept" => {
                if let Some(connection) = self.listener.as_ref().and_then(|one| one.incoming().ok()?.next()) {
                    connection?.write_all(b"hello\n")?;
                }
            }
            "run" => return run(order).map(Some),
            _ => {}
        }
        Ok(None)
    }
}

fn write_and_close(fds: Vec<OwnedFd>) {
    for fd in fds {
        let _ = File::from(fd).write_all(b"taken\n");
    }
}

fn target(to: &Value) -> Target {
    let pool = || PoolName::new(to["pool"].as_str().unwrap_or_default());
    match (to.as_str(), to["worker"].as_u64(), to["slot"].as_u64()) {
        (Some("all"), ..) => Target::All,
        (None, Some(worker), _) => Target::Worker(WorkerId(worker)),
        (None, None, Some(slot)) => Target::Slot(pool(), SlotIndex(u32::try_from(slot).unwrap_or(u32::MAX))),
        (None, None, None) => Target::Pool(pool()),
        _ => Target::Handover,
    }
}

fn sent(sent: &handover::worker::Sent) -> Value {
    let refused = sent.refused.iter().map(|one| json!({ "worker": one.worker.0, "error": one.error.word() }));
    json!({ "sent": { "receivers": sent.receivers, "refused": refused.collect::<Vec<_>>() } })
}

fn send(worker: &Worker, order: &Value) -> Outcome {
    let (to, data) = (target(&order["to"]), &order["data"]);
    if order["reply"].as_bool() == Some(true) {
        let timeout = Duration::from_millis(order["timeout_ms"].as_u64().unwrap_or(30_000));
        let reply = worker.ask(to, data, timeout)?.wait()?;
        return Ok(Some(json!({ "reply": reply.to::<Value>()? })));
    }
    if order["id"].as_bool() == Some(true) {
        return Ok(Some(sent(&worker.deliver(to, data, &[])?.wait()?)));
    }
    worker.send(to, data).map(|()| None)
}

fn send_fd(worker: &Worker, order: &Value) -> Outcome {
    let (mut ours, theirs) = UnixStream::pair()?;
    let outcome = worker.deliver(target(&order["to"]), "fd", &[theirs.as_fd()])?.wait()?;
    ours.write_all(b"fd\n")?;
    Ok(Some(sent(&outcome)))
}

fn log(worker: &Worker, order: &Value) {
    let level = Level::from_word(order["level"].as_str().unwrap_or_default()).unwrap_or(Level::Info);
    let fields = order["fields"].as_object().into_iter().flatten();
    let fields = fields.filter_map(|(name, value)| Some((name.clone(), Payload::of(value).ok()?)));
    let target = order["target"].as_str().unwrap_or_default();
    worker.log(level, target, order["message"].as_str().unwrap_or_default(), fields.collect());
}

fn run(order: &Value) -> Result<Value, Error> {
    let command: Vec<&str> = order["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (program, arguments) = command.split_first().ok_or(Error::NotConnected)?;
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut output = String::new();
    if let Some(out) = &mut child.stdout {
        out.read_to_string(&mut output)?;
    }
    child.wait()?;
    Ok(json!({ "output": output }))
}

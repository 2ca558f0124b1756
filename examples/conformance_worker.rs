//! The program that `clients/conformance.py` starts to try `handover::worker`: `conformance_worker`, or with `--tokio` on a runtime.
//!
//! What it must do is in clients/README.md. Orders begin in the order in which they come; those that wait do so on threads of their own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use handover::worker::{
    Error, Level, Listener, Message, Payload, PoolName, Sender, SlotIndex, Target, Worker, WorkerId,
};
use serde_json::{Value, json};

/// The members of an order, unread.
type Parts = BTreeMap<String, Box<serde_json::value::RawValue>>;
type Outcome = Result<Option<Value>, Error>;

/// What the worker has in its hands.
struct Orders {
    worker: Worker,
    listener: Option<Arc<Listener>>,
    held: Vec<OwnedFd>,
    /// Questions that are not answered yet.
    questions: Vec<Message>,
    /// Orders that wait for something: the next begins meanwhile.
    under_way: Vec<JoinHandle<()>>,
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
            reporter.status("lost");
            print_line("lost");
        }
    });
    let mut orders = Orders {
        worker: worker.clone(),
        listener: None,
        held: Vec::new(),
        questions: Vec::new(),
        under_way: Vec::new(),
    };
    if std::env::args().any(|argument| argument == "--tokio") {
        on_tokio(&mut orders)?;
    } else {
        let messages = worker.messages();
        worker.ready();
        for message in messages {
            orders.obey(message);
        }
    }
    orders.finish();
    if worker.lost().is_some() {
        worker.wait_for_drain();
    }
    worker.close();
    Ok(())
}

fn plain(worker: &Worker) {
    worker.status("without handover");
    worker.heartbeat();
    worker.extend_timeout(Duration::from_secs(20));
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
fn on_tokio(orders: &mut Orders) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        orders.worker.beat_on_runtime()?;
        let messages = orders.worker.messages();
        // Not before the runtime is there: who is ready may be at its limit of open files.
        orders.worker.ready();
        while let Some(message) = messages.received().await {
            orders.obey(message);
        }
        Ok(())
    })
}

#[cfg(not(feature = "tokio"))]
fn on_tokio(_: &mut Orders) -> Result<(), Error> {
    Err(Error::NotConnected)
}

impl Orders {
    /// Orders that came until now are obeyed to their end.
    fn finish(mut self) {
        let messages = self.worker.messages();
        loop {
            while let Some(message) = messages.try_next() {
                self.obey(message);
            }
            let Some(order) = self.under_way.pop() else { return };
            let _ = order.join();
        }
    }

    fn obey(&mut self, mut message: Message) {
        let order = read(&message);
        let fds = message.take_fds();
        match order["do"].as_str() {
            Some("hold") => {
                self.held.extend(fds);
                self.questions.push(message);
            }
            Some("release") => {
                write_and_close(std::mem::take(&mut self.held));
                for mut question in self.questions.drain(..) {
                    let _ = question.reply(&true);
                }
            }
            _ if !fds.is_empty() => {
                let count = fds.len();
                write_and_close(fds);
                let _ = message.reply(&json!({ "fds": count }));
            }
            Some("echo") => {
                // Byte for byte: numbers that this program could not hold, too.
                let parts: Parts = message.to().unwrap_or_default();
                let _ = parts.get("data").map(|data| message.reply(data));
            }
            Some("from") => {
                let from = sender(message.from());
                let _ = message.reply(&from);
            }
            Some("reply_fd") => drop(reply_fd(&mut message)),
            Some("refuse") => message.refuse(order["error"].as_str().unwrap_or("failed"), "as ordered"),
            Some("hang") => loop {
                std::thread::park();
            },
            Some(_) if *message.from() == Sender::Handover => self.begin(order),
            _ => {}
        }
    }

    fn begin(&mut self, order: Value) {
        let waits = ["send_fd", "flood", "accept", "run"];
        let what = order["do"].as_str().unwrap_or_default();
        let is_question = order["id"] == true || order["reply"] == true;
        let (worker, listener) = (self.worker.clone(), self.listener.clone());
        if waits.contains(&what) || is_question {
            self.under_way.push(std::thread::spawn(move || {
                report(&worker, &order, wait_for(&worker, listener.as_deref(), &order));
            }));
            return;
        }
        let outcome = match what {
            "listen" => {
                let name = order["name"].as_str().or(order["address"].as_str()).unwrap_or_default();
                self.granted(self.worker.listener(name).ask_again())
            }
            "inherited" => {
                self.granted(self.worker.listener(order["name"].as_str().unwrap_or_default()).passed())
            }
            _ => say(&worker, what, &order),
        };
        report(&worker, &order, outcome);
    }

    fn granted(&mut self, listener: Result<Listener, Error>) -> Outcome {
        let listener = listener?;
        let mut granted = json!({ "name": listener.name(), "fds": listener.sockets().len() });
        if let Some(address) = listener.granted_address() {
            granted["address"] = address.into();
        }
        self.listener = Some(Arc::new(listener));
        Ok(Some(json!({ "granted": granted })))
    }
}

/// What can be read of an order.
fn read(message: &Message) -> Value {
    let parts: Parts = message.to().unwrap_or_default();
    let parts =
        parts.into_iter().filter_map(|(name, raw)| Some((name, serde_json::from_str(raw.get()).ok()?)));
    Value::Object(parts.collect())
}

fn report(worker: &Worker, order: &Value, outcome: Outcome) {
    let outcome = match outcome {
        Ok(None) | Err(Error::Lost) => return,
        Ok(Some(outcome)) => outcome,
        Err(Error::Refused { error, .. }) => json!({ "refused": { "error": error.word() } }),
        Err(Error::NoListener(_)) => json!({ "refused": { "error": "missing" } }),
        Err(error) => json!({ "unsupported": error.to_string() }),
    };
    let mut report = json!({ "outcome": outcome });
    if let Some(tag) = order.get("tag") {
        report["tag"] = tag.clone();
    }
    let _ = worker.send(Target::Handover, &report);
}

/// Orders that are one line.
fn say(worker: &Worker, what: &str, order: &Value) -> Outcome {
    let text = |name: &str| order[name].as_str().unwrap_or_default();
    match what {
        "about" => return Ok(Some(json!({ "about": { "loop": true } }))),
        "send" => worker.send(target(&order["to"]), &order["data"])?,
        "log" => log(worker, order),
        "status" => worker.status(text("text")),
        "heartbeat" => worker.heartbeat(),
        "extend_timeout" => worker.extend_timeout(Duration::from_millis(order["ms"].as_u64().unwrap_or(0))),
        "replace" => drop(worker.replace(text("reason"))),
        "stopping" => worker.stopping(),
        "fork" => return Ok(Some(json!({ "unsupported": "a program with threads does not fork" }))),
        _ => {}
    }
    Ok(None)
}

/// Orders that wait.
fn wait_for(worker: &Worker, listener: Option<&Listener>, order: &Value) -> Outcome {
    match order["do"].as_str() {
        Some("send") => ask(worker, order),
        Some("send_fd") => send_fd(worker, order),
        Some("run") => run(order).map(Some),
        Some("flood") => {
            flood(worker, order);
            Ok(None)
        }
        Some("accept") => {
            if let Some(connection) = listener.and_then(|one| one.incoming().ok()?.next()) {
                connection?.write_all(b"hello\n")?;
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn flood(worker: &Worker, order: &Value) {
    let pad = "x".repeat(order["size"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(0));
    for n in 0..order["count"].as_u64().unwrap_or(0) {
        // What is too long is dropped.
        let _ = worker.send(Target::Handover, &json!({ "n": n, "pad": pad }));
    }
}

fn write_and_close(fds: Vec<OwnedFd>) {
    for fd in fds {
        let _ = File::from(fd).write_all(b"taken\n");
    }
}

fn sender(from: &Sender) -> Value {
    match from {
        Sender::Handover => json!("handover"),
        Sender::Worker { pool, slot, worker } => {
            json!({ "pool": pool.as_str(), "slot": slot.0, "worker": worker.0 })
        }
        // One of a later version.
        _ => Value::Null,
    }
}

fn reply_fd(message: &mut Message) -> Result<(), Error> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(b"fd\n")?;
    message.reply_with_fds("fd", &[theirs.as_fd()])
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

fn ask(worker: &Worker, order: &Value) -> Outcome {
    let (to, data) = (target(&order["to"]), &order["data"]);
    if order["reply"] != true {
        return Ok(Some(sent(&worker.deliver(to, data, &[])?.wait()?)));
    }
    let timeout = Duration::from_millis(order["timeout_ms"].as_u64().unwrap_or(30_000));
    let reply = worker.ask(to, data, timeout)?.wait()?;
    let mut outcome = json!({ "reply": reply.to::<Value>()?, "from": sender(&reply.from) });
    if !reply.fds.is_empty() {
        outcome["fds"] = reply.fds.len().into();
    }
    write_and_close(reply.fds);
    Ok(Some(outcome))
}

fn send_fd(worker: &Worker, order: &Value) -> Outcome {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let asking = worker.deliver(target(&order["to"]), "fd", &[theirs.as_fd()]);
    let outcome = match asking.and_then(handover::worker::Asking::wait) {
        Err(Error::Refused { error, .. }) => {
            // It is this program's as before.
            let mut byte = [0];
            theirs.write_all(b"?")?;
            ours.read_exact(&mut byte)?;
            json!({ "refused": { "error": error.word() }, "kept": byte == *b"?" })
        }
        outcome => sent(&outcome?),
    };
    ours.write_all(b"fd\n")?;
    Ok(Some(outcome))
}

fn log(worker: &Worker, order: &Value) {
    let level = Level::from_word(order["level"].as_str().unwrap_or_default()).unwrap_or(Level::Info);
    let fields = order["fields"].as_object().into_iter().flatten();
    let fields = fields.filter_map(|(name, value)| Some((name.clone(), Payload::of(value).ok()?)));
    let target = order["target"].as_str().unwrap_or_default();
    worker.log(level, target, order["message"].as_str().unwrap_or_default(), fields.collect());
}

fn run(order: &Value) -> Result<Value, Error> {
    let command: Vec<&str> =
        order["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (program, arguments) = command.split_first().ok_or(Error::NotConnected)?;
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut output = String::new();
    if let Some(out) = &mut child.stdout {
        out.read_to_string(&mut output)?;
    }
    child.wait()?;
    Ok(json!({ "output": output }))
}

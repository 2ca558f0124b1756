//! The steps, one after the other. A step that waits ends early when this worker is asked to end; the rest of
//! the script is then left out.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::script::Step;
use crate::{channel, harm, http, identity, listen, notify, signals};

/// This worker.
pub(crate) struct Worker {
    server: Arc<http::Server>,
    sockets: Option<Vec<OwnedFd>>,
    acceptors: Vec<listen::Acceptors>,
    heartbeat: Arc<AtomicBool>,
    report: Option<String>,
    end: Ending,
}

/// How it ends when it is asked to.
#[derive(Default)]
struct Ending {
    status: u8,
    takes: Duration,
    at_once: bool,
}

/// Whether the script goes on.
enum Flow {
    Next,
    End,
    Exit(u8),
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self {
            server: Arc::default(),
            sockets: None,
            acceptors: Vec::new(),
            heartbeat: Arc::default(),
            report: std::env::var("WORKER_REPORT").ok(),
            end: Ending::default(),
        }
    }

    /// Does the steps, then waits to be asked to end, then ends as a good server does.
    pub(crate) fn run(mut self, script: &[Step]) -> ExitCode {
        self.report("started");
        for step in script {
            match self.step(step) {
                Ok(Flow::Next) => {}
                Ok(Flow::End) => break,
                Ok(Flow::Exit(status)) => return ExitCode::from(status),
                Err(error) => {
                    eprintln!("scripted_worker: {}: {error}", step.name);
                    return ExitCode::from(65);
                }
            }
        }
        while !signals::wait(&[], None) {}
        self.report("asked");
        if !self.end.at_once {
            self.acceptors.drain(..).for_each(listen::Acceptors::stop);
            self.server.finish();
        }
        std::thread::sleep(self.end.takes);
        self.heartbeat.store(false, Ordering::SeqCst);
        self.report("ended");
        ExitCode::from(self.end.status)
    }

    fn step(&mut self, step: &Step) -> io::Result<Flow> {
        match step.name.as_str() {
            "exit" => return Ok(Flow::Exit(u8::try_from(step.number()).unwrap_or(255))),
            "crash" => harm::die_of(libc::SIGSEGV),
            "abort" => harm::die_of(libc::SIGABRT),
            "hang" => return Ok(self.wait(None)),
            "wait" => return Ok(self.wait(Some(step.duration()))),
            "ready" | "ready-fd" | "stopping" | "status" | "status-flood" | "notify" | "notify-garbage"
            | "notify-huge" | "notify-from-child" | "forge-notify" | "store-fd" | "heartbeat-once"
            | "extend-timeout" => {
                return self.tell(step);
            }
            "hello" => channel::hello(&step.value)?,
            "say" => channel::say(&step.value)?,
            "hear" => channel::hear()?,
            "stop-heartbeat" => self.heartbeat.store(false, Ordering::SeqCst),
            "serve" => self.serve()?,
            "bind" => self.bind(&step.value)?,
            "version" => self.server.set_version(&step.value),
            "report" => self.report = Some(step.value.clone()),
            "ignore-term" => signals::ignore_term(),
            "die-of-term" => signals::die_of_term(),
            "end-status" => self.end.status = u8::try_from(step.number()).unwrap_or(255),
            "end-takes" => self.end.takes = step.duration(),
            "end-at-once" => self.end.at_once = true,
            "dump" => dump_to(&step.value)?,
            "spoil-socket" => self.spoil(&step.value)?,
            _ => return Self::output_or_waste(self, step),
        }
        Ok(Flow::Next)
    }

    /// Steps that write, fork and waste.
    fn output_or_waste(&self, step: &Step) -> io::Result<Flow> {
        match step.name.as_str() {
            "print" => writeln!(io::stdout(), "{}", unescape(&step.value))?,
            "print-partial" => {
                write!(io::stdout(), "{}", unescape(&step.value))?;
                io::stdout().flush()?;
            }
            "eprint" => writeln!(io::stderr(), "{}", unescape(&step.value))?,
            "flood" => harm::flood(step.number()),
            "long-line" => harm::long_line(step.number())?,
            "become-root" => harm::become_root()?,
            "close-output" => harm::close_output(),
            "tell-parent" => harm::tell_parent(),
            "leak-fds" => harm::leak_fds(step.number()),
            "leak-memory" => harm::leak_memory(step.number()),
            "fork" => {
                let steps: &[&str] = if step.value.contains("ignore-term") {
                    &["ignore-term", "tell-parent", "hang"]
                } else {
                    &["die-of-term", "tell-parent", "hang"]
                };
                let pid = harm::fork_child(step.value.contains("setsid"), steps)?;
                self.report(&format!("forked child={pid}"));
            }
            // A process of our group that has the address, and keeps it for a while when it is asked to end.
            "fork-holder" => {
                let bind = format!("bind={}", step.value);
                harm::fork_child(false, &[&bind, "end-takes=700ms", "tell-parent"])?;
            }
            other => return Err(io::Error::other(format!("no such step: {other}"))),
        }
        Ok(Flow::Next)
    }

    /// Steps that say something to the supervisor.
    fn tell(&mut self, step: &Step) -> io::Result<Flow> {
        match step.name.as_str() {
            "ready" => {
                self.start_heartbeat();
                notify::send(b"READY=1")?;
                self.report("ready");
            }
            "ready-fd" => {
                // SAFETY: the test gave this number to `ready_fd`, so it is ours.
                let mut fd = unsafe { File::from_raw_fd(i32::try_from(step.number()).unwrap_or(-1)) };
                fd.write_all(b"\n")?;
            }
            "stopping" => notify::send(b"STOPPING=1")?,
            "status" => notify::send(format!("STATUS={}", step.value).as_bytes())?,
            "status-flood" => {
                for number in 0..step.number() {
                    let text = format!("STATUS={number} {}", "x".repeat(900));
                    while let Err(error) = notify::send(text.as_bytes()) {
                        if error.kind() != io::ErrorKind::Interrupted {
                            return Err(error);
                        }
                    }
                }
            }
            "notify" => notify::send(unescape(&step.value).as_bytes())?,
            "notify-garbage" => {
                for garbage in [
                    &b""[..],
                    b"\0\xff\xfe",
                    b"READY",
                    b"=1",
                    b"READY=\n\n\n",
                    b"READY=yes",
                    b"MAINPID=x",
                    b"WATCHDOG_USEC=x",
                ] {
                    notify::send(garbage)?;
                }
            }
            // Larger than a receiver's buffer; the kernel may refuse it, which is as good.
            "notify-huge" => {
                let size = usize::try_from(step.number()).unwrap_or(0);
                let _ = notify::send([b"STATUS=".as_slice(), &vec![b'x'; size]].concat().as_slice());
            }
            "notify-from-child" => {
                harm::fork_child(step.value.contains("setsid"), &["notify=READY=1", "exit=0"])?;
            }
            "forge-notify" => notify::send_to(&step.value, b"READY=1")?,
            "store-fd" => notify::store(&step.value)?,
            "heartbeat-once" => notify::send(b"WATCHDOG=1")?,
            "extend-timeout" => {
                notify::send(format!("EXTEND_TIMEOUT_USEC={}", step.duration().as_micros()).as_bytes())?
            }
            other => return Err(io::Error::other(format!("no such message: {other}"))),
        }
        Ok(Flow::Next)
    }

    fn sockets(&mut self) -> io::Result<&[OwnedFd]> {
        if self.sockets.is_none() {
            self.sockets = Some(listen::take_sockets().map_err(io::Error::other)?);
        }
        Ok(self.sockets.as_deref().unwrap_or_default())
    }

    fn serve(&mut self) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        let acceptors = listen::Acceptors::start(self.sockets()?, &server);
        self.acceptors.push(acceptors);
        Ok(())
    }

    /// Serves on an address of its own.
    fn bind(&mut self, address: &str) -> io::Result<()> {
        let socket = OwnedFd::from(std::net::TcpListener::bind(address)?);
        let acceptors = listen::Acceptors::start(std::slice::from_ref(&socket), &self.server);
        self.acceptors.push(acceptors);
        self.sockets.get_or_insert_default().push(socket);
        Ok(())
    }

    fn spoil(&mut self, how: &str) -> io::Result<()> {
        self.sockets()?.iter().try_for_each(|socket| harm::spoil(socket, how))
    }

    /// Feeds the watchdog at half of the time that `WATCHDOG_USEC` gives, from now on.
    fn start_heartbeat(&self) {
        let Some(interval) = std::env::var("WATCHDOG_USEC").ok().and_then(|usec| usec.parse().ok()) else {
            return;
        };
        if self.heartbeat.swap(true, Ordering::SeqCst) {
            return;
        }
        let beating = Arc::clone(&self.heartbeat);
        std::thread::spawn(move || {
            while beating.load(Ordering::SeqCst) {
                let _ = notify::send(b"WATCHDOG=1");
                std::thread::sleep(Duration::from_micros(interval) / 2);
            }
        });
    }

    fn wait(&self, timeout: Option<Duration>) -> Flow {
        if signals::wait(&[], timeout) { Flow::End } else { Flow::Next }
    }

    /// Tells the test what happens here: one datagram to the socket `$WORKER_REPORT`.
    fn report(&self, what: &str) {
        if let Some(path) = &self.report {
            let _ = notify::send_to(path, format!("{what} {}", identity::line()).as_bytes());
        }
    }
}

/// Writes the dump so that the file is complete as soon as it is there.
fn dump_to(path: &str) -> io::Result<()> {
    let path = path.replace("SLOT", &identity::variable("slot"));
    let draft = format!("{path}.draft");
    std::fs::write(&draft, identity::dump())?;
    std::fs::rename(&draft, &path)
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\e", "\u{1b}")
}

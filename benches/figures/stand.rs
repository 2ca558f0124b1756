//! A service while it is measured: started by hand, under handover, or by a peer, on an address of its own and in a directory
//! of its own. Whatever it starts bears its mark, and is ended with it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::load::{self, Answer, Load, Pace};
use crate::support::child::OwnedChild;
use crate::support::scratch::{Address, Scratch};
use crate::support::{self, proc};
use crate::sys::{self, MILLISECOND, SECOND};

/// How long anything may take before a figure gives up.
const PATIENCE: u64 = 60 * SECOND;
/// How long a client waits for one answer before it tries again on another connection.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(50);
/// What a process must not learn by accident of the surroundings.
const NOT_OURS: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "INVOCATION_ID",
    "RUNTIME_DIRECTORY",
];

/// This binary, which is also the measured program.
pub fn own_program() -> Result<String> {
    let path = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    Ok(path.display().to_string())
}

/// Where a service is to be.
pub struct Place {
    /// Its directory.
    pub scratch: Scratch,
    /// Where it is to listen.
    pub address: SocketAddr,
}

impl Place {
    /// A new one.
    pub fn new() -> Self {
        let Address::Tcp(address) = Address::tcp() else { unreachable!("tcp() gives a TCP address") };
        Self { scratch: Scratch::new(), address }
    }

    /// A listening socket at the address, as a service manager would open it: non-blocking, with a long queue.
    pub fn socket(&self) -> Result<OwnedFd> {
        let make = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&self.address.into())?;
            socket.listen(4096)?;
            Ok(socket)
        };
        let made: std::io::Result<Socket> = make();
        made.map(OwnedFd::from).map_err(|error| format!("listen on {}: {error}", self.address))
    }

    /// Writes a file into the directory, with `ADDRESS` and `DIRECTORY` replaced by this place's.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let directory = self.scratch.path().display().to_string();
        let text = text.replace("ADDRESS", &self.address.to_string()).replace("DIRECTORY", &directory);
        self.scratch.write_program(name, &text)
    }
}

/// A service that runs.
pub struct Service {
    /// What it is called on the page.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    children: Vec<OwnedChild>,
    mark: String,
}

impl Service {
    /// A service without processes yet.
    pub fn new(name: &'static str, place: Place) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}#{number}", place.scratch.path().display());
        Self { name, place, children: Vec::new(), mark }
    }

    /// Starts a process of it; the first one is its master. What it writes goes to a file in the directory.
    pub fn start(&mut self, words: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        self.begin(words, variables, None)
    }

    /// Starts a process that is given `socket` as fd 3.
    pub fn start_with(&mut self, words: &[&str], variables: &[(&str, &str)], socket: &OwnedFd) -> Result<()> {
        let program = own_program()?;
        let words: Vec<&str> =
            [program.as_str(), "activate"].into_iter().chain(words.iter().copied()).collect();
        let socket = socket.try_clone().map_err(|error| format!("socket of {}: {error}", self.name))?;
        self.begin(&words, variables, Some(socket))
    }

    fn begin(&mut self, words: &[&str], variables: &[(&str, &str)], input: Option<OwnedFd>) -> Result<()> {
        let log = || File::options().append(true).create(true).open(self.log());
        let log = || log().map_err(|error| format!("log of {}: {error}", self.name));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.place.scratch.path()).stdout(log()?).stderr(log()?);
        command.stdin(input.map_or_else(Stdio::null, Stdio::from));
        NOT_OURS.iter().for_each(|key| {
            command.env_remove(key);
        });
        command.envs(variables.iter().copied()).env(proc::MARK, &self.mark);
        let runtime = self.place.scratch.join("run");
        std::fs::create_dir_all(&runtime).map_err(|error| format!("{}: {error}", runtime.display()))?;
        command.env("RUNTIME_DIRECTORY", runtime);
        self.children.push(OwnedChild::spawn(&mut command));
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.place.scratch.join("log")
    }

    /// Starts a process of `program` that is given `socket`.
    pub fn start_program(&mut self, program: &Program, socket: &OwnedFd) -> Result<()> {
        self.start_with(&program.words(), &program.environment, socket)
    }

    /// Ends the processes that were started here, and waits for that.
    pub fn end_children(&mut self) {
        self.children.drain(..).for_each(drop);
    }

    /// The pid of its master.
    pub fn master(&self) -> u32 {
        self.children.first().map_or(0, OwnedChild::pid)
    }

    /// How many processes it consists of.
    pub fn processes(&self) -> usize {
        proc::marked(&self.mark).len()
    }

    /// Waits until it has answered.
    pub fn wait_for_answer(&self) -> Result<Answer> {
        self.wait_for_answer_of(|_| true)
    }

    /// Asks until somebody answers who is wanted.
    pub fn wait_for_answer_of(&self, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
        let end = sys::now() + PATIENCE;
        while sys::now() < end {
            match ask(self.place.address) {
                Some(answer) if wanted(&answer) => return Ok(answer),
                _ => sys::pause(MILLISECOND / 5),
            }
        }
        Err(self.trouble("did not answer"))
    }

    /// Waits until that many workers have answered. An idle kernel wakes the same one of them again and again, so this
    /// takes many clients at a time.
    pub fn wait_for_workers(&self, count: usize) -> Result<()> {
        self.wait_for_answer()?;
        let mut seen = BTreeSet::new();
        let end = sys::now() + PATIENCE;
        while sys::now() < end {
            let load = Load {
                address: self.place.address,
                pace: Pace::Closed(16),
                keep_alive: false,
                warm_up: 0,
                duration: 50 * MILLISECOND,
            };
            let tally = load.run().map_err(|error| self.trouble(&error.to_string()))?;
            seen.extend(tally.last_of.into_keys());
            if seen.len() >= count {
                return Ok(());
            }
        }
        Err(self.trouble(&format!("only {} of {count} workers answered", seen.len())))
    }

    /// What went wrong, with the last that it wrote.
    pub fn trouble(&self, what: &str) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
        format!("{}: {what}; the last that it wrote:\n  {last}", self.name)
    }

    /// `handover COMMAND… --socket ITS_SOCKET`, which must succeed; what it printed.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(handover());
        command.args(words).arg("--socket").arg(self.place.scratch.join("run/control.sock"));
        let output = command.output().map_err(|error| format!("handover {words:?}: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(self.trouble(&format!("handover {}: {said}", words.join(" "))))
    }

    /// Waits until handover says that all is as it should be, and no old worker is left.
    pub fn settle(&self) -> Result<()> {
        let end = sys::now() + PATIENCE;
        while sys::now() < end {
            if let Ok(text) = self.cli(&["status", "--json"])
                && let Ok(value) = serde_json::from_str(&text)
                && support::status::Status(value).is_settled()
            {
                return Ok(());
            }
            sys::pause(5 * MILLISECOND);
        }
        Err(self.trouble("did not come to rest"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The master first: else it would follow up those that are ended.
        self.end_children();
        proc::end_marked(&self.mark);
    }
}

/// Asks once, on a connection of its own. Not for long: a connection that was given to a worker which then died may
/// be forgotten by everybody, while the next one is answered.
fn ask(address: SocketAddr) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    loop {
        match stream.read(&mut part).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&part[..count]),
        }
        if let Some(answer) = load::whole(&bytes) {
            return Some(answer);
        }
    }
}

/// How a program is a worker.
#[derive(Clone)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `ready =` in handover's configuration.
    pub ready: &'static str,
    /// What is to be in its environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Program {
    /// The small server of these figures.
    pub fn own(arguments: &[&str]) -> Result<Self> {
        let mut command = vec![own_program()?, "worker".to_owned()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Ok(Self { command, ready: "notify", environment: Vec::new() })
    }

    fn words(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }

    /// So many processes of it, started by hand on one socket.
    pub fn by_hand(&self, place: Place, count: usize) -> Result<Service> {
        let socket = place.socket()?;
        let mut service = Service::new("by hand", place);
        for _ in 0..count {
            service.start_program(self, &socket)?;
        }
        Ok(service)
    }
}

/// handover's configuration for one pool; times of rollouts and restarts such that nothing waits but for facts.
#[derive(Clone)]
pub struct Pool {
    /// What its workers run.
    pub program: Program,
    /// How many.
    pub workers: usize,
    /// Whether they are given a socket.
    pub listens: bool,
    /// `max_surge`, as TOML.
    pub surge: &'static str,
}

impl Pool {
    /// A pool that listens.
    pub fn new(program: Program, workers: usize) -> Self {
        Self { program, workers, listens: true, surge: "1" }
    }

    fn text(&self, address: Option<SocketAddr>) -> String {
        let quoted = |word: &String| format!("{word:?}");
        let command: Vec<String> = self.program.command.iter().map(quoted).collect();
        let variables: Vec<String> =
            self.program.environment.iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
        let listens = if self.listens { "\"http\"" } else { "" };
        let mut text = String::from("name = \"bench\"\n");
        if self.listens {
            text.push_str("[listener.http]\n");
        }
        if let Some(address) = address.filter(|_| self.listens) {
            text.push_str(&format!("address = \"tcp://{address}\"\nnonblocking = true\n"));
        }
        text.push_str(&format!(
            "[pool.web]\ncommand = [{}]\nworkers = {}\nlisteners = [{listens}]\nready = \"{}\"\nenvironment = {{ {} }}\n\
             [pool.web.rollout]\nmax_surge = {}\nbake_time = \"0s\"\n\
             [pool.web.restart]\nstable_after = \"100ms\"\n",
            command.join(", "),
            self.workers,
            self.program.ready,
            variables.join(", "),
            self.surge,
        ));
        text
    }

    /// Starts it under handover, which binds the socket itself.
    pub fn start(&self, place: Place) -> Result<Service> {
        let config = self.write(&place, Some(place.address));
        let mut service = Service::new("handover", place);
        service.start(&[&handover(), "run", &config], &[])?;
        Ok(service)
    }

    /// Starts it under handover, which is given the socket.
    pub fn start_with(&self, place: Place, socket: &OwnedFd) -> Result<Service> {
        let config = self.write(&place, None);
        let mut service = Service::new("handover", place);
        service.start_with(&[&handover(), "run", &config], &[], socket)?;
        Ok(service)
    }

    fn write(&self, place: &Place, address: Option<SocketAddr>) -> String {
        place.scratch.write("bench.toml", self.text(address)).display().to_string()
    }
}

/// The binary that is measured: that of this build, or the one that `HANDOVER_BINARY` names.
pub fn handover() -> String {
    let named = std::env::var("HANDOVER_BINARY").ok();
    named.unwrap_or_else(|| support::handover().display().to_string())
}

//! The real daemon, started as its users start it, and owned by the test together with all that it starts.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use handover::control::What;
use sendfd::SendWithFd;

use super::child::{OwnedChild, settle};
use super::events::Events;
use super::log::Log;
use super::scratch::Scratch;
use super::status::Status;
use super::{deadline, handover, proc, scripted_worker};

/// Variables of the surroundings that must not reach the daemon by accident.
const NOT_OURS: [&str; 12] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "RUNTIME_DIRECTORY",
    "WORKER_SCRIPT",
    "WORKER_REPORT",
];

/// How a daemon is to be started.
pub struct Setup {
    scratch: Scratch,
    arguments: Vec<OsString>,
    wrapper: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    only_this_environment: bool,
    passed: Option<(Vec<OwnedFd>, String)>,
    stderr: Option<Stdio>,
    terminal: Option<OwnedFd>,
    directory: PathBuf,
    mark: String,
}

impl Setup {
    /// `handover run ARGUMENTS`, with its runtime directory in `scratch`.
    pub fn new<I: Into<OsString>>(scratch: &Scratch, arguments: impl IntoIterator<Item = I>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}#{}", scratch.path().display(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            mark,
            scratch: scratch.clone(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            wrapper: Vec::new(),
            environment: Vec::new(),
            only_this_environment: false,
            passed: None,
            stderr: None,
            terminal: None,
            directory: PathBuf::from("/"),
        }
    }

    /// Started in this directory instead of `/`.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.directory);
        self
    }

    /// With this variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// With `PATH` and the variables given here only.
    #[must_use]
    pub fn only_this_environment(mut self) -> Self {
        self.only_this_environment = true;
        self
    }

    /// Executed by this command, which must itself execute (not fork): `prlimit`, `setpriv`, `sh -c 'exec …'`.
    #[must_use]
    pub fn under<I: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = I>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// The same, inside of the commands so far.
    #[must_use]
    pub fn also_under<I: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = I>) -> Self {
        self.wrapper.extend(wrapper.into_iter().map(Into::into));
        self
    }

    /// With these sockets, as a service manager passes them; `names` as in `LISTEN_FDNAMES`, or empty.
    #[must_use]
    pub fn pass(mut self, sockets: Vec<OwnedFd>, names: &str) -> Self {
        self.passed = Some((sockets, names.to_owned()));
        self
    }

    /// With this standard error instead of one that the test reads.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// On this terminal, as the first process of its session.
    #[must_use]
    pub fn terminal(mut self, slave: OwnedFd) -> Self {
        self.terminal = Some(slave);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Daemon {
        let runtime = self.scratch.join("run");
        std::fs::create_dir_all(&runtime).expect("our directory");
        let mut command = self.command(&runtime);
        settle(&mut command, self.terminal.is_some());
        let read_stderr = self.stderr.is_none() && self.terminal.is_none();
        command.stdout(Stdio::null()).stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        let sockets = self.passed.take().map(|passed| {
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            command.stdin(OwnedFd::from(theirs));
            (ours, passed)
        });
        if let Some(slave) = self.terminal.take() {
            let end = || slave.try_clone().expect("an fd");
            command.stdin(end()).stdout(end()).stderr(slave);
        } else if sockets.is_none() {
            command.stdin(File::open("/dev/null").expect("/dev/null"));
        }
        let mut child = OwnedChild::spawn(&mut command);
        if let Some((stream, (fds, names))) = sockets {
            let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            stream.send_with_fd(format!("{names}\n").as_bytes(), &raw).expect("the other end waits");
        }
        let log = if read_stderr {
            Log::read(child.inner().stderr.take().expect("a pipe"))
        } else {
            Log::read(std::io::empty())
        };
        Daemon { child, log, socket: runtime.join("control.sock"), mark: self.mark, _scratch: self.scratch }
    }

    fn command(&self, runtime: &Path) -> Command {
        let mut words = self.wrapper.clone();
        if self.passed.is_some() {
            words.extend([scripted_worker().into_os_string(), "activate".into()]);
        }
        words.extend([handover().as_os_str().to_owned(), "run".into()]);
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.directory);
        if self.only_this_environment {
            command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        }
        NOT_OURS.iter().for_each(|key| {
            command.env_remove(key);
        });
        command.env("RUNTIME_DIRECTORY", runtime).env(proc::MARK, &self.mark);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Both, for a test that does not mind where something is said.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// # Panics
    ///
    /// Where it ended with another code.
    #[track_caller]
    pub fn assert_code(&self, code: u8) -> &Self {
        assert_eq!(self.code, Some(i32::from(code)), "{self:#?}");
        self
    }

    /// # Panics
    ///
    /// Where it said nothing of `text`.
    #[track_caller]
    pub fn assert_says(&self, text: &str) -> &Self {
        assert!(self.text().contains(text), "nothing of {text:?} in {self:#?}");
        self
    }
}

/// A command that runs.
pub struct Running {
    child: OwnedChild,
    readers: [std::thread::JoinHandle<String>; 2],
}

impl Running {
    /// Starts `handover ARGUMENTS`.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = OwnedChild::spawn(command);
        let out = child.inner().stdout.take().expect("a pipe");
        let err = child.inner().stderr.take().expect("a pipe");
        Self { child, readers: [read_all(out), read_all(err)] }
    }

    /// Its process.
    pub fn child(&mut self) -> &mut OwnedChild {
        &mut self.child
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(self) -> Output {
        self.finish_before(deadline())
    }

    /// Waits for its end, longer than usual.
    #[track_caller]
    pub fn finish_before(mut self, deadline: Instant) -> Output {
        let status = self.child.wait(deadline);
        assert!(status.is_some(), "a command did not end in time");
        let [stdout, stderr] = self.readers.map(|reader| reader.join().expect("no reader panics"));
        Output { code: status.and_then(|status| status.code()), stdout, stderr }
    }
}

fn read_all(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// `handover ARGUMENTS`, without the surroundings' variables.
pub fn command<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(handover());
    command.args(arguments);
    NOT_OURS.iter().for_each(|key| {
        command.env_remove(key);
    });
    command
}

/// A daemon that runs.
pub struct Daemon {
    child: OwnedChild,
    /// Its log.
    pub log: Log,
    socket: PathBuf,
    mark: String,
    _scratch: Scratch,
}

impl Daemon {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_running()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        match self.child.wait(deadline()) {
            Some(status) => status,
            None => panic!("the daemon did not end; its log:\n{}", self.log.text()),
        }
    }

    /// Asks it to end, waits for that, and checks that it and all that it started are gone.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "the daemon ended badly; its log:\n{}", self.log.text());
        self.assert_nothing_left();
    }

    /// # Panics
    ///
    /// Where a process that it started still lives.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        super::eventually("no process of the daemon is left", || self.processes().is_empty().then_some(()));
    }

    /// The pids of it and of all that it started.
    pub fn processes(&self) -> Vec<u32> {
        proc::marked(&self.mark)
    }

    /// Begins `handover COMMAND… --socket ITS_SOCKET`.
    pub fn begin(&self, words: &[&str]) -> Running {
        Running::start(command(words).arg("--socket").arg(&self.socket))
    }

    /// Runs `handover COMMAND… --socket ITS_SOCKET`, executed by `wrapper`.
    #[track_caller]
    pub fn cli_under(&self, wrapper: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(handover()).args(words).arg("--socket").arg(&self.socket);
        Running::start(&mut command).finish()
    }

    /// Runs `handover COMMAND… --socket ITS_SOCKET`.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> Output {
        self.begin(words).finish()
    }

    /// What happens from now on.
    #[track_caller]
    pub fn events(&self) -> Events {
        Events::open(&self.socket)
    }

    /// Waits until each slot has a ready worker, and no worker is on its way to its end. A rollout is done when the old workers are
    /// asked to end; one that has not noticed yet still answers.
    #[track_caller]
    pub fn settle(&self) {
        let events = self.events();
        loop {
            // What happens after this is not in the status, or makes it worth another look.
            let next = events.len();
            if self.status().is_settled() {
                return events.close();
            }
            events.wait_from(next, "a worker that is ready or gone", |event| {
                matches!(event.what, What::WorkerReady { .. } | What::WorkerGone(_) | What::Lost { .. })
            });
        }
    }

    /// What it says of itself.
    #[track_caller]
    pub fn status(&self) -> Status {
        let output = self.cli(&["status", "--json"]);
        output.assert_code(0);
        match serde_json::from_str(&output.stdout) {
            Ok(value) => Status(value),
            Err(error) => panic!("status --json: {error}: {output:#?}"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.is_running() {
                let output = command(["status", "--socket"]).arg(&self.socket).output();
                let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                eprintln!("--- status of the daemon:\n{}", text.unwrap_or_default());
            }
            eprintln!("--- log of the daemon:\n{}---", self.log.text());
        }
        self.child.signal(libc::SIGKILL);
        proc::end_marked(&self.mark);
    }
}

//! The processes of these tests. Each ends with its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a client waits. Far above what is expected.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program of `examples`.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

/// Whether something is absent, which is said; where nothing may be skipped it is a failure.
pub fn skipped(what: &str, absent: bool) -> bool {
    if absent {
        assert!(std::env::var_os("HANDOVER_TEST_ALL").is_none_or(|all| all != "1"), "{what} is not there");
        let _ = writeln!(std::io::stderr(), "skipped: {what} (not there)");
    }
    absent
}

/// A client that does not wait for ever.
pub fn connect(address: &str) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// What `find` finds, tried again and again: for programs that do not say when they are there.
pub fn until<T>(mut find: impl FnMut() -> Option<T>) -> T {
    for _ in 0..10_000_000 {
        if let Some(found) = find() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("nothing was found");
}

/// A process that ends with its test.
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command; its standard output is read line by line.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, output }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line of output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended");
        line.trim_end().to_owned()
    }

    /// Its next line of output that has this text.
    #[track_caller]
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends `SIGTERM`.
    pub fn terminate(&self) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), Signal::SIGTERM).unwrap();
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        // A full pipe must not hold it up.
        let mut rest = Vec::new();
        let _ = self.output.read_to_end(&mut rest);
        self.child.wait().unwrap()
    }

    /// Waits for its end, which must be a success.
    #[track_caller]
    pub fn ends_well(&mut self) {
        let status = self.ends();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

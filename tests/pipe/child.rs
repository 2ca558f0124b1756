//! Other processes: this binary again with one part to play, python3, or an example. Each ends with its test.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use handover::pipe::{Item, Receiver, Sender, Unsent, pair};

use crate::connection;

/// Names the part that a child plays.
const PART: &str = "HANDOVER_TEST_PIPE";

/// A process that ends with its test.
pub struct Child {
    process: std::process::Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a command.
    pub fn of(mut command: Command) -> Self {
        let mut process = command.spawn().expect("it can be started");
        // It has the other end of a pipe, whose end is waited for.
        drop(command);
        let output = process.stdout.take().map(BufReader::new);
        Self { process, output }
    }

    fn command(part: &str, before: &str) -> Command {
        let test = std::env::current_exe().expect("this program");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{before} \"$0\" --exact child::plays_its_part --nocapture")]);
        command.arg(test).env(PART, part);
        command.stdout(Stdio::piped());
        command
    }

    /// This binary in a part; `before` are words of the shell before its name, at least `exec`.
    pub fn run(part: &str, before: &str) -> Self {
        Self::of(Self::command(part, before))
    }

    /// As [`Self::run`], with one end of a socket pair as its standard input; the other one is given.
    pub fn with_pipe(part: &str, before: &str) -> (UnixStream, Self) {
        let (here, there) = UnixStream::pair().unwrap();
        let mut command = Self::command(part, before);
        command.stdin(Stdio::from(OwnedFd::from(there)));
        let child = Self::of(command);
        (here, child)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its next line of output that is not the test harness's.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let output = self.output.as_mut().expect("its output is ours");
        loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim_end().to_owned();
            }
        }
    }

    /// Waits until it says this.
    #[track_caller]
    pub fn says(&mut self, expected: &str) {
        assert_eq!(self.line(), expected);
    }

    /// The first line of a program that is not this one.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().expect("its output is ours").read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for its end, which must be a success.
    #[track_caller]
    pub fn ends_well(&mut self) {
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program of docs/pipes.md with this word at its fence.
pub fn page(word: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pipes.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (_, program) = page.split_once(&format!("```python {word}\n")).expect("a block with this word");
    program.split_once("\n```").expect("its end").0.to_owned()
}

/// The interpreter; `None` where there is none, which is said.
pub fn python() -> Option<Command> {
    let path = "/usr/bin/python3";
    if Path::new(path).exists() {
        return Some(Command::new(path));
    }
    assert!(std::env::var_os("HANDOVER_TEST_ALL").is_none_or(|all| all != "1"), "python3 is not installed");
    let _ = writeln!(std::io::stderr(), "skipped: python3 (not installed)");
    None
}

/// Says a line to the test.
fn say(line: &str) {
    println!("\n> {line}");
}

/// The socket that a child has as its standard input.
fn socket() -> UnixStream {
    use std::os::fd::AsFd;
    std::io::stdin().as_fd().try_clone_to_owned().unwrap().into()
}

/// What this binary does where it was started as a child; else nothing.
#[test]
fn plays_its_part() {
    match std::env::var(PART).as_deref() {
        Ok("serve") => serve(),
        Ok("take_one_and_wait") => take_one_and_wait(),
        Ok("count_fds") => count_fds(),
        Ok("lose_fds") => lose_fds(),
        Ok("too_many_in_flight") => too_many_in_flight(),
        Ok(part) => panic!("no part: {part}"),
        Err(_) => {}
    }
}

fn serve() {
    for item in Receiver::<u32>::new(socket()) {
        let (number, mut connection): (u32, TcpStream) = item.unwrap().into_tcp_stream().unwrap();
        write!(connection, "{number} by {}", std::process::id()).unwrap();
    }
}

fn take_one_and_wait() {
    let mut receiver = Receiver::<u32>::new(socket());
    let _first = receiver.recv().unwrap().unwrap();
    say("one");
    // For ever: nothing is sent here.
    let (_writer, mut reader) = UnixStream::pair().unwrap();
    let _ = std::io::Read::read(&mut reader, &mut [0]);
}

/// Takes items until fds are lost, and says what came of it.
fn lose_fds() {
    let mut receiver = Receiver::<usize>::new(socket());
    let mut taken = Vec::new();
    let error = loop {
        match receiver.recv() {
            Ok(item) => taken.push(item.expect("it does not end well")),
            Err(error) => break error,
        }
    };
    for (number, item) in taken.iter().enumerate() {
        assert_eq!((item.data, item.fds.len()), (number, 2), "a whole item, and no fd of another");
    }
    say(&taken.len().to_string());
    say(error.to_string().lines().next().unwrap_or_default());
    assert!(receiver.recv().unwrap().is_none());
}

/// Sends while nobody receives, until the kernel has too much; then on, when somebody does.
fn too_many_in_flight() {
    let mut sender = Sender::<usize>::new(socket());
    let (mut other, _other_receiver) = pair::<usize>().unwrap();
    let (connection, _client) = connection();
    let item = |number| {
        let fd = || connection.try_clone().unwrap().into();
        Item { data: number, fds: vec![fd(), fd(), fd(), fd()] }
    };
    let mut elsewhere = Some(item(0));
    let mut items: VecDeque<_> = (0..60).map(item).collect();
    // A sender's copies count in its limit, too: only one that is lowered later is met.
    let pid = std::process::id().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=100:2000"]).status();
    assert!(lowered.unwrap().success());
    let mut sent = 0;
    let refused = loop {
        match sender.try_send(items.pop_front().unwrap()) {
            Ok(_) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused.why, Unsent::WouldBlock), "{refused}");
    assert!((20..40).contains(&sent), "credits are not what was short: {sent}");
    items.push_front(refused.item);
    let refused = other.try_send(elsewhere.take().unwrap()).unwrap_err();
    assert!(matches!(refused.why, Unsent::FdsInFlight), "{refused}");
    say("full");
    sender.send_all(&mut items).unwrap();
    sender.settle().unwrap();
}

/// How many fds this process has.
fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn count_fds() {
    let (connection, _client) = connection();
    let item = |number: u32| Item::with_fd(number, connection.try_clone().unwrap());
    let before = fds();
    for round in 0..50 {
        // All is taken.
        let (mut sender, mut receiver) = pair::<u32>().unwrap();
        for number in 0..20 {
            sender.send(item(number)).unwrap();
            receiver.recv().unwrap().unwrap();
        }
        sender.settle().unwrap();
        assert_eq!(fds(), before + 2, "round {round}: the two ends alone");
        // The receiver goes; the sender goes; the sender takes back; neither does anything.
        sender.send(item(20)).unwrap();
        drop(receiver);
        drop(sender);
        let (mut sender, mut receiver) = pair::<u32>().unwrap();
        sender.send(item(0)).unwrap();
        sender.send(item(1)).unwrap();
        receiver.recv().unwrap().unwrap();
        assert_eq!(sender.into_untaken().len(), 1);
        assert!(receiver.recv().unwrap().is_none());
        drop(receiver);
        // What is said is wrong, on either side.
        let (here, there) = UnixStream::pair().unwrap();
        let mut receiver = Receiver::<u32>::new(here);
        (&there).write_all(b"{\"type\":\"hello\",\"version\":1}\nx\n").unwrap();
        receiver.recv().unwrap_err();
        drop((receiver, there));
        let (here, there) = UnixStream::pair().unwrap();
        let mut sender = Sender::new(here);
        let mut receiver = Receiver::<String>::new(there);
        sender.send(item(0)).unwrap();
        receiver.recv().unwrap_err();
        drop((sender, receiver));
        assert_eq!(fds(), before, "round {round}");
    }
}

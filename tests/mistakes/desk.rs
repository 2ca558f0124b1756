//! Somebody's desk: a directory, a shell in it, and what was typed and came back.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::child::OwnedChild;
use crate::support::daemon::{self, Running};
use crate::support::machine::AS_NOBODY;
use crate::support::scratch::{Address, Scratch};
use crate::support::{eventually, handover};

/// Where the transcripts are.
pub fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mistakes")
}

/// A directory with files, in which commands are typed.
pub struct Desk {
    scratch: Scratch,
    address: SocketAddr,
    transcript: Vec<String>,
    nobody: bool,
    daemons: Vec<OwnedChild>,
}

impl Desk {
    pub fn new() -> Self {
        let Address::Tcp(address) = Address::tcp() else { panic!("tcp() gives a TCP address") };
        let scratch = Scratch::new();
        Self { scratch, address, transcript: Vec::new(), nobody: false, daemons: Vec::new() }
    }

    /// Commands are those of a user without rights, who has a runtime directory.
    pub fn without_rights(mut self) -> Self {
        let own = self.path("xdg");
        fs::create_dir(&own).expect("our directory");
        std::os::unix::fs::chown(&own, Some(65534), Some(65534)).expect("we are root");
        self.nobody = true;
        self
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Writes a file; `/srv/myapp` and `127.0.0.1:8080` in it become ours.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        match std::str::from_utf8(text) {
            Ok(text) => self.scratch.write(name, self.here(text)),
            Err(_) => self.scratch.write(name, text),
        };
    }

    fn here(&self, text: &str) -> String {
        let text = text.replace("127.0.0.1:8080", &self.address.to_string());
        let text = text.replace("127.0.0.1:80\"", &format!("{}:80\"", self.address.ip()));
        text.replace("/srv/myapp", &self.scratch.path().display().to_string())
    }

    /// What was seen here, as it would look elsewhere.
    fn there(&self, text: &str) -> String {
        // The test itself, as the system calls it.
        let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
        let text = text.replace(&format!("in use by {} ", own.trim()), "in use by nginx ");
        let text = text.replace(&self.path("xdg").display().to_string(), "/run/user/1000");
        let text = text.replace(&self.scratch.path().display().to_string(), "/srv/myapp");
        let text = text.replace(&self.address.to_string(), "127.0.0.1:8080");
        let text = text.replace(&self.address.ip().to_string(), "127.0.0.1");
        ["pid ", " pid=", "restart_in_ms=", "web/0["].iter().fold(text, |text, mark| after(&text, mark))
    }

    /// Shows a file in the transcript.
    pub fn show(&mut self, name: &str) {
        let text = fs::read_to_string(self.path(name)).expect("our file");
        let text = self.there(&text);
        self.transcript.push(format!("$ cat {name}\n{text}"));
    }

    pub fn note(&mut self, text: &str) {
        self.transcript.push(format!("{text}\n"));
    }

    /// The daemon is to end after the first failure, and to log for people.
    pub fn give_up_at_once(&self, name: &str) {
        let text = fs::read_to_string(self.path(name)).expect("our file");
        self.write(
            name,
            format!("{text}\n[pool.web.restart]\nburst = 1\n\n[log]\nformat = \"human\"\nlevel = \"warn\"\n"),
        );
    }

    fn command(&self, words: &[&str]) -> Command {
        let words: Vec<String> = words.iter().map(|word| self.here(word)).collect();
        let mut command = if self.nobody {
            let program = handover().display().to_string();
            let wrapped = AS_NOBODY[1..].iter().map(|word| (*word).to_owned()).chain([program]).chain(words);
            let mut command = Command::new(AS_NOBODY[0]);
            command.args(wrapped);
            command
                .env("XDG_RUNTIME_DIR", self.path("xdg"))
                .env_remove("RUNTIME_DIRECTORY")
                .env_remove("NOTIFY_SOCKET");
            command
        } else {
            fs::create_dir_all(self.path("run")).expect("our directory");
            let mut command = daemon::command(words);
            command.env("RUNTIME_DIRECTORY", self.path("run"));
            command
        };
        command.current_dir(self.scratch.path()).env("PATH", "/usr/bin:/bin");
        command
    }

    /// Types a command; gives what it said.
    pub fn type_in(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let output = Running::start(&mut self.command(&words)).finish();
        let said = self.there(&output.text());
        let said: String = said.lines().map(|line| format!("{}\n", without_time(line))).collect();
        let code = output.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.transcript.push(format!("$ {line}\n{said}# exit code {code}\n"));
        said
    }

    pub fn forget_last(&mut self) {
        self.transcript.pop();
    }

    /// Starts the daemon of `NAME.toml`.
    pub fn start(&mut self, name: &str) {
        let mut command = self.command(&["run", &format!("{name}.toml")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(OwnedChild::spawn(&mut command));
        eventually("the daemon serves", || {
            let words = if self.nobody { vec!["status", "--name", name] } else { vec!["status"] };
            let status = Running::start(&mut self.command(&words)).finish();
            status.stdout.contains("1 of 1 workers ready").then_some(())
        });
    }

    /// Compares the transcript with the golden file.
    #[track_caller]
    pub fn compare(&mut self, name: &str) {
        let actual = std::mem::take(&mut self.transcript).join("\n");
        let path = golden_directory().join(format!("{name}.txt"));
        if std::env::var_os("HANDOVER_BLESS").is_some() {
            fs::write(&path, &actual).expect("our file");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(expected == actual, "{name} differs\n--- expected\n{expected}--- actual\n{actual}");
    }
}

/// The number after `mark` as a word.
fn after(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        out += mark;
        out += if rest.len() < part.len() { "N" } else { "" };
        out += rest;
    }
    out
}

/// A line of the log without its time.
fn without_time(line: &str) -> &str {
    match line.split_once("Z ") {
        Some((time, rest)) if time.starts_with("20") && time.contains('T') => rest.trim_start(),
        _ => line,
    }
}

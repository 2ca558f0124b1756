//! Somebody who reads a page from top to bottom and does what it says, in a scratch directory.
//!
//! A block `… file=PATH` is written to that path, ```` ```sh daemon ```` is started, and each command of a ```` ```console ```` is
//! carried out and its output compared; numbers may differ. `/srv/myapp` stands for the scratch directory and
//! `127.0.0.1:8080` for an address of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::blocks::{Block, blocks, page, root};
use super::support::child::{OwnedChild, settle};
use super::support::scratch::{Address, Scratch};
use super::support::{deadline, eventually, handover};

/// A reader who tries everything.
pub struct Reader {
    scratch: Scratch,
    address: String,
    daemon: Option<OwnedChild>,
}

impl Reader {
    pub fn new() -> Self {
        let Address::Tcp(address) = Address::tcp() else { panic!("tcp() gives a TCP address") };
        let scratch = Scratch::new();
        fs::create_dir(scratch.join("run")).expect("our directory");
        Self { scratch, address: address.to_string(), daemon: None }
    }

    /// Reads a page, and does what it says.
    pub fn read(mut self, path: &str) {
        let page = page(path);
        let blocks = blocks(&page);
        assert!(blocks.iter().filter(|block| block.words == ["console"]).count() >= 4, "{path}");
        for block in &blocks {
            self.take(block);
        }
        self.stop();
    }

    fn take(&mut self, block: &Block) {
        match block.words()[..] {
            ["sh", "daemon"] => self.start(&block.text),
            ["sh", "install"] => self.install(&block.text),
            ["console"] => self.try_out(&block.text),
            // For a machine with systemd: tests/systemd walks there.
            ["console", "systemd", ..] => {}
            [_, file] if file.starts_with("file=") => self.write(&file["file=".len()..], &block.text),
            ref words => panic!("a block that nobody tries: {words:?}\n{}", block.text),
        }
    }

    /// A text of the page as it is here.
    fn here(&self, text: &str) -> String {
        let directory = self.scratch.path().display().to_string();
        text.replace("/srv/myapp", &directory).replace("127.0.0.1:8080", &self.address)
    }

    /// What was seen here, as the page would write it.
    pub fn there(&self, text: &str) -> String {
        let directory = self.scratch.path().display().to_string();
        text.replace(&directory, "/srv/myapp").replace(&self.address, "127.0.0.1:8080")
    }

    /// The same where columns are to stay below each other.
    pub fn there_in_columns(&self, text: &str) -> String {
        let address = format!("{:width$}", "127.0.0.1:8080", width = self.address.len());
        self.there(&text.replace(&self.address, &address))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.scratch.join(path);
        fs::create_dir_all(path.parent().expect("a file in a directory")).expect("our directory");
        fs::write(path, self.here(text)).expect("our file");
    }

    /// Makes a FIFO, and gives its path here.
    pub fn fifo(&self, path: &str) -> PathBuf {
        let path = self.scratch.join(path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("our directory");
        path
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = self.plain_shell();
        shell.args(["-c", &format!("exec 2>&1; {}", self.here(command))]);
        shell.stdin(Stdio::null());
        shell
    }

    fn plain_shell(&self) -> Command {
        let mut shell = Command::new("bash");
        settle(&mut shell, false);
        let mut path = handover().parent().expect("it lies in a directory").as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        shell.env("PATH", path);
        shell.env("RUNTIME_DIRECTORY", self.scratch.join("run")).env_remove("NOTIFY_SOCKET");
        shell.current_dir(self.scratch.path());
        shell
    }

    /// The same for a command that is to have a terminal.
    pub fn shell_for_terminal(&self, command: &str) -> Command {
        let mut shell = self.plain_shell();
        shell.args(["-c", &self.here(command)]);
        shell
    }

    /// Ends the daemon without waiting for what its workers have in hand.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal(libc::SIGQUIT);
            assert!(daemon.wait(deadline()).is_some(), "it does not end");
        }
    }

    fn run(&self, command: &str) -> String {
        let output = self.shell(command).output().expect("bash is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a daemon, in place of the one before.
    pub fn start(&mut self, command: &str) {
        self.stop();
        let command = command.trim().replace("cargo run --release -- ", "handover ");
        let demo = if command.ends_with("demo") { " --listen 127.0.0.1:8080" } else { "" };
        let log = fs::File::create(self.scratch.join("log")).expect("our file");
        let mut shell = self.shell(&format!("exec {command}{demo}"));
        self.daemon = Some(OwnedChild::spawn(shell.stdout(log)));
        eventually(&format!("{command} is ready"), || {
            let status = self.run("handover status --json");
            status.contains("\"ready\":true,\"fine\":true").then_some(())
        });
    }

    fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        daemon.signal(libc::SIGTERM);
        let status = daemon.wait(deadline());
        assert!(status.is_some_and(|status| status.success()), "it ended badly: {status:?}");
    }

    /// Carries out commands at the top of the checkout. What they build is built as tests are, with crates that were fetched before.
    fn install(&self, commands: &str) {
        let commands = commands.replace("cargo install ", "cargo install --quiet --debug --offline ");
        let target = handover().parent().and_then(Path::parent).expect("a target directory");
        let mut shell = self.shell(&format!("set -e; {commands}"));
        let output =
            shell.current_dir(root()).env("CARGO_TARGET_DIR", target).output().expect("bash is there");
        assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stdout));
        // What it copied has the places of the page.
        for entry in fs::read_dir(self.scratch.path()).expect("our directory").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(entry.path()).expect("our file");
                fs::write(entry.path(), self.here(&text)).expect("our file");
            }
        }
    }

    /// Carries out each command of a block, and compares what it says.
    fn try_out(&self, block: &str) {
        for step in block.split("$ ").filter(|step| !step.is_empty()) {
            let (command, wanted) = step.split_once('\n').expect("lines end");
            let said = self.there(&self.run(command));
            assert_eq!(rough(&said), rough(wanted), "\n$ {command}\n{said}");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log:\n{}", fs::read_to_string(self.scratch.join("log")).unwrap_or_default());
        }
    }
}

/// A text in which a number is as good as another, and a space as many.
fn rough(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().map(rough_word).collect::<Vec<_>>().join(" ")).collect()
}

fn rough_word(word: &str) -> String {
    let mut rough = String::new();
    for part in word.replace("127.0.0.1", "HOST").split_inclusive(|c: char| !c.is_ascii_digit() && c != '.') {
        let letters = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if letters.len() < part.len() {
            rough.push('#');
        }
        rough.push_str(letters);
    }
    // Times have a unit that depends on their size.
    if rough == "#ms" { "#s".to_owned() } else { rough }
}

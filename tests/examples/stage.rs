//! A service with its configuration, installed in a scratch directory.
//!
//! Only places change: `/srv/myapp` becomes the scratch directory, `127.0.0.1:8080` an address of the test. All else is what users get.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::program::{built, source};
use crate::support::daemon::{Daemon, Setup};
use crate::support::manager::NotifySocket;
use crate::support::scratch::{Address, Scratch};

/// Says that it is over, also where a test fails: else its threads, which are waited for, went on.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A service that is installed.
pub struct Stage {
    /// Its directory.
    pub scratch: Scratch,
    /// Where it listens.
    pub address: Address,
    name: String,
    manager: NotifySocket,
}

impl Stage {
    /// Installs it with these files; `None` where it cannot be built here, which has been said.
    #[track_caller]
    pub fn new(name: &str, files: &[&str]) -> Option<Self> {
        built()?;
        let scratch = Scratch::new();
        let manager = NotifySocket::new(&scratch);
        let stage = Self { address: Address::tcp(), manager, name: name.to_owned(), scratch };
        fs::create_dir(stage.scratch.join("bin")).expect("our directory");
        stage.install();
        let toml = format!("{name}.toml");
        for file in files.iter().copied().chain([&*toml]) {
            let text = fs::read_to_string(source().join(file)).expect("a file of the service");
            stage.scratch.write(file, stage.placed(&text));
        }
        Some(stage)
    }

    /// Puts the program there, in the place of the one before: as `cargo install` does it, a new file under the old name.
    pub fn install(&self) {
        let from = built().expect("seen before").join(&self.name);
        let (to, draft) = (self.program(), self.scratch.join("bin/draft"));
        // By another process: a child that another test forks meanwhile has what we have open for writing until it executes, and
        // what somebody has open for writing cannot be executed (ETXTBSY, execve(2)).
        let copied = Command::new("cp").args([&from, &draft]).status().expect("coreutils");
        assert!(copied.success(), "{}: {copied}", draft.display());
        fs::rename(draft, to).expect("our directory");
    }

    /// The program.
    pub fn program(&self) -> std::path::PathBuf {
        self.scratch.join("bin").join(&self.name)
    }

    fn placed(&self, text: &str) -> String {
        let directory = self.scratch.path().display().to_string();
        text.replace("/srv/myapp", &directory).replace("127.0.0.1:8080", &self.host())
    }

    /// Its address as a client writes it.
    pub fn host(&self) -> String {
        let Address::Tcp(address) = &self.address else { panic!("tcp() gives a TCP address") };
        address.to_string()
    }

    /// Replaces `from` in a file.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.scratch.join(file)).expect("our file");
        assert!(text.contains(from), "no {from} in:\n{text}");
        self.scratch.write(file, text.replace(from, to));
    }

    /// Starts it under handover, and waits until it is ready.
    #[track_caller]
    pub fn start(&self) -> Daemon {
        let file: &Path = &self.scratch.join(&format!("{}.toml", self.name));
        let daemon = Setup::new(&self.scratch, [file]).env("NOTIFY_SOCKET", self.manager.path()).start();
        self.manager.wait_for("READY=1");
        daemon
    }
}

//! A program of `tests/real` and its example configuration, set up in a scratch directory.
//!
//! Of the example only the places change: `/srv/myapp` becomes the scratch directory, `0.0.0.0:8080` an address of
//! the test. All else is what users get.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::client;
use crate::support::daemon::{Daemon, Setup};
use crate::support::load::{Load, Running};
use crate::support::manager::NotifySocket;
use crate::support::scratch::{Address, Scratch};

/// How to execute gunicorn, as words of a TOML array: `$HANDOVER_GUNICORN`, or that of `python3`.
pub fn gunicorn() -> Option<String> {
    if let Some(path) = std::env::var_os("HANDOVER_GUNICORN") {
        return Path::new(&path).exists().then(|| format!("\"{}\"", path.to_string_lossy()));
    }
    let python = crate::support::machine::find("python3")?;
    let probe = Command::new(&python)
        .args(["-m", "gunicorn", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success()).then(|| format!("\"{python}\", \"-m\", \"gunicorn\""))
}

/// A program and its configuration.
pub struct Stage {
    /// Its directory.
    pub scratch: Scratch,
    /// Where it listens.
    pub address: Address,
    /// What the daemon says to systemd.
    pub manager: NotifySocket,
}

impl Stage {
    /// Takes `example` from `config/examples` and `files` from `tests/real`.
    pub fn new(example: &str, files: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scratch = Scratch::new();
        let stage = Self { address: Address::tcp(), manager: NotifySocket::new(&scratch), scratch };
        let sources = files.iter().map(|file| (*file, root.join("tests/real").join(file)));
        for (name, from) in sources.chain([("c.toml", root.join("config/examples").join(example))]) {
            let text =
                std::fs::read_to_string(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            stage.scratch.write_program(name, &stage.placed(&text));
        }
        stage
    }

    fn placed(&self, text: &str) -> String {
        let Address::Tcp(to) = self.address else { panic!("tcp() gives a TCP address") };
        let directory = self.scratch.path().display().to_string();
        text.replace("/srv/myapp", &directory).replace("0.0.0.0:8080", &to.to_string())
    }

    /// Replaces `from` in the configuration, given as it stands in the example.
    #[track_caller]
    pub fn replace(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.scratch.join("c.toml")).expect("our file");
        let from = self.placed(from);
        assert!(text.contains(&from), "no {from} in:\n{text}");
        self.scratch.write("c.toml", text.replace(&from, to));
    }

    /// Makes version `to` of version `from` of a program.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.scratch.join(file)).expect("our file");
        let mut edited = text.clone();
        for form in ["VERSION = '#'", "VERSION = \"#\"", "VERSION=#\n", "version=#\\n"] {
            edited = edited.replace(&form.replace('#', from), &form.replace('#', to));
        }
        assert_ne!(edited, text, "no version {from} in:\n{text}");
        self.scratch.write_program(file, &edited);
    }

    /// Starts it.
    pub fn start(&self) -> Daemon {
        Setup::new(&self.scratch, [self.scratch.join("c.toml")])
            .env("NOTIFY_SOCKET", self.manager.path())
            .start()
    }

    /// New connections at a fixed rate, and in a closed loop.
    pub fn load(&self) -> (Running, Running) {
        (Load::open(&self.address, 150).start(), Load::closed(&self.address, 2).start())
    }

    /// The version that answers.
    #[track_caller]
    pub fn version(&self) -> String {
        client::get(&self.address, "/").expect("an answer").version()
    }

    /// Ends it, and checks that nothing is left.
    #[track_caller]
    pub fn finish(&self, mut daemon: Daemon) {
        daemon.stop();
    }
}

//! The package of the services, built; and a service without handover.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::OnceLock;

use crate::support::child::OwnedChild;
use crate::support::machine::skipped;
use crate::support::{deadline, handover};

/// Where the sources are.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/services")
}

/// The directory with the built services; `None`, which has been said, where that is not possible here.
///
/// # Panics
/// Where they do not compile.
#[track_caller]
pub fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let profile = handover().parent().expect("it lies in a directory");
        let target = profile.parent().expect("it lies in the target directory");
        let cargo = |words: &[&str]| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(words).args(["--quiet", "--locked"]).current_dir(source());
            cargo.env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
            cargo.output()
        };
        if !cargo(&["fetch"]).is_ok_and(|output| output.status.success()) {
            return None;
        }
        // With what was fetched, so that a failure is one of the services.
        let output = cargo(&["build", "--bins", "--offline"]).expect("cargo is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(target.join("debug"))
    });
    skipped("the crates of examples/services", built.is_none());
    built.as_deref()
}

/// A service that runs without handover.
pub struct Alone {
    child: OwnedChild,
    log: BufReader<ChildStderr>,
}

impl Alone {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = OwnedChild::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
        let log = BufReader::new(child.inner().stderr.take().expect("a pipe"));
        Self { child, log }
    }

    /// Waits for a line of its log with this text.
    #[track_caller]
    pub fn says(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).expect("a pipe") > 0, "nothing of {text:?} in:\n{all}");
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
        }
    }

    /// Asks it to end, which it does with 0.
    #[track_caller]
    pub fn ends_well(mut self) {
        self.child.signal(libc::SIGTERM);
        self.says("finished");
        let status = self.child.wait(deadline());
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

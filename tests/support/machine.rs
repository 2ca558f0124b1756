//! What this machine allows: programs that it has, and things that a sandbox may forbid. A test that cannot be done here is
//! skipped and counted, never passed in silence.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::handover;

/// A user without any right, as words to execute a command with.
pub const AS_NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

/// Skips of this test program.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that something is skipped, where it is `absent`, and returns that.
///
/// # Panics
///
/// Where nothing may be skipped (`HANDOVER_TEST_ALL=1`).
#[track_caller]
pub fn skipped(what: &str, absent: bool) -> bool {
    if absent {
        let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
        assert!(!all, "{what}: not on this machine");
        // Not `eprintln`, which is swallowed where a test passes.
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let _ = writeln!(std::io::stderr(), "skipped: {what} (not on this machine), {count} so far");
    }
    absent
}

/// Whether a command can be executed here and succeeds.
pub fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether tests can become another user who can execute the daemon; says so where not.
#[track_caller]
pub fn cannot_be_nobody() -> bool {
    let program = handover().display().to_string();
    let words: Vec<&str> = AS_NOBODY.into_iter().chain([program.as_str(), "--version"]).collect();
    skipped("another user", !succeeds(&words))
}

/// A program of the system, which other users can run, too, or else one in `PATH`. A shim that picks one of several versions is resolved to the program itself.
pub fn find(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let candidates = [PathBuf::from("/usr/bin")].into_iter().chain(std::env::split_paths(&path));
    let is_shim = |path: &Path| path.components().any(|part| part.as_os_str() == "shims");
    let mut found =
        candidates.map(|directory| directory.join(program)).filter(|path| path.exists() && !is_shim(path));
    found.next().map(|path| path.display().to_string())
}

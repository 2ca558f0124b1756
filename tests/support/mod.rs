//! What the process tests stand on: a real daemon that is owned by the test, a stand-in for systemd, workers
//! that report what happens to them, and clients that count what they get.
//!
//! Rules: one scratch directory a test, with a short path; an address of its own; no sleeping, but waiting on
//! an event with a deadline; and nothing outlives its test, because each process that a test causes is found
//! by a mark in its environment and ended by handle.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

pub mod child;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod events;
pub mod freezer;
pub mod gathered;
pub mod inbox;
pub mod journal;
pub mod lease;
pub mod load;
pub mod log;
pub mod machine;
pub mod manager;
pub mod proc;
pub mod reports;
pub mod scratch;
pub mod screen;
pub mod service;
pub mod status;
pub mod tally;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long any single thing may take before a test gives up. Far above what is expected, so that a loaded
/// machine fails no test; a test that never waits this long never notices it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// When patience ends.
pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// What is left until `deadline`; at least a millisecond, since zero means "for ever" to sockets.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Asks again and again until there is an answer. Only for facts that no event tells (what `/proc` shows).
///
/// # Panics
///
/// Where there is none before patience ends.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = deadline();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The daemon's binary.
pub fn handover() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_handover"))
}

/// The worker of these tests; built by `cargo test`, beside the test programs, but not by `cargo test --test …`.
///
/// # Panics
///
/// Where it is not built, or its source is newer.
pub fn scripted_worker() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = handover().with_file_name("examples").join("scripted_worker");
        let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripted_worker"));
        let sources = std::fs::read_dir(sources).into_iter().flatten().flatten();
        let newest = sources.filter_map(|source| changed(&source.path())).max();
        let fresh = changed(&program).is_some_and(|built| newest.is_none_or(|newest| newest <= built));
        assert!(fresh, "{} is not built: run `cargo build --examples` first", program.display());
        program
    });
    program.clone()
}

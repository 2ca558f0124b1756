//! What handover promises under systemd, tried on real ones: Debian 12 and 13 are booted in containers, the package is installed
//! there, and the cases run inside, with a load client on the machine's own network.
//!
//! One boot for each Debian; every case has a service of its own, so most of them run beside each other. Cases that change what all
//! share (the installed package, the journal) run one after the other. `HANDOVER_TEST_CASE=NAME` runs only the cases whose name
//! contains NAME. The machine's own root is never touched.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

mod ability;
mod booted;
mod cases;
mod container;
mod package;
mod roots;
mod rpm;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod walk;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use booted::Machine;
use cases::Case;
use package::Packages;

/// Cases that run at the same time on one machine.
const AT_ONCE: usize = 4;

/// Boots a Debian and runs all cases on it.
fn lab(name: &str, release: &str, systemd: u32) {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    if ability::is_absent() {
        return;
    }
    let root = roots::debian(release);
    let machine = Machine::boot(name, &root, PACKAGES.get_or_init(Packages::make));
    assert_eq!(machine.systemd, systemd, "Debian {release}");
    let wanted = std::env::var("HANDOVER_TEST_CASE").unwrap_or_default();
    let failed = Mutex::new(Vec::new());
    let run = |case: &Case| {
        let passed = run(&machine, case);
        if !passed {
            failed.lock().expect("no case panics in here").push(case.name);
        }
    };
    // What all others need comes first.
    run(&cases::FIRST);
    let cases = cases::all().filter(|case| case.name.contains(&wanted));
    let (alone, mut together): (Vec<&Case>, Vec<&Case>) = cases.partition(|case| case.alone);
    together.reverse();
    let queue = Mutex::new(together);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().expect("no case panics in here").pop() else { return };
                    run(case);
                }
            });
        }
    });
    alone.into_iter().for_each(run);
    let failed = failed.into_inner().expect("no case panics in here");
    assert!(failed.is_empty(), "on systemd {systemd} failed: {failed:?}\n{}", machine.console());
}

/// Runs a case in a thread of its own, which enters the machine's network.
fn run(machine: &Machine, case: &Case) -> bool {
    let began = Instant::now();
    let passed = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            machine.enter_network();
            catch_unwind(AssertUnwindSafe(|| (case.run)(machine))).is_ok()
        });
        thread.join().is_ok_and(|passed| passed)
    });
    let (word, name, systemd) = (if passed { "ok" } else { "FAILED" }, case.name, machine.systemd);
    // Not `println`, which is swallowed where a test passes.
    let _ = writeln!(std::io::stderr(), "systemd {systemd}: {name}: {word} ({:.1?})", began.elapsed());
    passed
}

#[test]
fn debian_12() {
    lab("bookworm", "bookworm", 252);
}

#[test]
fn debian_13() {
    lab("trixie", "trixie", 257);
}

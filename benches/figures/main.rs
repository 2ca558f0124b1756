//! The figures of `docs/performance.md`: each is measured beside its baseline, in the same run, and told as a ratio with its
//! spread. One command makes them all: `cargo bench`; `cargo bench -- --help` tells the rest.
//!
//! Nothing here is a test: no time is asserted, a figure that misses its aim is told as it is. A run fails where a
//! figure cannot be made at all.
//!
//! The binary is also the measured program and the stand-in for a service manager; see `worker.rs`.

#![allow(unreachable_pub, reason = "a program")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "measured numbers are small"
)]
#![allow(clippy::cast_sign_loss, reason = "and positive")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod args;
mod crash;
mod gap;
mod kernel;
mod lasting;
mod load;
mod machine;
mod memory;
mod messages;
mod numbers;
mod peers;
mod pipe;
mod report;
mod rollout;
mod sdk;
mod stand;
mod start;
mod sys;
mod talker;
mod traffic;
mod worker;

use std::path::Path;
use std::process::{Command, ExitCode};

use args::Options;
use machine::Machine;
use report::Report;

/// A result whose error is for the person who has started this.
pub type Result<T> = std::result::Result<T, String>;

/// A figure: its name, and how it is made.
type Figure = (&'static str, fn(&Options) -> Result<Report>);

const FIGURES: [Figure; 10] = [
    ("traffic", traffic::measure),
    ("crash", crash::measure),
    ("gap", gap::measure),
    ("memory", memory::measure),
    ("start", start::measure),
    ("rollout", rollout::measure),
    ("lasting", lasting::measure),
    ("messages", messages::measure),
    ("pipe", pipe::measure),
    ("sdk", sdk::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "worker" => return worker::run(rest),
        Some((first, rest)) if first == "talker" => return talker::run(rest),
        Some((first, rest)) if first == "activate" => return worker::activate(rest),
        _ => {}
    }
    let known = FIGURES.map(|(name, _)| name);
    match Options::parse(&arguments, &known) {
        Ok(options) if options.help => {
            println!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Ok(options) => run(&options),
        Err(fault) => {
            eprintln!("figures: {fault}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    if options.install_peers
        && let Err(fault) = install_peers()
    {
        eprintln!("figures: {fault}");
        return ExitCode::FAILURE;
    }
    let mut machine = Machine::this();
    peers::versions(&mut machine);
    let mut reports = Vec::new();
    let mut failed = false;
    for (name, measure) in FIGURES.into_iter().filter(|(name, _)| options.wants(name)) {
        println!("\nmeasuring: {name}");
        let begun = sys::now();
        match measure(options) {
            Ok(report) => {
                println!("{}", report::plain(&report));
                println!("  {name} took {:.0} s", (sys::now() - begun) as f64 / 1e9);
                reports.push(report);
            }
            Err(fault) => {
                failed = true;
                println!("\nfailed: {name}: {fault}");
            }
        }
    }
    if let Err(fault) = write(options, &machine, &reports) {
        eprintln!("figures: {fault}");
        return ExitCode::FAILURE;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `cargo bench` is run in the package's directory, so relative paths are relative to that.
fn write(options: &Options, machine: &Machine, reports: &[Report]) -> Result<()> {
    let command = options.command();
    let put = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    if let Some(path) = &options.page {
        put(path, report::page(machine, &command, reports))?;
    }
    if let Some(path) = &options.json {
        put(path, format!("{:#}\n", report::json(machine, &command, reports)))?;
    }
    Ok(())
}

fn install_peers() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let status = Command::new(&script).arg(peers::target_directory()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}", script.display())),
        Err(error) => Err(format!("{}: {error}", script.display())),
    }
}

//! What a service says to people. Records go to handover with their level, target and fields where there is one, to standard error as text where not.

use std::error::Error;
use std::process::ExitCode;

use handover::worker::Worker;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Sets it up, once in a process. `LOG_LEVEL` is `error`, `warn`, `info` (the default), `debug` or `trace`.
pub fn init(worker: &Worker) {
    let level = std::env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok());
    let ours = worker.tracing_layer();
    let plain = ours.is_none().then(|| tracing_subscriber::fmt::layer().with_writer(std::io::stderr));
    let registry = tracing_subscriber::registry().with(level.unwrap_or(LevelFilter::INFO));
    registry.with(ours).with(plain).init();
}

/// The end of `main`: the reason of a failure is the last line on standard error, which `handover status` and a failed reload show.
pub fn exit(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

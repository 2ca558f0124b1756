//! A worker without sockets: it does the jobs of a spool directory, together with any number of others.
//!
//! A job is a file in `new`. Whoever renames it into its own directory has it; what it makes of it appears under the same name in `done`, whole,
//! and then the job is gone. A worker that dies leaves its directory behind, unlocked, and the next one to look puts the jobs in it back
//! into `new`. So each job is done **at least once**: the one that was in hand when its worker was killed is done again, and its result
//! replaced by an equal one.
//!
//! Told to drain, it finishes the job in hand and takes no other.

mod spool;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use handover::worker::{Pulse, Worker};
use handover_services::log;
use spool::{Job, Spool};

/// How often it looks where nothing was to be done.
const PAUSE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    log::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    // First, while there is one thread.
    let worker = Worker::options().client("queue 1.0").drain_on_signals(true).connect()?;
    log::init(&worker);
    worker.feed_watchdog()?;
    let path = PathBuf::from(std::env::var_os("SPOOL").unwrap_or_else(|| "spool".into()));
    let mut spool = Spool::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    // What a job of this example takes beside its arithmetic.
    let effort = std::env::var("EFFORT_MS").ok().and_then(|ms| ms.parse().ok()).map(Duration::from_millis);

    let pulse = worker.pulse()?;
    let (mut done, mut failed) = (0_u64, 0_u64);
    worker.ready();
    worker.status("idle");
    while !worker.is_draining() {
        pulse.beat();
        let returned = spool.reclaim()?;
        if returned > 0 {
            tracing::warn!(returned, "jobs of a worker that died are taken up again");
        }
        let Some(job) = spool.claim()? else {
            worker.status(&format!("idle, {done} done, {failed} failed"));
            pulse.rest(|| worker.wait_for_drain_within(PAUSE));
            continue;
        };
        worker.status(&format!("doing {}, {done} done, {failed} failed", job.name()));
        match perform(&job, &pulse, effort) {
            Ok(result) => {
                tracing::debug!(job = job.name(), "done");
                spool.acknowledge(job, &result)?;
                done += 1;
            }
            Err(error) => {
                // What cannot be done now cannot be done later: a person has to look at it.
                tracing::warn!(job = job.name(), %error, "failed");
                spool.fail(job)?;
                failed += 1;
            }
        }
    }
    spool.close()?;
    tracing::info!(done, failed, "finished");
    worker.close();
    Ok(())
}

/// The work itself: how many lines, words and bytes a text has.
fn perform(job: &Job, pulse: &Pulse, effort: Option<Duration>) -> Result<String, Box<dyn Error>> {
    let bytes = std::fs::read(job.path())?;
    let text = str::from_utf8(&bytes)?;
    let (mut lines, mut words) = (0, 0);
    for line in text.lines() {
        // A long job shows that it goes on; one that hangs ends at the watchdog, and its job is another's.
        pulse.beat();
        lines += 1;
        words += line.split_whitespace().count();
    }
    if let Some(effort) = effort {
        let (_never, nothing) = sync_channel::<()>(0);
        let _ = nothing.recv_timeout(effort);
    }
    Ok(format!("{lines} lines, {words} words, {} bytes\n", bytes.len()))
}

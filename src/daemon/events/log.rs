//! Our own log of what happens: one line for each change of state, so that the log of a run is its trace. Message
//! texts are constant; what varies is in the fields.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::control::Verdict;
use crate::control::event::{Asked, Command, Drifted, StopEffect, What, Who};

/// Writes the line.
pub(in crate::daemon) fn log(what: &What) {
    match what {
        What::WorkerStarted(_)
        | What::WorkerExecuted(_)
        | What::WorkerReady { .. }
        | What::WorkerNotReady { .. }
        | What::WorkerStatus { .. }
        | What::WorkerMessage { .. }
        | What::WorkerWorn { .. }
        | What::WorkerDraining { .. }
        | What::WorkerKilled(_)
        | What::SuccessorWaits(_)
        | What::WorkerLetGo { .. }
        | What::WorkerFailed { .. }
        | What::WorkerEnded { .. }
        | What::WorkerStatusLost { .. }
        | What::WorkerGone(_) => worker(what),
        What::PoolsRolled { pools, listeners } => {
            let (pools, listeners) = (pools.join(", "), listeners.join(", "));
            warn!(pools, listeners, "pools are rolled: their workers may have a socket that was ended");
        }
        What::RolloutStarted(of) => info!(generation = of.generation, "rollout started"),
        What::CanaryProven(of) => info!(generation = of.generation, "first new workers have stayed ready"),
        What::RollingBack { generation, failure } => {
            warn!(generation, reason = failure.text, "rollout failed, rolling back");
        }
        What::RolloutDone(of) => info!(generation = of.generation, "rollout done"),
        What::RolledBack { generation, kept } => warn!(generation, kept = kept.len(), "rolled back"),
        What::RequestReceived { request, asked } => self::request(*request, asked),
        What::RequestAnswered { request, result, generation, reason } => {
            answer(*request, *result, *generation, reason.as_deref());
        }
        What::ReloadRefused { reason } => warn!(reason, "reload refused"),
        What::GenerationCommitted(of) => debug!(generation = of.generation, "generation committed"),
        What::GenerationForgotten(of) => debug!(generation = of.generation, "generation forgotten"),
        What::ListenerBound { .. }
        | What::ListenerAdopted(_)
        | What::ListenerClosed { .. }
        | What::ListenerDrifted(_)
        | What::ListenerMended(_) => listener(what),
        What::StopSignal { effect } => stop_signal(*effect),
        What::TimeLost { by, in_a_row } => warn!(by_ms = millis(*by), in_a_row, "time lost"),
        What::DaemonReady => info!("ready"),
        What::DaemonReloading => debug!("reloading"),
        What::DaemonStopping => info!("stopping"),
        What::DaemonBroken { reason } => error!(reason, "the daemon has to be started afresh"),
        What::DaemonEnded { failure: Some(reason) } => error!(reason, "ended"),
        What::DaemonEnded { failure: None } => info!("ended"),
        // What only readers of events are told.
        What::Hello { .. } | What::Lost { .. } => {}
    }
}

fn worker(what: &What) {
    let Some(Who { worker, place, pid }) = what.who() else { return };
    let (pool, slot, generation) = (place.pool.as_deref(), place.slot, place.generation);
    match what {
        What::WorkerStarted(_) => info!(pool, slot, generation, worker, pid, "worker started"),
        What::WorkerExecuted(_) => debug!(pool, slot, generation, worker, pid, "worker executed"),
        What::WorkerReady { after, .. } => {
            info!(pool, slot, generation, worker, pid, after_ms = millis(*after), "worker ready");
        }
        What::WorkerNotReady { after, waiting_for, hint, .. } => {
            let after_ms = millis(*after);
            warn!(pool, slot, generation, worker, pid, after_ms, waiting_for, hint, "worker not ready yet");
        }
        What::WorkerWorn { reason, .. } => {
            info!(pool, slot, generation, worker, pid, reason, "worker wishes to be replaced");
        }
        What::WorkerDraining { why, .. } => {
            info!(pool, slot, generation, worker, pid, %why, "worker asked to end");
        }
        What::WorkerKilled(_) => warn!(pool, slot, generation, worker, pid, "worker killed"),
        What::SuccessorWaits(_) => {
            info!(pool, slot, generation, worker, pid, "successor waits for the end of this worker");
        }
        What::WorkerLetGo { reason, .. } => {
            error!(pool, slot, generation, worker, pid, reason, "worker not killed");
        }
        What::WorkerFailed { failure, restart_in, crash_loop, .. } => {
            warn!(
                pool,
                slot,
                generation,
                worker,
                pid,
                reason = failure.text,
                restart_in_ms = millis(*restart_in),
                crash_loop,
                hint = failure.hint,
                "worker failed"
            );
        }
        What::WorkerEnded { end, .. } => {
            info!(pool, slot, generation, worker, pid, status = %end, "worker ended");
        }
        // Each of them is told to readers of events; in the log the first ones are enough, and those are warned of elsewhere.
        What::WorkerStatusLost { reason, .. } => debug!(worker, pid, reason, "exit status not known"),
        What::WorkerGone(_) => debug!(pool, slot, generation, worker, pid, "nothing is left of the worker"),
        // Whatever a worker says is in the status; it may say it a thousand times a second.
        _ => {}
    }
}

fn stop_signal(effect: StopEffect) {
    match effect {
        StopEffect::Graceful => info!(
            hint = "to end at once: SIGQUIT, or another SIGTERM or SIGINT at least a second later",
            "stopping on a signal"
        ),
        StopEffect::Ignored => info!("signal ignored: it came within a second of the first"),
        StopEffect::Now => warn!("second signal: workers are killed"),
    }
}

fn request(request: u64, asked: &Asked) {
    match asked.what {
        Command::Reload => info!(request, "reload requested"),
        Command::Restart => info!(request, "restart requested"),
        Command::Cancel => info!(request, "cancel requested"),
        Command::Scale => {
            let workers = match (asked.workers, asked.by) {
                (Some(workers), _) => workers.to_string(),
                (None, Some(by)) => format!("{by:+}"),
                (None, None) => "as configured".to_owned(),
            };
            info!(request, pool = asked.pool, workers, "scale requested");
        }
        Command::Stop => info!(request, now = asked.now, "stop requested"),
    }
}

fn answer(request: u64, result: Verdict, generation: Option<u64>, reason: Option<&str>) {
    match result {
        Verdict::Done | Verdict::Accepted => info!(request, "request done"),
        Verdict::RolledBack => warn!(request, generation, "request failed: rolled back"),
        Verdict::Refused => warn!(request, reason, "request refused"),
        Verdict::Failed => warn!(request, reason, "request failed"),
    }
}

fn listener(what: &What) {
    match what {
        What::ListenerBound { at, afresh: false } => {
            debug!(listener = at.listener, address = at.address, "listener bound");
        }
        What::ListenerBound { at, afresh: true } => {
            warn!(listener = at.listener, address = at.address, "listener bound afresh");
        }
        What::ListenerAdopted(at) => {
            debug!(listener = at.listener, address = at.address, "listener adopted");
        }
        What::ListenerClosed { at, reset } => {
            info!(listener = at.listener, address = at.address, reset, "listener closed");
        }
        What::ListenerDrifted(Drifted { at, drift, .. }) => {
            let drift = drift.join("; ");
            warn!(listener = at.listener, address = at.address, drift, "a worker changed a shared socket");
        }
        What::ListenerMended(Drifted { at, drift, .. }) => {
            let drift = drift.join("; ");
            debug!(listener = at.listener, address = at.address, drift, "listener mended");
        }
        _ => {}
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

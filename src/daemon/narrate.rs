//! Our own log, as a projection of events and actions: one line for each change of state, so that the log
//! of a run is its trace. Message texts are constant; what varies is in the fields.

use tracing::{debug, error, info, warn};

use super::table::{LastWords, Table};
use crate::supervisor::{
    Action, Event, ManagerState, Note, Outcome, Place, Request, RolloutFailure, WorkerFailure,
};

/// Logs what happened.
pub(super) fn event(event: &Event, table: &Table) {
    match event {
        Event::Exited { worker, status } => {
            let Some(entry) = table.get(*worker) else { return };
            let Place { pool, slot, generation } = &entry.place;
            info!(%pool, slot = slot.0, generation = generation.0, worker = worker.0, pid = entry.process.pid(), %status, "worker ended");
        }
        Event::Requested { request, what } => self::request(request.0, what),
        Event::PrepareRefused { reason } => warn!(reason, "reload refused"),
        Event::Broken { reason } => error!(reason, "the daemon has to be started afresh"),
        Event::Spawned { worker } => debug!(worker = worker.0, "worker executed"),
        Event::SpawnFailed { .. }
        | Event::DeadlinePassed
        | Event::Ready { .. }
        | Event::Heartbeat { .. }
        | Event::WatchdogTriggered { .. }
        | Event::Stopping { .. }
        | Event::MoreTime { .. }
        | Event::GroupEnded { .. }
        | Event::Prepared { .. } => {}
    }
}

fn request(request: u64, what: &Request) {
    match what {
        Request::Roll(scope) if scope.reread => info!(request, "reload requested"),
        Request::Roll(_) => info!(request, "restart requested"),
        Request::Cancel { .. } => info!(request, "cancel requested"),
        Request::Scale { pool, workers } => {
            let workers = workers.map_or_else(|| "as configured".to_owned(), |workers| workers.to_string());
            info!(request, %pool, workers, "scale requested");
        }
        Request::Stop { now } => info!(request, now, "stop requested"),
    }
}

/// Logs what is about to be done.
pub(super) fn action(action: &Action, table: &Table) {
    match action {
        Action::Note(note) => self::note(note, table),
        Action::Kill { worker } => {
            if let Some(entry) = table.get(*worker) {
                let Place { pool, slot, .. } = &entry.place;
                warn!(%pool, slot = slot.0, worker = worker.0, pid = entry.process.pid(), "worker killed");
            }
        }
        Action::Tell(state) => match state {
            ManagerState::Ready => info!("ready"),
            ManagerState::Reloading => debug!("reloading"),
            ManagerState::Stopping => info!("stopping"),
        },
        Action::Answer { request, outcome } => answer(request.0, outcome),
        Action::Exit { failure: Some(reason) } => error!(reason, "ended"),
        Action::Exit { failure: None } => info!("ended"),
        Action::Spawn { .. }
        | Action::Signal { .. }
        | Action::EndGroup { .. }
        | Action::Prepare { .. }
        | Action::Commit { .. }
        | Action::Forget { .. }
        | Action::ExtendTimeout { .. } => {}
    }
}

fn answer(request: u64, outcome: &Outcome) {
    match outcome {
        Outcome::Done { .. } => info!(request, "request done"),
        Outcome::RolledBack { generation, .. } => {
            warn!(request, generation = generation.0, "request failed: rolled back")
        }
        Outcome::Refused { reason } => warn!(request, reason, "request refused"),
        Outcome::Failed { reason } => warn!(request, reason, "request failed"),
    }
}

fn note(note: &Note, table: &Table) {
    match note {
        Note::WorkerReady { worker, place: Place { pool, slot, generation }, after } => {
            let pid = table.get(*worker).map(|entry| entry.process.pid());
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            info!(%pool, slot = slot.0, generation = generation.0, worker = worker.0, pid, after_ms, "worker ready");
        }
        Note::Retiring { worker, place: Place { pool, slot, generation }, why } => {
            info!(%pool, slot = slot.0, generation = generation.0, worker = worker.0, %why, "worker asked to end");
        }
        Note::WorkerFailed { worker, place, failure, restart_in, crash_loop } => {
            let Place { pool, slot, generation } = place;
            let restart_in_ms = u64::try_from(restart_in.as_millis()).unwrap_or(u64::MAX);
            let hint = hint(failure, &table.words(*worker, place));
            warn!(
                %pool, slot = slot.0, generation = generation.0, worker = worker.0, reason = %failure, restart_in_ms, crash_loop, hint,
                "worker failed"
            );
        }
        Note::RolloutStarted { generation } => info!(generation = generation.0, "rollout started"),
        Note::CanaryProven { generation } => {
            info!(generation = generation.0, "first new workers have stayed ready")
        }
        Note::RollingBack { generation, reason } => {
            warn!(generation = generation.0, reason = %reason, "rollout failed, rolling back");
        }
        Note::RolloutDone { generation } => info!(generation = generation.0, "rollout done"),
        Note::RolledBack { generation, kept } => {
            warn!(generation = generation.0, kept = kept.len(), "rolled back");
        }
    }
}

/// What a person may do about a worker's failure, where that can be guessed.
pub(super) fn hint(failure: &WorkerFailure, words: &LastWords) -> Option<&'static str> {
    let in_use = |line: &String| {
        let line = line.to_ascii_lowercase();
        line.contains("address already in use") || line.contains("eaddrinuse")
    };
    match failure {
        _ if words.lines.iter().any(in_use) => {
            Some("this program must listen on fd 3 ($LISTEN_FDS), not bind")
        }
        WorkerFailure::StartTimeout { .. } if !words.ready_by_notify => {
            Some("it wrote no newline to its ready_fd; if it is slow, raise start_timeout")
        }
        WorkerFailure::StartTimeout { .. } if !words.has_notified => {
            Some("it never wrote to NOTIFY_SOCKET; if this program cannot send READY=1, set ready = \"exec\"")
        }
        WorkerFailure::StartTimeout { .. } => {
            Some("it wrote to NOTIFY_SOCKET, but not READY=1; if it is slow, raise start_timeout")
        }
        _ => None,
    }
}

/// The worker that a rollout failed for, with its failure.
pub(super) fn culprit(reason: &RolloutFailure) -> Option<(crate::id::WorkerId, &Place, &WorkerFailure)> {
    match reason {
        RolloutFailure::Worker { worker, place, failure } => Some((*worker, place, failure)),
        RolloutFailure::Deadline { .. } | RolloutFailure::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::supervisor::ExitStatus;

    #[test]
    fn a_hint_fits_the_way_in_which_the_worker_was_to_become_ready() {
        let late = WorkerFailure::StartTimeout { after: Duration::from_secs(30) };
        let words = |ready_by_notify, has_notified| LastWords {
            ready_by_notify,
            has_notified,
            ..LastWords::default()
        };
        assert!(hint(&late, &words(true, false)).unwrap().contains("set ready = \"exec\""));
        assert!(hint(&late, &words(true, true)).unwrap().contains("but not READY=1"));
        assert!(hint(&late, &words(false, false)).unwrap().contains("ready_fd"));
        let ended = WorkerFailure::EndedBeforeReady { status: ExitStatus::Code(1) };
        assert_eq!(hint(&ended, &words(true, false)), None);
        let in_use =
            LastWords { lines: vec!["Error: listen EADDRINUSE :::80".to_owned()], ..LastWords::default() };
        assert!(hint(&ended, &in_use).unwrap().contains("fd 3"));
    }
}

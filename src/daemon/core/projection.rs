//! The one projection: what the machine is told and what it orders, as what happens.
//!
//! Log, event stream and progress lines are all made from what comes out here; see `chronicle`.

use crate::control::document::{self, Failure};
use crate::control::event::{End, Of, What, Who};
use crate::daemon::worker::table::{LastWords, Table};
use crate::id::{Generation, WorkerId};
use crate::supervisor::{
    Action, Event, ExitStatus, ManagerState, Note, Place, Request, RolloutFailure, WorkerFailure,
};

/// What the machine is about to be told.
pub(in crate::daemon) fn of_event(event: &Event, table: &Table) -> Option<What> {
    let known = |worker: &WorkerId| Some(who(*worker, &table.get(*worker)?.place, table));
    Some(match event {
        Event::Spawned { worker } => What::WorkerExecuted(known(worker)?),
        Event::Exited { worker, status } => What::WorkerEnded { who: known(worker)?, end: End::of(*status) },
        // A start for which there never was a process leaves nothing behind.
        Event::GroupEnded { worker } | Event::SpawnFailed { worker, .. } => What::WorkerGone(known(worker)?),
        Event::Requested { request, what } => What::requested(request.0, what),
        Event::PrepareRefused { reason } => What::ReloadRefused { reason: reason.clone() },
        Event::Broken { reason } => What::DaemonBroken { reason: reason.clone() },
        Event::StopSignal { request } => What::requested(request.0, &Request::Stop { now: false }),
        Event::DeadlinePassed
        | Event::TimeLost(_)
        | Event::KillFailed { .. }
        | Event::Ready { .. }
        | Event::ReadinessUnknown { .. }
        | Event::Heartbeat { .. }
        | Event::WatchdogTriggered { .. }
        | Event::Stopping { .. }
        | Event::ChannelOpened { .. }
        | Event::Answered { .. }
        | Event::ChannelClosed { .. }
        | Event::ChannelLost { .. }
        | Event::ReplacementWished { .. }
        | Event::MoreTime { .. }
        | Event::NotHeard { .. }
        | Event::ListenerReplaced { .. }
        | Event::Prepared { .. } => return None,
    })
}

/// What the machine has ordered; a fact once it is carried out.
pub(in crate::daemon) fn of_action(action: &Action, table: &Table) -> Option<What> {
    Some(match action {
        Action::Note(note) => of_note(note, table),
        Action::Tell(ManagerState::Ready) => What::DaemonReady,
        Action::Tell(ManagerState::Reloading) => What::DaemonReloading,
        Action::Tell(ManagerState::Stopping) => What::DaemonStopping,
        Action::Answer { request, outcome } => What::answered(request.0, outcome),
        Action::Commit { generation } => What::GenerationCommitted(of(*generation)),
        Action::Forget { generation } => What::GenerationForgotten(of(*generation)),
        Action::Exit { failure } => What::DaemonEnded { failure: failure.clone() },
        Action::Spawn { .. }
        | Action::Drain { .. }
        | Action::Ping { .. }
        | Action::Signal { .. }
        // It may fail: whoever carries it out tells of it.
        | Action::Kill { .. }
        | Action::EndGroup { .. }
        | Action::Prepare { .. }
        | Action::GiveUpPreparing
        | Action::ExtendTimeout { .. } => return None,
    })
}

fn of_note(note: &Note, table: &Table) -> What {
    match note {
        Note::TimeLost(lost) => What::TimeLost { by: lost.by, in_a_row: lost.in_a_row },
        Note::StopSignal { effect } => What::StopSignal { effect: *effect },
        Note::WorkerLetGo { worker, place, reason } => {
            What::WorkerLetGo { who: who(*worker, place, table), reason: reason.clone() }
        }
        Note::WorkerReady { worker, place, after } => {
            What::WorkerReady { who: who(*worker, place, table), after: *after }
        }
        Note::WorkerNotReady { worker, place, after } => {
            let readiness = table.words(*worker, place).readiness;
            What::WorkerNotReady {
                who: who(*worker, place, table),
                after: *after,
                waiting_for: readiness.missing(),
                hint: readiness.way_out(),
            }
        }
        Note::ReplacementWished { worker, place, reason } => {
            What::WorkerWorn { who: who(*worker, place, table), reason: reason.clone() }
        }
        Note::Retiring { worker, place, why } => {
            What::WorkerDraining { who: who(*worker, place, table), why: *why }
        }
        Note::SuccessorWaits { worker, place } => What::SuccessorWaits(who(*worker, place, table)),
        Note::WorkerFailed { worker, place, failure, restart_in, crash_loop } => {
            let words = table.words(*worker, place);
            let hint = hint(failure, &words);
            What::WorkerFailed {
                who: who(*worker, place, table),
                failure: Failure { hint, ..Failure::of_worker(worker.0, failure, words.lines) },
                restart_in: *restart_in,
                crash_loop: *crash_loop,
            }
        }
        Note::PoolsRolled { pools, listeners } => What::PoolsRolled {
            pools: pools.iter().map(ToString::to_string).collect(),
            listeners: listeners.iter().map(ToString::to_string).collect(),
        },
        Note::RolloutStarted { generation } => What::RolloutStarted(of(*generation)),
        Note::CanaryProven { generation } => What::CanaryProven(of(*generation)),
        Note::RollingBack { generation, reason } => {
            let words = culprit(reason).map(|(worker, place, _)| table.words(worker, place));
            let words = words.unwrap_or_default();
            let hint = culprit(reason).and_then(|(.., failure)| hint(failure, &words));
            let failure = Failure { hint, ..Failure::of_rollout(reason, words.lines) };
            What::RollingBack { generation: generation.0, failure }
        }
        Note::RolloutDone { generation } => What::RolloutDone(of(*generation)),
        Note::RolledBack { generation, kept } => What::RolledBack {
            generation: generation.0,
            kept: kept.iter().map(document::Place::of).collect(),
        },
    }
}

/// A worker as events name it.
pub(in crate::daemon) fn who(worker: WorkerId, place: &Place, table: &Table) -> Who {
    let pid = table.get(worker).map(|entry| entry.process.pid());
    Who { worker: worker.0, place: document::Place::of(place), pid }
}

fn of(generation: Generation) -> Of {
    Of { generation: generation.0 }
}

/// What a person may do about a worker's failure, where that can be guessed.
pub(in crate::daemon) fn hint(failure: &WorkerFailure, words: &LastWords) -> Option<String> {
    let in_use = words.addresses.hint(&words.lines);
    let guessed = match failure {
        WorkerFailure::Start(failure) => failure.hint(),
        _ if in_use.is_some() => in_use,
        WorkerFailure::AskedTooEarly { .. } => Some(
            "STOPPING=1 and the request to be replaced count as such after stable_after; if this program means to end that \
             soon, set restart.stable_after below its shortest life",
        ),
        WorkerFailure::EndedBeforeReady { status: ExitStatus::Code(0) } if words.lines.is_empty() => Some(
            "a worker stays in the foreground; if this program puts itself into the background, tell it not to",
        ),
        WorkerFailure::StartTimeout { .. } => return Some(words.readiness.hint()),
        _ => None,
    };
    guessed.map(str::to_owned)
}

/// The worker that a rollout failed for, with its failure.
pub(in crate::daemon) fn culprit(reason: &RolloutFailure) -> Option<(WorkerId, &Place, &WorkerFailure)> {
    match reason {
        RolloutFailure::Worker { worker, place, failure } => Some((*worker, place, failure)),
        RolloutFailure::Deadline { .. } | RolloutFailure::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_hint_fits_how_the_worker_failed() {
        let late = WorkerFailure::StartTimeout { after: Duration::from_secs(30) };
        assert!(hint(&late, &LastWords::default()).unwrap().contains("READY=1"));
        let ended = WorkerFailure::EndedBeforeReady { status: ExitStatus::Code(1) };
        assert_eq!(hint(&ended, &LastWords::default()), None);
        let in_use =
            LastWords { lines: vec!["Error: listen EADDRINUSE :::80".to_owned()], ..LastWords::default() };
        assert!(hint(&ended, &in_use).unwrap().contains("max_surge = 0"));
    }
}

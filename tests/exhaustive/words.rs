//! The words of the table: what befell a worker or the daemon, and which orders came of it.

use handover::id::WorkerId;
use handover::supervisor::{
    Action, Event, ExitStatus, ManagerState, Note, Outcome, ReadyBy, Request, Retirement,
};

/// What it was, from the worker's point of view, that happened to it; `None` for nothing.
pub(crate) fn cause(worker: WorkerId, event: &Event, due: &[WorkerId], actions: &[Action]) -> Option<String> {
    let text = match event {
        Event::Spawned { worker: who } if *who == worker => "is executed",
        Event::SpawnFailed { worker: who, failure } if *who == worker => match failure.program_changed {
            true => "cannot be started: another program",
            false => "cannot be started",
        },
        Event::Ready { worker: who, by } if *who == worker => match by {
            ReadyBy::Notify => "says that it is ready",
            _ => "shows in another way that it is ready",
        },
        Event::Heartbeat { worker: who } if *who == worker => "feeds its watchdog",
        Event::WatchdogTriggered { worker: who } if *who == worker => "triggers its watchdog",
        Event::Stopping { worker: who } if *who == worker => "says that it is stopping",
        Event::ChannelOpened { worker: who, .. } if *who == worker => "says hello on its channel",
        Event::Answered { worker: who } if *who == worker => "answers a ping",
        Event::ReplacementWished { worker: who, .. } if *who == worker => "wishes to be replaced",
        Event::ChannelClosed { worker: who } if *who == worker => "closes its channel",
        Event::ChannelLost { worker: who } if *who == worker => "its channel is lost",
        Event::MoreTime { worker: who, .. } if *who == worker => "asks for more time",
        Event::NotHeard { worker: who, .. } if *who == worker => "is not heard for a while",
        Event::Exited { worker: who, status } if *who == worker => match status {
            ExitStatus::Code(0) => "exits with 0",
            _ => "exits with 1",
        },
        Event::GroupEnded { worker: who } if *who == worker => "its group has ended",
        Event::KillFailed { worker: who, .. } if *who == worker => "cannot be killed",
        Event::DeadlinePassed if due.contains(&worker) => "its time is up",
        Event::Requested { what: Request::Stop { now: true }, .. } => "stop now",
        _ => return retired(worker, actions),
    };
    Some(text.to_owned())
}

fn retired(worker: WorkerId, actions: &[Action]) -> Option<String> {
    actions.iter().find_map(|action| match action {
        Action::Note(Note::Retiring { worker: who, why, .. }) if *who == worker => {
            let text = match why {
                Retirement::DaemonStops => "stop",
                _ => "is no longer wanted",
            };
            Some(text.to_owned())
        }
        _ => None,
    })
}

pub(crate) fn outcome(state: &str, orders: &[&str]) -> String {
    if orders.is_empty() { state.to_owned() } else { format!("{state}: {}", orders.join(", ")) }
}

pub(crate) fn orders_for(worker: WorkerId, actions: &[Action]) -> Vec<&'static str> {
    let order = |action: &Action| match action {
        Action::Drain { worker: who, .. } if *who == worker => Some("drain"),
        Action::Ping { worker: who } if *who == worker => Some("ping"),
        Action::Signal { worker: who, .. } if *who == worker => Some("signal"),
        Action::Kill { worker: who } if *who == worker => Some("kill"),
        Action::EndGroup { worker: who, .. } if *who == worker => Some("end the group"),
        Action::Note(Note::WorkerLetGo { worker: who, .. }) if *who == worker => Some("let go"),
        Action::Note(Note::WorkerFailed { worker: who, .. }) if *who == worker => Some("counts as failed"),
        _ => None,
    };
    actions.iter().filter_map(order).collect()
}

pub(crate) fn daemon_cause(event: &Event, actions: &[Action]) -> Option<String> {
    let rolls_unasked =
        || actions.iter().any(|action| matches!(action, Action::Note(Note::PoolsRolled { .. })));
    let text = match event {
        Event::DeadlinePassed if rolls_unasked() => "time passes, and a lost listener is due",
        Event::DeadlinePassed if actions.contains(&Action::GiveUpPreparing) => {
            "time passes while it is prepared"
        }
        Event::ListenerReplaced { .. } => "a listener is lost and replaced",
        Event::Prepared { .. } => "generation prepared",
        Event::PrepareRefused { .. } => "generation refused",
        Event::Broken { .. } => "a promise is broken",
        Event::StopSignal { .. } => "SIGTERM or SIGINT",
        Event::Requested { what, .. } => match what {
            Request::Roll(_) => "reload or restart",
            Request::Cancel { .. } => "cancel",
            Request::Scale { .. } | Request::ScaleBy { .. } => "scale",
            Request::Stop { now: false } => "stop",
            Request::Stop { now: true } => "stop now",
        },
        _ => return None,
    };
    Some(text.to_owned())
}

pub(crate) fn daemon_orders(actions: &[Action]) -> Vec<&'static str> {
    let order = |action: &Action| match action {
        Action::Prepare { .. } => Some("prepare"),
        Action::GiveUpPreparing => Some("give up preparing"),
        Action::Commit { .. } => Some("commit"),
        Action::Tell(ManagerState::Ready) => Some("READY"),
        Action::Tell(ManagerState::Reloading) => Some("RELOADING"),
        Action::Tell(ManagerState::Stopping) => Some("STOPPING"),
        Action::Exit { .. } => Some("exit"),
        Action::Answer { outcome, .. } => Some(match outcome {
            Outcome::Done { .. } | Outcome::Scaled { .. } => "answer: done",
            Outcome::RolledBack { .. } => "answer: rolled back",
            Outcome::Refused { .. } => "answer: refused",
            Outcome::Failed { .. } => "answer: failed",
        }),
        _ => None,
    };
    let mut orders: Vec<&str> = actions.iter().filter_map(order).collect();
    orders.dedup();
    orders
}

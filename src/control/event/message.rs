//! What happened, in words for people.

use std::fmt;
use std::time::Duration;

use super::{Asked, Command, Drifted, End, Failure, StopEffect, What, Who};
use crate::control::answer::Verdict;
use crate::supervisor::ExitStatus;

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello { daemon, .. } => write!(f, "what happens in {} from now on", daemon.name),
            Self::Lost { count } => write!(f, "{count} events lost: this reader was too slow"),
            Self::WorkerStarted(who) => write!(f, "{who} is started"),
            Self::WorkerExecuted(who) => write!(f, "{who} executes its program"),
            Self::WorkerReady { who, after } => write!(f, "{who} is ready after {after:.1?}"),
            Self::WorkerNotReady { who, after, waiting_for, hint } => late(f, who, *after, waiting_for, hint),
            Self::WorkerStatus { who, status } if status.is_empty() => {
                write!(f, "{who} takes its status back")
            }
            Self::WorkerStatus { who, status } => write!(f, "{who} says: {status}"),
            Self::WorkerMessage { who, data: None } => write!(f, "{who} sent a message"),
            Self::WorkerMessage { who, data: Some(data) } => {
                write!(f, "{who} sent a message: {}", shortened(data.json()))
            }
            Self::WorkerWorn { who, reason } if reason.is_empty() => write!(f, "{who} wishes to be replaced"),
            Self::WorkerWorn { who, reason } => write!(f, "{who} wishes to be replaced: {reason}"),
            Self::WorkerDraining { who, why } => write!(f, "{who} is asked to end: {why}"),
            Self::WorkerKilled(who) => write!(f, "{who} is killed"),
            Self::SuccessorWaits(who) => write!(f, "the next worker of its slot waits for the end of {who}"),
            Self::WorkerLetGo { who, reason } => write!(f, "{who} cannot be ended, and is let go: {reason}"),
            Self::WorkerFailed { who, failure, restart_in, crash_loop } => {
                failed(f, who, failure, *restart_in, *crash_loop)
            }
            Self::WorkerEnded { who, end } => write!(f, "{who} {end}"),
            Self::WorkerStatusLost { who, reason } => write!(f, "how {who} ended is not known: {reason}"),
            Self::WorkerGone(who) => write!(f, "{who} is gone"),
            Self::PoolsRolled { pools, listeners } => write!(
                f,
                "rolling pool {}: workers may have a socket of listener {} that was ended",
                pools.join(", "),
                listeners.join(", ")
            ),
            Self::RolloutStarted(of) => write!(f, "rolling out generation {}", of.generation),
            Self::CanaryProven(of) => {
                write!(f, "the first workers of generation {} have stayed ready", of.generation)
            }
            Self::RollingBack { generation, failure } => {
                write!(f, "rolling generation {generation} back: {}", failure.text)
            }
            Self::RolloutDone(of) => write!(f, "generation {} serves", of.generation),
            Self::RolledBack { generation, kept } => rolled_back(f, *generation, kept.len()),
            Self::RequestReceived { request, asked } => write!(f, "request {request}: {asked}"),
            Self::RequestAnswered { request, result, reason, .. } => {
                write!(f, "request {request}: {}", word(*result))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::GenerationCommitted(of) => {
                write!(f, "generation {} is the one to build on", of.generation)
            }
            Self::ListenerBound { at, afresh: false } => write!(f, "listener {}: bound", at.listener),
            Self::ListenerBound { at, afresh: true } => write!(f, "listener {}: bound afresh", at.listener),
            Self::ListenerAdopted(at) => write!(f, "listener {}: taken over", at.listener),
            Self::ListenerClosed { at, reset: 0 } => write!(f, "listener {}: closed", at.listener),
            Self::ListenerClosed { at, reset } => {
                write!(f, "listener {}: closed, {reset} waiting connections were reset", at.listener)
            }
            Self::ListenerDrifted(drifted) | Self::ListenerMended(drifted) => drifted.fmt(f),
            Self::ReloadRefused { .. }
            | Self::GenerationForgotten(_)
            | Self::StopSignal { .. }
            | Self::TimeLost { .. }
            | Self::DaemonReady
            | Self::DaemonReloading
            | Self::DaemonStopping
            | Self::DaemonBroken { .. }
            | Self::DaemonEnded { .. } => daemon(f, self),
        }
    }
}

fn late(
    f: &mut fmt::Formatter<'_>,
    who: &Who,
    after: Duration,
    waiting_for: &str,
    hint: &str,
) -> fmt::Result {
    write!(f, "{who} is not ready after {after:.1?}, waiting for {waiting_for} (hint: {hint})")
}

/// What the daemon itself does.
fn daemon(f: &mut fmt::Formatter<'_>, what: &What) -> fmt::Result {
    match what {
        What::ReloadRefused { reason } => write!(f, "reload refused: {reason}"),
        What::GenerationForgotten(of) => write!(f, "nothing needs generation {} any more", of.generation),
        What::StopSignal { effect } => f.write_str(stop_signal(*effect)),
        What::TimeLost { by, .. } => {
            write!(f, "nobody ran for {by:.1?}: all deadlines have moved by that")
        }
        What::DaemonReady => f.write_str("the daemon is ready"),
        What::DaemonReloading => f.write_str("the daemon reloads"),
        What::DaemonStopping => f.write_str("the daemon stops"),
        What::DaemonBroken { reason } => write!(f, "the daemon has to be started afresh: {reason}"),
        What::DaemonEnded { failure: None } => f.write_str("the daemon has ended"),
        What::DaemonEnded { failure: Some(reason) } => write!(f, "the daemon has ended: {reason}"),
        _ => Ok(()),
    }
}

fn rolled_back(f: &mut fmt::Formatter<'_>, generation: u64, kept: usize) -> fmt::Result {
    write!(f, "generation {generation} is thrown away")?;
    if kept == 0 { Ok(()) } else { write!(f, ", {kept} slots still run it") }
}

fn stop_signal(effect: StopEffect) -> &'static str {
    match effect {
        StopEffect::Graceful => "a signal stops the daemon",
        StopEffect::Ignored => "a signal to stop came too soon after the first, and is ignored",
        StopEffect::Now => "a second signal stops the daemon at once",
    }
}

fn failed(
    f: &mut fmt::Formatter<'_>,
    who: &Who,
    failure: &Failure,
    restart_in: Duration,
    crash_loop: bool,
) -> fmt::Result {
    write!(f, "{who} failed: {}", failure.text)?;
    // During a rollout there may be no next start at all, so without a crash loop none is promised.
    if crash_loop { write!(f, "; crash loop: no start in its slot for {restart_in:.1?}") } else { Ok(()) }
}

/// The beginning of a long text.
fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    const CHARACTERS_MAX: usize = 200;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A verdict in words for people.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Done => "done",
        Verdict::Accepted => "accepted",
        Verdict::RolledBack => "rolled back",
        Verdict::Refused => "refused",
        Verdict::Failed => "failed",
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.worker)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ExitStatus::from(*self).fmt(f)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            Command::Reload => "reload",
            Command::Restart => "restart",
            Command::Cancel => "cancel",
            Command::Scale => "scale",
            Command::Stop => "stop",
        })?;
        let pools = self.pools.iter().flatten().chain(&self.pool).map(String::as_str).collect::<Vec<_>>();
        if !pools.is_empty() {
            write!(f, " {}", pools.join(", "))?;
        }
        match self.workers {
            Some(workers) => write!(f, " to {workers} workers")?,
            None if self.by.is_some() => write!(f, " by {:+} workers", self.by.unwrap_or_default())?,
            None if self.reset == Some(true) => f.write_str(" as configured")?,
            None => {}
        }
        if self.changed == Some(true) {
            f.write_str(", only what changed")?;
        }
        if self.now == Some(true) { f.write_str(" at once") } else { Ok(()) }
    }
}

impl fmt::Display for Drifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drift = if self.drift.is_empty() { "as it should be".to_owned() } else { self.drift.join("; ") };
        write!(f, "listener {}: {drift}", self.at.listener)
    }
}

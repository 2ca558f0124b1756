//! Long work: sends a request, shows how it goes, and turns the end into an exit code.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::args::Target;
use super::{console, target};
use crate::control::answer::{Finish, Line, Verdict};
use crate::control::client::{Answer, Client, ClientError};
use crate::control::event::What;
use crate::control::protocol::Request;
use crate::exit;

/// What a command wants.
pub(super) struct Work {
    /// Which daemon.
    pub(super) target: Target,
    /// What it is asked.
    pub(super) request: Request,
    /// How long the client waits for the end.
    pub(super) timeout: Option<Duration>,
    /// Print the lines of the answer as they come.
    pub(super) json: bool,
}

impl Work {
    /// Does it; gives the exit code.
    pub(super) fn carry_out(self) -> u8 {
        console::block_on(self.until_interrupted())
    }

    async fn until_interrupted(self) -> u8 {
        let noun = self.noun();
        let limit = async {
            match self.timeout {
                Some(timeout) => sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            code = self.follow() => code,
            _ = tokio::signal::ctrl_c() => {
                console::complain(format_args!("interrupted; {noun} goes on if it was accepted"));
                exit::INTERRUPTED
            }
            () = limit => {
                console::complain(format_args!("timeout; {noun} goes on if it was accepted"));
                exit::TIMED_OUT
            }
        }
    }

    fn noun(&self) -> &'static str {
        match &self.request {
            Request::Status | Request::Events => "the daemon",
            Request::Reload(reload) if reload.dry_run => "the dry run",
            Request::Reload(_) => "the reload",
            Request::Restart(_) => "the restart",
            Request::Cancel(_) => "the rollback",
            Request::Scale(_) => "the change of scale",
            Request::Stop(_) => "the stop",
        }
    }

    async fn follow(&self) -> u8 {
        let socket = match target::find(&self.target, &target::surroundings()).await {
            Ok(socket) => socket,
            Err(error) => {
                console::complain(&error);
                return error.exit_code();
            }
        };
        match self.send(&socket).await {
            Ok(answer) => self.read(answer).await,
            Err(error) => complain(&error),
        }
    }

    async fn send(&self, socket: &Path) -> Result<Answer, ClientError> {
        Client::connect(socket).await?.send(&self.request).await
    }

    async fn read(&self, mut answer: Answer) -> u8 {
        loop {
            match answer.next().await {
                Ok(Some((text, line))) => {
                    self.show(&text, &line);
                    if let Line::Result(finish) = line {
                        return exit_code(finish.result);
                    }
                }
                // It was accepted; that the daemon is gone is then what was wanted.
                Ok(None) | Err(ClientError::Lost { .. }) if matches!(self.request, Request::Stop(_)) => {
                    let line = Line::Result(Finish::new(Verdict::Done, "stopped"));
                    self.show(&serde_json::to_string(&line).unwrap_or_default(), &line);
                    return exit::DONE;
                }
                Ok(None) => {
                    console::complain(
                        "the connection ended before the answer: the daemon has ended, or this client was too slow to read",
                    );
                    return exit::NO_DAEMON;
                }
                Err(error) => return complain(&error),
            }
        }
    }

    fn show(&self, text: &str, line: &Line) {
        match line {
            _ if self.json => {
                console::print(format_args!("{text}\n"));
            }
            Line::Progress(progress) if is_told(&progress.event.what) => {
                console::tell(printable(&progress.event.message));
            }
            Line::Progress(_) => {}
            Line::Result(finish) => show_result(finish),
        }
    }
}

/// What a person wants to see of long work: the decisions, not each step of each worker.
fn is_told(what: &What) -> bool {
    !matches!(
        what,
        What::WorkerStarted(_) | What::WorkerExecuted(_) | What::WorkerEnded { .. } | What::WorkerGone(_)
    )
}

fn show_result(finish: &Finish) {
    if let Some(plan) = &finish.plan {
        // It is what was asked for, whatever the verdict.
        console::print(super::plan::plan(plan));
        return;
    }
    match finish.result {
        Verdict::Done | Verdict::Accepted => {
            console::print(format_args!("{}\n", finish.message));
        }
        Verdict::RolledBack | Verdict::Refused | Verdict::Failed => {
            console::complain(&finish.message);
            let output = finish.failure.as_ref().and_then(|failure| failure.output.as_deref());
            if let Some(lines) = output.filter(|lines| !lines.is_empty()) {
                console::tell("the last lines that the worker wrote:");
                lines.iter().for_each(|line| console::tell(format_args!("  {}", printable(line))));
            }
        }
    }
}

/// A worker must not steer the operator's terminal.
pub(super) fn printable(line: &str) -> String {
    line.chars()
        .flat_map(|c| {
            let escaped: Vec<char> =
                if c.is_control() && c != '\t' { c.escape_default().collect() } else { vec![c] };
            escaped
        })
        .collect()
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Done | Verdict::Accepted => exit::DONE,
        Verdict::RolledBack | Verdict::Failed => exit::FAILED,
        Verdict::Refused => exit::USAGE,
    }
}

/// Says why there is no answer; gives the exit code.
pub(super) fn complain(error: &ClientError) -> u8 {
    console::complain(error);
    match error {
        ClientError::NoDaemon { .. }
        | ClientError::Closed { .. }
        | ClientError::Silent { .. }
        | ClientError::Lost { .. } => exit::NO_DAEMON,
        ClientError::Refused { status: 500.., .. } => exit::NO_DAEMON,
        ClientError::Refused { status: 400, .. } => exit::USAGE,
        ClientError::Refused { .. } | ClientError::Unintelligible { .. } => exit::FAILED,
    }
}

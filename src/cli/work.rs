//! Long work: sends a request, shows how it goes, and turns the end into an exit code.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::args::Target;
use super::console::{printable, printable_lines};
use super::ending::Ending;
use super::live::{self, Live};
use super::{client, console, status, table};
use crate::control::answer::{Finish, Line, Progress, Verdict};
use crate::control::client::{Answer, ClientError};
use crate::control::event::{Event, What};
use crate::control::protocol::Request;
use crate::os::process::{State, state};
use crate::{exit, visible};

/// How often is looked whether a daemon that says nothing is stopped, and so will say nothing.
const LOOK: Duration = Duration::from_secs(2);

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
            Request::Send(_) => "the message",
        }
    }

    async fn follow(&self) -> u8 {
        let socket = match client::find(&self.target).await {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        let mut client = match client::connect(&socket).await {
            Ok(client) => client,
            Err(error) => return client::complain(&error),
        };
        let pid = client.pid();
        let ending = matches!(self.request, Request::Stop(_)).then(|| Ending::of(&mut client, &socket));
        let answer = match client::send_on(client, &socket, &self.request).await {
            Ok(answer) => answer,
            Err(error) => return client::complain(&error),
        };
        let end = match self.read(answer, &socket, pid).await {
            Ok(Some(end)) => Ok(end),
            Ok(None) => self.without_result(None),
            Err(error) => self.without_result(Some(error)),
        };
        match end {
            Ok((text, finish)) => {
                // Whoever starts another daemon next may do so.
                if let Some(ending) = ending.filter(|_| finish.result == Verdict::Done) {
                    ending.wait(finish.process_ends).await;
                }
                self.show(&text, &finish)
            }
            Err(code) => code,
        }
    }

    /// Shows how it goes, and gives how it ended, as it came and as it is read; `None` where that is never told. What
    /// changes on a terminal is gone then, so that what is said next stays.
    async fn read(
        &self,
        mut answer: Answer,
        socket: &Path,
        pid: Option<u32>,
    ) -> Result<Option<(String, Finish)>, ClientError> {
        // A message is answered at once.
        let is_soon_done = matches!(self.request, Request::Send(_));
        let mut live = if self.json || is_soon_done { None } else { Live::on_terminal() };
        let mut redraw = Instant::now();
        let mut look = Some(Instant::now() + LOOK);
        loop {
            let next = tokio::select! {
                next = answer.next() => next,
                () = sleep_until(look.unwrap_or(redraw)), if look.is_some() => {
                    let is_held = pid.and_then(state).is_some_and(State::is_held);
                    if is_held {
                        client::say_silent(socket, pid);
                    }
                    // Once is enough.
                    look = (!is_held).then(|| Instant::now() + LOOK);
                    continue;
                }
                () = sleep_until(redraw), if live.is_some() => {
                    if let (Some(live), Ok((_, document))) = (&mut live, status::ask(socket).await) {
                        live.show(&document);
                    }
                    redraw = Instant::now() + live::EVERY;
                    continue;
                }
            };
            match next? {
                Some((text, Line::Progress(_))) if self.json => {
                    console::print(format_args!("{text}\n"));
                }
                Some((_, Line::Progress(progress))) => {
                    show_progress(&progress, live.as_mut());
                    redraw = redraw.min(Instant::now() + live::SOON);
                }
                Some((text, Line::Result(finish))) => return Ok(Some((text, finish))),
                None => return Ok(None),
            }
        }
    }

    /// There is no result, and there will be none: gives the one that it has all the same, or the exit code.
    fn without_result(&self, error: Option<ClientError>) -> Result<(String, Finish), u8> {
        match error {
            // It was accepted; that the daemon is gone is then what was wanted.
            None | Some(ClientError::Lost { .. }) if matches!(self.request, Request::Stop(_)) => {
                let finish = Finish::new(Verdict::Done, "stopped");
                let line = Line::Result(finish.clone());
                Ok((visible::json(serde_json::to_string(&line).unwrap_or_default()).to_string(), finish))
            }
            None => Err(client::complain_of_end()),
            Some(error) => Err(client::complain(&error)),
        }
    }

    /// Shows how it ended, of which `text` is the line as it came; gives the exit code.
    fn show(&self, text: &str, finish: &Finish) -> u8 {
        if self.json {
            console::print(format_args!("{text}\n"));
        } else {
            show_result(finish);
        }
        exit_code(finish.result)
    }
}

/// A line that stays, where a person may want to look back at it.
fn show_progress(progress: &Progress, live: Option<&mut Live>) {
    let Event { what, message, .. } = &progress.event;
    match live {
        _ if console::is_the_daemons_log() => {}
        Some(live) if is_trouble(what) => live.tell(&printable(message)),
        None if is_told(what) => console::tell(printable(message)),
        Some(_) | None => {}
    }
}

/// What is not seen any more in lines that change when somebody looks.
fn is_trouble(what: &What) -> bool {
    matches!(
        what,
        What::WorkerFailed { .. } | What::WorkerKilled(_) | What::RollingBack { .. } | What::Lost { .. }
    )
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
        Verdict::Done | Verdict::Accepted if console::is_the_daemons_log() => {}
        Verdict::Done | Verdict::Accepted => {
            console::print(format_args!("{}\n", printable_lines(&finish.message)));
        }
        Verdict::RolledBack | Verdict::Refused | Verdict::Failed => {
            console::complain(&finish.message);
            let failure = finish.failure.as_ref();
            show_output(failure.and_then(|failure| failure.output.as_deref()).unwrap_or_default());
        }
    }
}

/// The end of what the worker wrote. In its journal it stands already: there it is short enough for all of this to be
/// among the ten lines that `systemctl status` shows.
fn show_output(lines: &[String]) {
    let most = if console::is_the_daemons_log() { table::OUTPUT_LINES } else { lines.len() };
    let shown = &lines[lines.len().saturating_sub(most)..];
    if !shown.is_empty() {
        console::tell("the last lines that the worker wrote:");
    }
    shown.iter().for_each(|line| console::tell(format_args!("  {}", printable(line))));
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Done | Verdict::Accepted => exit::DONE,
        Verdict::RolledBack | Verdict::Failed => exit::FAILED,
        Verdict::Refused => exit::USAGE,
    }
}

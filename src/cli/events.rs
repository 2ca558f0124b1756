//! `handover events`: what happens, as it happens.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Effects, Style};
use clap::Args;
use serde::Deserialize;

use super::args::Target;
use super::console::printable;
use super::table::{push, push_evidence};
use super::{client, console};
use crate::control::Verdict;
use crate::control::client::{Answer, ClientError};
use crate::control::event::{Event, What};
use crate::control::protocol::Request;
use crate::exit;

/// Show what happens, as it happens
///
/// One line for each change of state: of workers, rollouts, requests, listeners and the daemon. Ends with 0 when the
/// daemon has ended or nobody reads the output any more, and with 4 if the connection is lost before.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Print each event as a JSON object, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Events) -> u8 {
    console::block_on(async {
        tokio::select! {
            code = follow(args) => code,
            () = console::is_left() => exit::DONE,
            _ = tokio::signal::ctrl_c() => exit::INTERRUPTED,
        }
    })
}

async fn follow(args: &Events) -> u8 {
    let socket = match client::find(&args.target).await {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    match client::send(&socket, &Request::Events).await {
        Ok(stream) => show(stream, args.json).await,
        Err(error) => client::complain(&error),
    }
}

async fn show(mut stream: Answer, json: bool) -> u8 {
    let terminal = std::io::stdout().is_terminal();
    loop {
        let text = match stream.next_text().await {
            Ok(Some(text)) => text,
            Ok(None) | Err(ClientError::Lost { .. }) => return client::complain_of_end(),
            Err(error) => return client::complain(&error),
        };
        let event = serde_json::from_str::<Event>(&text);
        let shown = match &event {
            _ if json => format!("{text}\n"),
            Ok(event) => for_people(event, terminal),
            Err(_) => unknown(&text, terminal),
        };
        if let Some(code) = console::try_print(shown) {
            return code;
        }
        if event.is_ok_and(|event| matches!(event.what, What::DaemonEnded { .. })) {
            return exit::DONE;
        }
    }
}

/// An event of a newer daemon: whatever else it has, it has these.
#[derive(Deserialize)]
struct Unknown {
    time: String,
    message: String,
}

/// What is no event at all is shown as it came.
fn unknown(text: &str, terminal: bool) -> String {
    match serde_json::from_str::<Unknown>(text) {
        Ok(Unknown { time, message }) => line(&time, &message, "", Style::new(), terminal),
        Err(_) => format!("{}\n", printable(text)),
    }
}

/// An event as a line; those of failures are followed by what is known of them, indented.
fn for_people(event: &Event, terminal: bool) -> String {
    let what = &event.what;
    let mut text = line(&event.time, &event.message, &place(what), style(what), terminal);
    if let What::WorkerFailed { failure, .. } | What::RollingBack { failure, .. } = what {
        push_evidence(&mut text, failure);
    }
    text
}

fn line(time: &str, message: &str, place: &str, style: Style, terminal: bool) -> String {
    let dim = Style::new().effects(Effects::DIMMED);
    let time = printable(time);
    // Who looks at a terminal knows the day.
    let shown = if terminal { time.get(11..23).unwrap_or(&time) } else { &time };
    let mut lines = message.lines();
    let first = printable(lines.next().unwrap_or_default());
    let mut text = format!("{dim}{shown}{dim:#} {style}{first}{style:#}");
    if !place.is_empty() {
        push(&mut text, format_args!(" {dim}({}){dim:#}", printable(place)));
    }
    text.push('\n');
    for more in lines {
        push(&mut text, format_args!("  {}\n", printable(more)));
    }
    text
}

/// Where it happened.
fn place(what: &What) -> String {
    if let Some(who) = what.who() {
        let mut words = Vec::new();
        words.extend(who.place.pool.as_ref().map(|pool| format!("pool {pool}")));
        words.extend(who.place.slot.map(|slot| format!("slot {slot}")));
        words.extend(who.place.generation.map(|generation| format!("generation {generation}")));
        words.extend(who.pid.map(|pid| format!("pid {pid}")));
        return words.join(", ");
    }
    match what {
        What::Hello { daemon, .. } => format!("pid {}, version {}", daemon.pid, daemon.version),
        What::ListenerBound { at, .. } | What::ListenerAdopted(at) | What::ListenerClosed { at, .. } => {
            at.address.clone()
        }
        What::ListenerDrifted(drifted) | What::ListenerMended(drifted) => drifted.at.address.clone(),
        _ => String::new(),
    }
}

fn style(what: &What) -> Style {
    let (bad, odd, good) = (AnsiColor::Red, AnsiColor::Yellow, AnsiColor::Green);
    let colour = match what {
        What::WorkerFailed { .. }
        | What::RollingBack { .. }
        | What::RolledBack { .. }
        | What::ReloadRefused { .. }
        | What::DaemonBroken { .. }
        | What::DaemonEnded { failure: Some(_) } => bad,
        What::RequestAnswered {
            result: Verdict::RolledBack | Verdict::Failed | Verdict::Refused, ..
        } => bad,
        What::ListenerDrifted(drifted) if drifted.harmed => bad,
        What::Lost { .. }
        | What::WorkerNotReady { .. }
        | What::WorkerKilled(_)
        | What::ListenerDrifted(_)
        | What::DaemonStopping => odd,
        What::WorkerReady { .. } | What::RolloutDone(_) | What::DaemonReady => good,
        _ => return Style::new(),
    };
    colour.on_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::control::document::{Failure, Place};
    use crate::control::event::Who;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn who() -> Who {
        let place = Place { pool: Some("web".into()), slot: Some(0), generation: Some(4) };
        Who { worker: 9, place, pid: Some(1844) }
    }

    fn at(what: What) -> Event {
        Event::new(1, UNIX_EPOCH + Duration::from_millis(3_723_004), what)
    }

    #[test]
    fn a_line_says_when_what_and_where() {
        let ready = at(What::WorkerReady { who: who(), after: Duration::from_millis(2400) });
        let text = "worker 9 is ready after 2.4s (pool web, slot 0, generation 4, pid 1844)\n";
        assert_eq!(plain(&for_people(&ready, true)), format!("01:02:03.004 {text}"));
        assert_eq!(plain(&for_people(&ready, false)), format!("1970-01-01T01:02:03.004000Z {text}"));
        assert!(for_people(&ready, true).contains("\u{1b}[32m"), "green");
    }

    #[test]
    fn an_event_that_is_not_known_is_shown_all_the_same() {
        let text =
            r#"{"type":"eclipse","number":1,"time":"2026-11-22T12:17:41.107311Z","message":"dark","x":1}"#;
        assert!(serde_json::from_str::<Event>(text).is_err());
        assert_eq!(plain(&unknown(text, true)), "12:17:41.107 dark\n");
        assert_eq!(unknown("{\"message\":\u{1b}", true), "{\"message\":\\u{1b}\n");
    }

    #[test]
    fn nothing_that_a_worker_says_reaches_the_terminal_as_a_command() {
        let evil = "\u{1b}[2J\u{9b}x\r".to_owned();
        let failure = Failure {
            text: evil.clone(),
            output: Some(vec![evil.clone()]),
            hint: Some(evil.clone()),
            ..Failure::default()
        };
        let restart_in = Duration::ZERO;
        for what in [
            What::WorkerStatus { who: who(), status: evil.clone() },
            What::WorkerFailed { who: who(), failure: failure.clone(), restart_in, crash_loop: false },
            What::RollingBack { generation: 4, failure },
            What::ReloadRefused { reason: evil },
        ] {
            let event = at(what);
            let shown = for_people(&event, true);
            let colours = 2 + if style(&event.what) == Style::new() { 0 } else { 2 };
            let place = if place(&event.what).is_empty() { 0 } else { 2 };
            assert_eq!(shown.matches('\u{1b}').count(), colours + place, "{shown:?}");
            assert!(!plain(&shown).contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}

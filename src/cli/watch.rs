//! `handover status --watch`: the status, again whenever something happens.
//!
//! The daemon is asked when its events say that there is something new, and on a terminal once a second, because times are
//! shown. Where there is no terminal to draw on one status follows the other, so that it can be read by a program or kept.

use std::path::Path;

use tokio::time::{Instant, sleep_until};

use super::console::printable;
use super::live::{EVERY, SOON};
use super::status::{Status, ask};
use super::terminal::Terminal;
use super::{client, console, table};
use crate::control::client::{Answer, ClientError};
use crate::control::event::{Event, What};
use crate::control::protocol::Request;
use crate::exit;

/// A screen of its own, without a cursor (`console_codes(4)`, xterm's 1049).
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// And back.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_TO_END_OF_LINE: &str = "\u{1b}[K";
const CLEAR_TO_END_OF_SCREEN: &str = "\u{1b}[J";

/// Shows the status until the daemon ends or somebody has seen enough; gives the exit code.
pub(super) async fn watch(socket: &Path, args: &Status) -> u8 {
    let mut stream = match client::send(socket, &Request::Events).await {
        Ok(stream) => stream,
        Err(error) => return client::complain(&error),
    };
    let mut view = View::new(args);
    let code = tokio::select! {
        code = follow(&mut stream, socket, &mut view) => code,
        () = console::is_left() => End::Code(exit::DONE),
        _ = tokio::signal::ctrl_c() => End::Code(exit::INTERRUPTED),
    };
    // First, so that what is said next stays on the screen.
    drop(view);
    match code {
        End::Code(code) => code,
        End::DaemonEnded(message) => {
            console::tell(printable(&message));
            exit::DONE
        }
        End::Failed(error) => client::complain(&error),
        End::Lost => client::complain_of_end(),
    }
}

/// Why it is over.
enum End {
    Code(u8),
    /// The daemon said so, in these words.
    DaemonEnded(String),
    Failed(ClientError),
    Lost,
}

async fn follow(stream: &mut Answer, socket: &Path, view: &mut View<'_>) -> End {
    let mut redraw = Some(Instant::now());
    loop {
        let due = async {
            match redraw {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            text = stream.next_text() => {
                match text {
                    Ok(Some(text)) => if let Some(end) = end_of(&text) { return end },
                    Ok(None) | Err(ClientError::Lost { .. }) => return End::Lost,
                    Err(error) => return End::Failed(error),
                }
                let soon = Instant::now() + SOON;
                redraw = Some(redraw.map_or(soon, |at| at.min(soon)));
            }
            () = due => {
                // A daemon that ends tells its readers before it stops to answer.
                if let Ok((json, document)) = ask(socket).await
                    && let Some(code) = view.show(&json, || table::status(&document, view.args.slots))
                {
                    return End::Code(code);
                }
                redraw = view.screen.is_some().then(|| Instant::now() + EVERY);
            }
        }
    }
}

fn end_of(text: &str) -> Option<End> {
    let event: Event = serde_json::from_str(text).ok()?;
    matches!(event.what, What::DaemonEnded { .. }).then_some(End::DaemonEnded(event.message))
}

/// Where it is shown.
struct View<'a> {
    args: &'a Status,
    screen: Option<Screen>,
}

impl<'a> View<'a> {
    fn new(args: &'a Status) -> Self {
        let terminal = if args.json { None } else { Terminal::stdout() };
        Self { args, screen: terminal.map(Screen::enter) }
    }

    /// An exit code where nothing can be shown any more.
    fn show(&self, json: &str, text: impl FnOnce() -> String) -> Option<u8> {
        match &self.screen {
            _ if self.args.json => console::try_print(format_args!("{}\n", json.trim_end())),
            None => console::try_print(format_args!("{}\n", text())),
            Some(screen) => screen.draw(&text()),
        }
    }
}

/// A terminal's second screen, given back at the end.
struct Screen(Terminal);

impl Screen {
    fn enter(terminal: Terminal) -> Self {
        let _ = terminal.write(ENTER);
        Self(terminal)
    }

    /// As much of the text as there is room for, in place of what was there.
    fn draw(&self, text: &str) -> Option<u8> {
        let (height, width) = self.0.size();
        let lines: Vec<&str> = text.lines().collect();
        let frame = frame(&lines, height, |line| self.0.fit(line, width));
        self.0.write(&frame).is_err().then_some(exit::DONE)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.write(LEAVE);
    }
}

/// What is written for these lines, each made to fit, and a word on how many there is no room for.
fn frame(lines: &[&str], height: usize, fit: impl Fn(&str) -> String) -> String {
    let room = height.max(2);
    let (shown, left) = match lines.len() {
        count if count <= room => (lines, 0),
        count => (&lines[..room - 1], count - (room - 1)),
    };
    let mut frame = HOME.to_owned();
    let more = (left > 0).then(|| format!("and {left} more lines"));
    let cut = shown.iter().map(|line| fit(line)).chain(more);
    for (number, line) in cut.enumerate() {
        // A newline after the last line of the screen would move it.
        let newline = if number == 0 { "" } else { "\r\n" };
        frame += &format!("{newline}{line}{CLEAR_TO_END_OF_LINE}");
    }
    frame + CLEAR_TO_END_OF_SCREEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen() {
        let lines = ["one", "a longer line", "three", "four"];
        let frame = frame(&lines, 3, |line| ::console::truncate_str(line, 8, "…").into_owned());
        let text = anstream::adapter::strip_str(&frame).to_string();
        assert_eq!(text.replace('\r', ""), "one\na longe…\nand 2 more lines");
        assert!(frame.starts_with(HOME) && frame.ends_with(CLEAR_TO_END_OF_SCREEN));
    }
}

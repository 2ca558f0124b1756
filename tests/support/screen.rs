//! A terminal of a test: a program runs on it, and what it shows can be kept as a picture.
//!
//! The picture is an SVG of text, so it can be read, searched and compared; where only numbers differ it stays as it is.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use vt100::{Cell, Color, Parser};

use super::child::OwnedChild;
use super::{deadline, left};

/// A character's width and a line's height in the picture.
const CELL: (f32, f32) = (8.4, 18.0);
/// What the picture leaves around the text.
const MARGIN: f32 = 14.0;

/// A screen on which nothing moved for this long is whole.
const QUIET: Duration = Duration::from_millis(200);

/// What a program shows, as it shows it.
pub struct Screen {
    shared: Arc<(Mutex<Shown>, Condvar)>,
    child: OwnedChild,
}

struct Shown {
    parser: Parser,
    /// As it was written, steering and all.
    bytes: Vec<u8>,
    /// How often something was written.
    writes: u64,
    ended: bool,
}

impl Screen {
    /// Runs a program on a new terminal of this size, an ordinary one unless the command's variables say otherwise.
    pub fn run(mut command: Command, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        let end = |fd: &OwnedFd| fd.try_clone().expect("an fd");
        command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(pty.slave);
        let set: Vec<_> =
            command.get_envs().filter_map(|(key, value)| value.map(|_| key.to_owned())).collect();
        for key in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "TERM"] {
            if !set.iter().any(|set| set == key) {
                command.env_remove(key);
            }
        }
        if !set.iter().any(|set| set == "TERM") {
            command.env("TERM", "xterm-256color");
        }
        let child = OwnedChild::spawn(&mut command);
        // It has our copies of the terminal's other side.
        drop(command);
        let nonzero = |number| NonZero::new(number).expect("a terminal has a size");
        let parser = Parser::new(nonzero(rows), nonzero(columns), 0);
        let shared = Arc::new((
            Mutex::new(Shown { parser, bytes: Vec::new(), writes: 0, ended: false }),
            Condvar::new(),
        ));
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || read(pty.master.into(), &theirs));
        Self { shared, child }
    }

    /// Waits until the text on the screen is as wanted and stays so for a moment, and gives the picture of that.
    #[track_caller]
    pub fn when(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = deadline();
        let mut shown = self.shared.0.lock().expect("no reader panics");
        loop {
            let (writes, text) = (shown.writes, shown.parser.screen().contents());
            let is_wanted = wanted(&text);
            if Instant::now() >= deadline || (shown.ended && !is_wanted) {
                drop(shown);
                panic!("never {what}, and at rest:\n{text}");
            }
            let patience = if is_wanted { QUIET } else { left(deadline) };
            let moved = |shown: &mut Shown| shown.writes == writes && !shown.ended;
            let waited = self.shared.1.wait_timeout_while(shown, patience, moved);
            shown = waited.expect("no reader panics").0;
            if is_wanted && shown.writes == writes {
                return svg(shown.parser.screen());
            }
        }
    }

    /// Sends the program a signal, as a key of the terminal would.
    pub fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    /// Waits until the program has ended; its exit code.
    pub fn code(mut self) -> Option<i32> {
        self.wait_for_end();
        self.child.wait(deadline())?.code()
    }

    /// Waits until the program has ended, and gives the last picture.
    pub fn at_the_end(self) -> String {
        self.wait_for_end();
        svg(self.shared.0.lock().expect("no reader panics").parser.screen())
    }

    /// Waits until the program has ended, and gives all that it wrote.
    pub fn written(self) -> String {
        self.wait_for_end();
        String::from_utf8_lossy(&self.shared.0.lock().expect("no reader panics").bytes).into_owned()
    }

    fn wait_for_end(&self) {
        let deadline = deadline();
        let shown = self.shared.0.lock().expect("no reader panics");
        let waited = self.shared.1.wait_timeout_while(shown, left(deadline), |shown| !shown.ended);
        let (shown, _) = waited.expect("no reader panics");
        assert!(shown.ended, "it does not end:\n{}", shown.parser.screen().contents());
    }
}

fn read(mut terminal: File, shared: &(Mutex<Shown>, Condvar)) {
    let mut bytes = [0; 4096];
    loop {
        // That nobody has the other side any more is told as an error.
        let length = terminal.read(&mut bytes).unwrap_or(0);
        let mut shown = shared.0.lock().expect("no reader panics");
        shown.parser.process(&bytes[..length]);
        shown.bytes.extend_from_slice(&bytes[..length]);
        shown.writes += 1;
        shown.ended = length == 0;
        shared.1.notify_all();
        if shown.ended {
            return;
        }
    }
}

/// The text of a picture, without what is left empty at its end.
pub fn text_of(picture: &str) -> String {
    let lines = picture.lines().filter_map(|line| line.strip_prefix("<text")?.split_once('>'));
    let plain = lines.map(|(_, line)| {
        let mut text = String::new();
        let mut rest = line.trim_end_matches("</text>");
        while let Some((before, after)) = rest.split_once('<') {
            text += before;
            rest = after.split_once('>').map_or("", |(_, after)| after);
        }
        (text + rest).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    });
    plain.map(|line| format!("{}\n", line.trim_end())).collect()
}

fn svg(screen: &vt100::Screen) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let used = (0..rows).rev().find(|row| !line(screen, *row, columns).is_empty()).map_or(1, |row| row + 1);
    let width = f32::from(columns) * CELL.0 + 2.0 * MARGIN;
    let height = f32::from(used) * CELL.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1b1e23\"/>\n"
    );
    for row in 0..used {
        let y = MARGIN + f32::from(row) * CELL.1 + 13.0;
        let line = line(screen, row, columns);
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"#d6d9de\" xml:space=\"preserve\">{line}</text>"
        );
    }
    svg + "</svg>\n"
}

/// A line of the screen: stretches of one style.
fn line(screen: &vt100::Screen, row: u16, columns: u16) -> String {
    let mut stretches: Vec<(String, String)> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let text = match cell.contents() {
            "" => " ",
            text => text,
        };
        let style = style(cell);
        match stretches.last_mut() {
            Some((last, stretch)) if *last == style => stretch.push_str(text),
            _ => stretches.push((style, text.to_owned())),
        }
    }
    if let Some((_, last)) = stretches.last_mut() {
        last.truncate(last.trim_end().len());
    }
    let mut line = String::new();
    for (style, text) in stretches.iter().filter(|(_, text)| !text.is_empty()) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        match style.as_str() {
            "" => line += &text,
            style => line += &format!("<tspan {style}>{text}</tspan>"),
        }
    }
    line
}

fn style(cell: &Cell) -> String {
    let colour = match cell.fgcolor() {
        Color::Idx(1 | 9) => Some("#f07178"),
        Color::Idx(2 | 10) => Some("#98c379"),
        Color::Idx(3 | 11) => Some("#e5c07b"),
        Color::Idx(4 | 12) => Some("#61afef"),
        Color::Idx(5 | 13) => Some("#c678dd"),
        Color::Idx(6 | 14) => Some("#56b6c2"),
        _ if cell.dim() => Some("#868b94"),
        _ => None,
    };
    let mut style = colour.map(|colour| format!("fill=\"{colour}\"")).unwrap_or_default();
    if cell.bold() {
        style += if style.is_empty() { "font-weight=\"bold\"" } else { " font-weight=\"bold\"" };
    }
    style
}

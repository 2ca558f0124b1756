//! What a line of our output looks like as text: for people, for the journal's stream, for programs.
//!
//! Pure. The same formats serve our own log and the output of workers, so that one stream holds one kind of line.
//! Records for the journal are made in `journal`.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::Value;

use super::form::Destination;
use super::output::{Line, Said};
use crate::config::model::LogFormat;
use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
use crate::{stamp, visible};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal: time of day, short.
    Terminal {
        /// With colours.
        colour: bool,
    },
    /// For people, in a file: with the date.
    Plain,
    /// For the journal through standard error: a level prefix, and no time, which the journal has itself.
    Journal,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// `log.format`, resolved for a destination; for records the text that stands in for them.
    pub fn choose(wanted: LogFormat, to: Destination) -> Self {
        match wanted {
            LogFormat::Json => Self::Json,
            LogFormat::Auto | LogFormat::Journal if !to.journal && !to.terminal => Self::Json,
            LogFormat::Auto | LogFormat::Human | LogFormat::Journal => match (to.journal, to.terminal) {
                (true, _) => Self::Journal,
                (false, true) => Self::Terminal { colour: to.colour },
                (false, false) => Self::Plain,
            },
        }
    }
}

/// Through what a worker said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Its channel.
    Channel,
}

impl Stream {
    /// `stdout`, `stderr` or `channel`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Channel => "channel",
        }
    }
}

/// Where a line came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The worker's pool.
    pub pool: PoolName,
    /// Its slot.
    pub slot: SlotIndex,
    /// Its generation.
    pub generation: Generation,
    /// Its number.
    pub worker: WorkerId,
    /// Its main process.
    pub pid: u32,
    /// Which output.
    pub stream: Stream,
}

/// Priorities as in `syslog(3)`.
const PRIORITIES: [&str; 8] = ["error", "error", "error", "error", "warn", "info", "info", "debug"];
pub(super) const PRIORITY_INFO: u8 = 6;

/// A line of a worker's output, newline included.
pub fn worker_line(format: Format, now: SystemTime, origin: &Origin, line: &Line) -> Vec<u8> {
    let priority = line.priority.unwrap_or(PRIORITY_INFO);
    let mut text = String::with_capacity(line.text.len() + 64);
    let Origin { pool, slot, pid, .. } = origin;
    // Writing to a String cannot fail.
    match format {
        Format::Json => text = worker_json(now, origin, line, priority),
        Format::Journal => {
            let _ = write!(text, "<{priority}>{pool}/{slot}[{pid}]: ");
            push_marked(&mut text, line);
        }
        Format::Plain => {
            let _ = write!(text, "{} {pool}/{slot}[{pid}]| ", stamp::rfc3339(now));
            push_marked(&mut text, line);
        }
        Format::Terminal { colour } => {
            let style = if colour { Style::of_slot(*slot) } else { Style::PLAIN };
            let _ = write!(text, "{} ", style.wrap(format_args!("{pool}/{slot}[{pid}]|")));
            push_marked(&mut text, line);
        }
    }
    text.push('\n');
    text.into_bytes()
}

fn worker_json(now: SystemTime, origin: &Origin, line: &Line, priority: u8) -> String {
    let mut object = Object::begun(now, PRIORITIES[usize::from(priority).min(7)], &line.text);
    object.put("pool", &origin.pool.as_str().into());
    object.put("slot", &origin.slot.0.into());
    object.put("generation", &origin.generation.0.into());
    object.put("worker", &origin.worker.0.into());
    object.put("pid", &origin.pid.into());
    object.put("stream", &origin.stream.as_str().into());
    object.put("priority", &priority.into());
    if line.truncated {
        object.put("truncated", &true.into());
    }
    if line.continuation {
        object.put("continuation", &true.into());
    }
    if let Some(Said { target, fields }) = line.said.as_deref() {
        if let Some(target) = target {
            object.put("target", &target.as_str().into());
        }
        // Apart from ours, so that a worker cannot say that it is another one.
        if !fields.is_empty() {
            let fields = fields.iter().fold(Object::new(), |mut all, (name, value)| {
                all.put(name, value);
                all
            });
            object.put_json("fields", &fields.end());
        }
    }
    object.end()
}

/// A JSON object on one line, its members in the order in which they are put.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }

    fn begun(now: SystemTime, level: &str, message: &str) -> Self {
        let mut object = Self::new();
        object.put("time", &stamp::rfc3339(now).into());
        object.put("level", &level.into());
        object.put("message", &message.into());
        object
    }

    fn put(&mut self, name: &str, value: &Value) {
        self.put_json(name, value);
    }

    /// `value` is JSON already.
    fn put_json(&mut self, name: &str, value: &dyn std::fmt::Display) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{comma}{}:{value}", Value::from(name));
    }

    fn end(self) -> String {
        visible::json(self.0 + "}")
    }
}

/// A way to show text on a terminal, and how to end it; nothing where colours are not wanted.
#[derive(Clone, Copy, Default)]
struct Style(&'static str);

impl Style {
    const PLAIN: Self = Self("");
    const DIM: Self = Self("\x1b[2m");
    /// Slots are told apart by colour; red is left to errors.
    const SLOTS: [Self; 5] =
        [Self("\x1b[36m"), Self("\x1b[32m"), Self("\x1b[34m"), Self("\x1b[35m"), Self("\x1b[33m")];

    fn of_slot(slot: SlotIndex) -> Self {
        let index = usize::try_from(slot.0).unwrap_or(0) % Self::SLOTS.len();
        Self::SLOTS[index]
    }

    fn of_level(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self("\x1b[1;31m"),
            tracing::Level::WARN => Self("\x1b[33m"),
            tracing::Level::INFO => Self("\x1b[32m"),
            _ => Self::DIM,
        }
    }

    fn wrap(self, text: impl std::fmt::Display) -> String {
        if self.0.is_empty() { text.to_string() } else { format!("{}{text}\x1b[0m", self.0) }
    }
}

fn push_marked(text: &mut String, line: &Line) {
    if line.continuation {
        text.push_str("… ");
    }
    visible::push_line(text, &line.text);
    if line.truncated {
        text.push_str(" …");
    }
    if let Some(said) = line.said.as_deref() {
        for (name, value) in &said.fields {
            text.push(' ');
            visible::push_line(text, name);
            text.push('=');
            push_value(text, value);
        }
    }
}

/// One event of our own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How bad it is.
    pub level: tracing::Level,
    /// What happened; a constant text.
    pub message: String,
    /// The values, in the order in which they were written.
    pub fields: Vec<(&'static str, Value)>,
}

impl Record {
    /// The bytes of its texts, about.
    pub fn bytes(&self) -> usize {
        let values = self.fields.iter().map(|(_, value)| 16 + value.as_str().map_or(8, str::len));
        self.message.len() + values.sum::<usize>()
    }
}

/// An event as one line for people, without level and time.
pub fn summary(record: &Record) -> String {
    let mut text = String::new();
    push_record(&mut text, record, Style::PLAIN);
    text
}

/// A line of our own log, newline included.
pub fn log_line(format: Format, now: SystemTime, record: &Record) -> Vec<u8> {
    let mut text = String::new();
    // Writing to a String cannot fail.
    match format {
        Format::Json => text = log_json(now, record),
        Format::Journal => {
            let _ = write!(text, "<{}>", priority(record.level));
            push_record(&mut text, record, Style::PLAIN);
        }
        Format::Plain => {
            let _ = write!(text, "{} {:<5} ", stamp::rfc3339(now), record.level.as_str());
            push_record(&mut text, record, Style::PLAIN);
        }
        Format::Terminal { colour } => {
            let (level, dim) =
                if colour { (Style::of_level(record.level), Style::DIM) } else { Default::default() };
            let time = dim.wrap(stamp::time_of_day(now));
            let _ = write!(text, "{time} {} ", level.wrap(format_args!("{:<5}", record.level.as_str())));
            push_record(&mut text, record, dim);
        }
    }
    text.push('\n');
    text.into_bytes()
}

fn push_record(text: &mut String, record: &Record, names: Style) {
    visible::push_line(text, &record.message);
    for (name, value) in &record.fields {
        let _ = write!(text, " {}", names.wrap(format_args!("{name}=")));
        push_value(text, value);
    }
}

/// As JSON where it needs quotes, which needs no explanation and is one line.
fn push_value(text: &mut String, value: &Value) {
    match value {
        Value::String(plain) if !needs_quotes(plain) => text.push_str(plain),
        // JSON leaves much as it is that is hidden.
        value => visible::push_line(text, &value.to_string()),
    }
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty()
        || value.contains(|c: char| c.is_whitespace() || visible::is_hidden(c) || matches!(c, '"' | '='))
}

fn log_json(now: SystemTime, record: &Record) -> String {
    const TAKEN: [&str; 3] = ["time", "level", "message"];
    let mut object = Object::begun(now, &record.level.as_str().to_ascii_lowercase(), &record.message);
    for (name, value) in record.fields.iter().filter(|(name, _)| !TAKEN.contains(name)) {
        object.put(name, value);
    }
    object.end()
}

fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => PRIORITY_INFO,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const TERMINAL: Format = Format::Terminal { colour: false };

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_001)
    }

    fn shown(format: Format, line: &Line) -> String {
        let origin = Origin {
            pool: PoolName::new("web"),
            slot: SlotIndex(1),
            generation: Generation(3),
            worker: WorkerId(7),
            pid: 4711,
            stream: Stream::Stderr,
        };
        String::from_utf8(worker_line(format, now(), &origin, line)).unwrap()
    }

    fn logged(format: Format) -> String {
        let fields = vec![
            ("pool", Value::from("web")),
            ("reason", "exited with \"1\"\n".into()),
            ("pid", 5.into()),
            ("level", "mine".into()),
        ];
        let record = Record { level: tracing::Level::WARN, message: "worker failed".into(), fields };
        String::from_utf8(log_line(format, now(), &record)).unwrap()
    }

    #[test]
    fn a_workers_line_says_where_it_came_from() {
        let line = Line { text: "hi\tthere".into(), priority: Some(3), ..Line::default() };
        assert_eq!(shown(TERMINAL, &line), "web/1[4711]| hi\tthere\n");
        assert_eq!(
            shown(Format::Terminal { colour: true }, &line),
            "\x1b[32mweb/1[4711]|\x1b[0m hi\tthere\n"
        );
        assert_eq!(shown(Format::Journal, &line), "<3>web/1[4711]: hi\tthere\n");
        assert_eq!(shown(Format::Plain, &line), "2026-01-01T00:00:00.000001Z web/1[4711]| hi\tthere\n");
        assert_eq!(
            shown(Format::Json, &line),
            concat!(
                r#"{"time":"2026-01-01T00:00:00.000001Z","level":"error","message":"hi\tthere","pool":"web","slot":1,"#,
                r#""generation":3,"worker":7,"pid":4711,"stream":"stderr","priority":3}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_record_of_a_worker_keeps_its_fields() {
        let fields = vec![
            ("pool".to_owned(), Value::from("mine")),
            ("t\x1b".to_owned(), "a b\x7f".into()),
            ("ms".to_owned(), 5.into()),
        ];
        let said = Some(Box::new(Said { target: Some("app::db".into()), fields }));
        let line = Line { text: "slow".into(), priority: Some(4), said, ..Line::default() };
        assert_eq!(shown(TERMINAL, &line), "web/1[4711]| slow pool=mine t\\u{1b}=\"a b\\u{7f}\" ms=5\n");
        let json: Value = serde_json::from_str(&shown(Format::Json, &line)).unwrap();
        assert_eq!((&json["pool"], &json["level"]), (&"web".into(), &"warn".into()));
        assert_eq!(json["target"], "app::db");
        assert_eq!(json["fields"], serde_json::json!({"pool": "mine", "t\x1b": "a b\x7f", "ms": 5}));
    }

    #[test]
    fn a_worker_cannot_steer_the_terminal_nor_break_the_line() {
        let line = Line { text: "a\x1b[2Jb\0c\u{9b}d\re".into(), truncated: true, ..Line::default() };
        assert_eq!(shown(TERMINAL, &line), "web/1[4711]| a\\u{1b}[2Jb\\u{0}c\\u{9b}d\\re …\n");
        let piece = Line { continuation: true, text: "f\ng".into(), ..Line::default() };
        assert_eq!(shown(TERMINAL, &piece), "web/1[4711]| … f\\ng\n");
        let turned = Line { text: "a\u{202e}b\u{200b}".into(), ..Line::default() };
        for format in [TERMINAL, Format::Plain, Format::Journal] {
            assert!(
                shown(format, &turned).ends_with(" a\\u{202e}b\\u{200b}\n"),
                "{}",
                shown(format, &turned)
            );
        }
        for text in ["\0", "\x1b\"\\", "\u{2028}", "\u{7f}\u{9b}2J", "\u{202e}\u{e0041}"] {
            let json = shown(Format::Json, &Line { text: text.into(), ..Line::default() });
            assert_eq!(json.matches('\n').count(), 1);
            assert!(!json.trim_end().chars().any(visible::is_hidden), "{json}");
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["message"], text);
        }
    }

    #[test]
    fn our_own_line_has_its_values_as_fields() {
        let expected = "worker failed pool=web reason=\"exited with \\\"1\\\"\\n\" pid=5 level=mine\n";
        assert_eq!(logged(TERMINAL), format!("00:00:00.000 WARN  {expected}"));
        assert_eq!(logged(Format::Journal), format!("<4>{expected}"));
        assert_eq!(logged(Format::Plain), format!("2026-01-01T00:00:00.000001Z WARN  {expected}"));
        let json: Value = serde_json::from_str(&logged(Format::Json)).unwrap();
        assert_eq!(json["level"], "warn", "a field cannot take the place of the level");
        assert_eq!(json["reason"], "exited with \"1\"\n");
        assert!(logged(Format::Json).starts_with(r#"{"time":"2026-01-01T00:00:00.000001Z","level":"warn","#));
    }
}

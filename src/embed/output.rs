//! Lines that workers write, for the program.

use std::time::SystemTime;

use crate::observe::{Line, Origin, Stream};

/// A line of a worker: of its standard output or error, or a record of its channel.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::embed::{Builder, Stream};
///
/// let builder = Builder::from_file("myapp.toml").on_output(|line| {
///     if line.stream == Stream::Stderr || line.priority.is_some_and(|level| level <= 4) {
///         println!("worker {}: {}", line.worker, line.text);
///     }
/// });
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutputLine {
    /// When it was read.
    pub time: SystemTime,
    /// The pool.
    pub pool: String,
    /// The slot, from 0.
    pub slot: u32,
    /// The generation.
    pub generation: u64,
    /// The worker's number.
    pub worker: u64,
    /// Its main process.
    pub pid: u32,
    /// Where it came from.
    pub stream: Stream,
    /// What it says, without its end; what is not UTF-8 as `\\xNN`. At most 16 KiB: a longer line comes in pieces.
    pub text: String,
    /// The level from a prefix `<N>` (`sd-daemon(3)`) or of the record, 0 (emergency) to 7 (debug).
    pub priority: Option<u8>,
    /// It was cut here, and the next piece goes on.
    pub truncated: bool,
    /// It goes on where the last piece was cut.
    pub continuation: bool,
    /// The part of the program that says so, where it is a record.
    pub target: Option<String>,
    /// What belongs to a record, in its order.
    pub fields: Vec<(String, serde_json::Value)>,
}

impl OutputLine {
    pub(super) fn new(time: SystemTime, origin: &Origin, line: &Line) -> Self {
        let said = line.said.as_deref();
        Self {
            time,
            pool: origin.pool.to_string(),
            slot: origin.slot.0,
            generation: origin.generation.0,
            worker: origin.worker.0,
            pid: origin.pid,
            stream: origin.stream,
            text: line.text.clone(),
            priority: line.priority,
            truncated: line.truncated,
            continuation: line.continuation,
            target: said.and_then(|said| said.target.clone()),
            fields: said.map(|said| said.fields.clone()).unwrap_or_default(),
        }
    }
}

/// A line as an event of `tracing`, with the target `handover::output`.
pub(super) fn trace(origin: &Origin, line: &Line) {
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(
                target: "handover::output",
                tracing::Level::$level,
                pool = %origin.pool,
                slot = origin.slot.0,
                generation = origin.generation.0,
                worker = origin.worker.0,
                pid = origin.pid,
                stream = origin.stream.as_str(),
                "{}",
                line.text
            )
        };
    }
    match line.priority {
        Some(0..=3) => event!(ERROR),
        Some(4) => event!(WARN),
        Some(7) => event!(DEBUG),
        _ => event!(INFO),
    }
}
